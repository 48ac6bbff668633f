"""Whether one layout serves one model on one pool: hard constraints first, then memory."""

from __future__ import annotations

from dataclasses import dataclass

from trtllm_operator.constraints import Case, first_refusal
from trtllm_operator.facts import GpuPool, ModelFacts
from trtllm_operator.hardware import Gpu
from trtllm_operator.memory import GpuMemory, Load, gib, stage_memory
from trtllm_operator.parallel import Layout
from trtllm_operator.planned import Estimate, Fit, Plan, Rejection, Stage
from trtllm_operator.refusals import Reason
from trtllm_operator.request import MAX_BATCH_SIZE, Request

_UNCOUNTED_BATCH = 256
_COARSE_KV_SHARE = 5
"""A fifth of the GPU is kept for the KV cache of a model whose shape is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What every layout is examined for."""

    plan_id: str
    request: Request
    model: ModelFacts
    pool: GpuPool
    budget: int | None


def examine(subject: Subject, layout: Layout, verdict: Fit) -> Plan | Rejection:
    """Check a layout against the hard constraints and the memory estimate that goes with the verdict."""
    refusal = first_refusal(
        Case(request=subject.request, model=subject.model, pool=subject.pool, layout=layout, budget=subject.budget)
    )
    if refusal is not None:
        return Rejection(layout=layout, reason=refusal.reason, detail=refusal.sentence)
    made = place(subject, layout, verdict, gpus=(subject.pool.gpu,) * layout.pipeline)
    shortage = memory_shortage(subject.request, made)
    if shortage is None:
        return made
    return Rejection(layout=layout, reason=Reason.INSUFFICIENT_MEMORY, detail=shortage, memory=made.memory)


def place(subject: Subject, layout: Layout, verdict: Fit, gpus: tuple[Gpu, ...]) -> Plan:
    """Work out what each stage of a layout holds, whether it fits or not. ``gpus`` has one product per stage."""
    request, model, pool = subject.request, subject.model, subject.pool
    stages = _stages(model, layout, request.load(optimistic=verdict == "Tight"), gpus)
    gpus_per_pod, nodes = pods(layout, pool.gpus_per_node)
    return Plan(
        id=subject.plan_id,
        model=model,
        pool=pool,
        layout=layout,
        verdict=verdict,
        estimate=estimate(model),
        stages=stages,
        nodes=nodes,
        gpus_per_pod=gpus_per_pod,
        max_seq_len=request.max_seq_len,
        max_batch_size=_batch_size(request, model, stages),
        max_num_tokens=request.num_tokens(optimistic=verdict == "Tight"),
        kv_cache_dtype=request.kv_cache_dtype,
        kv_fraction=request.kv_fraction,
        typical_tokens=request.typical_tokens,
        product_named=request.product is not None,
    )


def _stages(model: ModelFacts, layout: Layout, load: Load, gpus: tuple[Gpu, ...]) -> tuple[Stage, ...]:
    shares = layout.stage_layers(model.layers or layout.pipeline)
    alike: dict[tuple[int, str, bool, bool], GpuMemory | None] = {}
    stages = []
    for index, (layers, gpu) in enumerate(zip(shares, gpus, strict=True)):
        place_in_line = (layers, gpu.product, index == 0, index == len(shares) - 1)
        if place_in_line not in alike:
            known = model.parameters is not None
            alike[place_in_line] = stage_memory(model, gpu.memory_bytes, layout, index, load) if known else None
        memory = alike[place_in_line]
        stages.append(Stage(index=index, first_layer=sum(shares[:index]), layers=layers, gpu=gpu, memory=memory))
    return tuple(stages)


def pods(layout: Layout, gpus_per_node: int) -> tuple[int, int]:
    """Return GPUs per pod and pods per replica: as few pods as nodes allow, each with whole tensor-parallel groups."""
    if layout.gpus <= gpus_per_node:
        return layout.gpus, 1
    group = layout.tensor * layout.context
    if group >= gpus_per_node:
        per_pod = next(size for size in range(gpus_per_node, 0, -1) if group % size == 0)
        return per_pod, layout.gpus // per_pod
    stages_per_node = gpus_per_node // group
    stages = next(count for count in range(stages_per_node, 0, -1) if layout.pipeline % count == 0)
    return stages * group, layout.pipeline // stages


def estimate(model: ModelFacts) -> Estimate:
    """How much the memory figures of this model rest on."""
    if model.parameters is None:
        return Estimate.NONE
    shaped = model.layers is not None and (
        model.latent_attention is not None or (model.kv_heads is not None and model.head_dim is not None)
    )
    if not shaped:
        return Estimate.COARSE
    return Estimate.CATALOGUE if model.weight_bytes is None else Estimate.EXACT


def memory_shortage(request: Request, made: Plan) -> str | None:
    """Return why the wanted tokens do not fit beside weights and overhead on some stage, or None."""
    for stage in made.stages:
        shortage = stage.memory and stage_shortage(request, made.layout, stage.memory)
        if shortage:
            return shortage if len(made.stages) == 1 else f"stage {stage.index + 1} of {len(made.stages)}: {shortage}"
    return None


def stage_shortage(request: Request, layout: Layout, memory: GpuMemory) -> str | None:
    """Return why the wanted tokens do not fit one GPU, or None."""
    use = f"weights {gib(memory.weights)} + overhead {gib(memory.overhead)} of {gib(memory.capacity)} GiB per GPU"
    if memory.free < 0:
        return f"{use} are {gib(-memory.free)} GiB too many"
    if memory.kv_tokens is None:
        reserve = memory.capacity // _COARSE_KV_SHARE
        if memory.free >= reserve:
            return None
        return f"{use} leave less than the {gib(reserve)} GiB kept for the KV cache of an unknown shape"
    if memory.kv_tokens < request.max_seq_len:
        return f"{use} leave room for {memory.kv_tokens} KV tokens, {request.max_seq_len} needed for one sequence"
    held = memory.kv_tokens * layout.requests_apart
    if held < request.needed_tokens:
        return (
            f"{use} leave room for {held} KV tokens, {request.needed_tokens} needed for spec.workload.concurrency of "
            f"{request.concurrency} sequences of {request.typical_tokens}"
        )
    return None


def _batch_size(request: Request, model: ModelFacts, stages: tuple[Stage, ...]) -> int:
    """Sequences of typical length that fit one rank's KV cache, rounded up to a power of two."""
    if request.max_batch_size is not None:
        return request.max_batch_size
    if model.state_space is not None:
        return request.state_slots
    held = [stage.memory.kv_tokens for stage in stages if stage.memory is not None]
    counted = [tokens for tokens in held if tokens is not None]
    sequences = min(counted) // request.typical_tokens if counted else _UNCOUNTED_BATCH
    return min(MAX_BATCH_SIZE, 1 << max(0, sequences - 1).bit_length())
