"""From a spec and facts to tensor, pipeline and expert parallelism, or to a refusal that names the number that failed.

The order of preference is the guide's decision tree over the weights at the serving dtype (decimal GB, made for GPUs of
80 GB); every candidate is then checked against the hard constraints of TensorRT-LLM and the memory estimate.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from trtllm_operator.api import Dtype, LLMDeploymentSpec
from trtllm_operator.api_status import PlanStatus
from trtllm_operator.constraints import (
    Reason,
    count_problem,
    divisibility_problem,
    expert_problem,
    expert_size,
    gib,
    memory_problem,
    mismatched_dtype,
    too_long,
    unsupported_by,
    wanted_length,
)
from trtllm_operator.facts import Facts, GpuPool, ModelFacts, UnknownModel
from trtllm_operator.hardware import find_gpu
from trtllm_operator.layouts import Layout, layouts, nvlink_domain, rung
from trtllm_operator.memory import GpuMemory, gpu_memory

PLANNER_VERSION = "1"
DEFAULT_GPUS_PER_NODE = 8

Fit = Literal["Fits", "Tight"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A layout that was looked at and not chosen; ``reason`` is a Reason, or what an earlier release called it."""

    tensor: int
    pipeline: int
    reason: str
    detail: str

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.tensor * self.pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A layout that fits, what it is estimated to use, and how it was found. One replica is one pod."""

    id: str
    model: ModelFacts
    pool: GpuPool
    tensor: int
    pipeline: int
    expert: int
    verdict: Fit
    memory: GpuMemory
    max_seq_len: int
    because: tuple[str, ...]
    rejected: tuple[Rejection, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def gpus(self) -> int:
        """GPUs of one replica, which is what its pod requests."""
        return self.tensor * self.pipeline

    @property
    def max_concurrent_sequences(self) -> int | None:
        """Sequences of the maximum length the KV cache is estimated to hold at once."""
        return None if self.memory.kv_tokens is None else self.memory.kv_tokens // self.max_seq_len

    @property
    def summary(self) -> str:
        """The plan in one sentence that fits ``kubectl get -o wide``."""
        layout = f"TP={self.tensor}" + (f" PP={self.pipeline}" if self.pipeline > 1 else "")
        layout += f" EP={self.expert}" if self.expert > 1 else ""
        gpus = "1 GPU" if self.gpus == 1 else f"{self.gpus} GPUs"
        room = self.memory.kv_tokens
        kv = "" if room is None else f", room for {room} KV tokens"
        return (
            f"{layout} on {gpus} of one node ({self.pool.gpu.product}): "
            f"{gib(self.memory.weights)} GiB of weights per GPU{kv}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Infeasible:
    """No layout serves this spec; ``message`` names the number that failed and the field to change."""

    reason: Reason
    message: str
    model: ModelFacts | None = None
    rejected: tuple[Rejection, ...] = ()


def plan(spec: LLMDeploymentSpec, facts: Facts, current: PlanStatus | None = None) -> Plan | Infeasible:
    """Choose the layout of one replica.

    ``current`` is the plan in force: it is kept while it is still valid for the spec, so that a node that reboots or a
    new planner never re-shards a healthy model.
    """
    if isinstance(facts.model, UnknownModel):
        return Infeasible(
            reason=Reason.MODEL_SIZE_UNKNOWN,
            message=f"the size of {facts.model.name} is unknown: it is not in the catalogue and "
            "spec.model.shape.parameters is not set",
        )
    model = facts.model
    problem = mismatched_dtype(spec, model) or too_long(spec, model)
    if problem is not None:
        return Infeasible(reason=problem[0], message=problem[1], model=model)
    if current is not None and (kept := _keep(spec, model, facts, current)) is not None:
        return kept
    if not facts.pools:
        return _no_pool(facts, model)
    outcomes = [_plan_on(spec, model, pool) for pool in facts.pools]
    plans = [outcome for outcome in outcomes if isinstance(outcome, Plan)]
    if plans:
        return min(plans, key=lambda found: (found.verdict == "Tight", found.gpus, found.pool.gpu.product))
    refusals = [outcome for outcome in outcomes if isinstance(outcome, Infeasible)]
    return max(refusals, key=lambda refused: refused.reason == Reason.INSUFFICIENT_MEMORY)


def plan_id(spec: LLMDeploymentSpec, model: ModelFacts, product: str) -> str:
    """Return the digest of everything the layout depends on; equal on the command line and in the cluster."""
    inputs = {
        "model": [
            model.name,
            model.parameters,
            model.checkpoint_dtype,
            model.layers,
            model.attention_heads,
            model.kv_heads,
        ],
        "gpus": spec.gpus.model_dump(mode="json", exclude_none=True) if spec.gpus else {},
        "parallelism": spec.parallelism.model_dump(mode="json", exclude_none=True) if spec.parallelism else {},
        "maxSeqLen": wanted_length(spec, model),
        "product": product,
    }
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def _no_pool(facts: Facts, model: ModelFacts) -> Infeasible:
    if facts.unknown_gpus:
        unknown = facts.unknown_gpus[0]
        near = f"; near names: {', '.join(unknown.near)}" if unknown.near else ""
        return Infeasible(
            reason=Reason.GPU_UNKNOWN,
            message=f"the memory of GPU product {unknown.product} is unknown{near}; "
            "correct spec.gpus.product or set spec.gpus.memory",
            model=model,
        )
    return Infeasible(
        reason=Reason.NO_GPUS,
        message="0 nodes carry the label nvidia.com/gpu.product and nvidia.com/gpu capacity; "
        "install GPU feature discovery or set spec.gpus.product",
        model=model,
    )


def _keep(spec: LLMDeploymentSpec, model: ModelFacts, facts: Facts, current: PlanStatus) -> Plan | None:
    """Return the plan in force when it was made from these very inputs and still passes every check."""
    if current.id != plan_id(spec, model, current.gpu_product):
        return None
    pool = next((pool for pool in facts.pools if pool.gpu.product == current.gpu_product), None)
    if pool is None:
        gpu = find_gpu(current.gpu_product)
        if gpu is None:
            return None
        per_node = (spec.gpus and spec.gpus.per_node) or DEFAULT_GPUS_PER_NODE
        pool = GpuPool(gpu=gpu, gpus_per_node=max(per_node, current.gpus_per_pod))
    layout = Layout(tensor=current.tensor, pipeline=current.pipeline, origin="plan in force")
    checked = _check(spec, model, pool, layout, current.verdict, budget=None)
    if not isinstance(checked, Plan):
        return None
    rejected = tuple(
        Rejection(tensor=row.tensor, pipeline=row.pipeline, reason=row.reason, detail=row.detail)
        for row in current.rejected
    )
    return replace(checked, because=current.because, rejected=rejected, warnings=current.warnings)


def _plan_on(spec: LLMDeploymentSpec, model: ModelFacts, pool: GpuPool) -> Plan | Infeasible:
    problem = unsupported_by(pool, model)
    if problem is not None:
        return Infeasible(reason=problem[0], message=problem[1], model=model)
    candidates = tuple(layouts(spec, model, pool))
    rejected: list[Rejection] = []
    for verdict in ("Fits", "Tight"):
        rejected = []
        for layout in candidates:
            checked = _check(spec, model, pool, layout, verdict, budget=_budget(spec, pool))
            if isinstance(checked, Plan):
                return replace(
                    checked,
                    because=_because(model, layout, rejected),
                    rejected=tuple(rejected[:8]),
                    warnings=tuple(_warnings(spec, checked, layout)),
                )
            rejected.append(checked)
    return _refuse(spec, model, pool, rejected)


def _budget(spec: LLMDeploymentSpec, pool: GpuPool) -> int | None:
    """GPUs the planner may choose from; None when the user pinned the count or nobody knows."""
    if spec.gpus is not None and spec.gpus.count is not None:
        return None
    most = spec.gpus.max_count if spec.gpus else None
    return min((limit for limit in (most, pool.total) if limit is not None), default=None)


def _check(
    spec: LLMDeploymentSpec,
    model: ModelFacts,
    pool: GpuPool,
    layout: Layout,
    verdict: Fit,
    *,
    budget: int | None,
) -> Plan | Rejection:
    expert = expert_size(spec, model, layout.tensor)
    problem = (
        count_problem(spec, pool, layout, budget)
        or divisibility_problem(model, layout)
        or expert_problem(model, layout.tensor, expert)
    )
    if problem is not None:
        return Rejection(tensor=layout.tensor, pipeline=layout.pipeline, reason=problem[0], detail=problem[1])
    memory = gpu_memory(model, pool.gpu.memory_bytes, layout.tensor, layout.pipeline, verdict=verdict)
    length = wanted_length(spec, model)
    shortage = memory_problem(memory, length)
    if shortage is not None:
        return Rejection(
            tensor=layout.tensor, pipeline=layout.pipeline, reason=Reason.INSUFFICIENT_MEMORY, detail=shortage
        )
    return Plan(
        id=plan_id(spec, model, pool.gpu.product),
        model=model,
        pool=pool,
        tensor=layout.tensor,
        pipeline=layout.pipeline,
        expert=expert,
        verdict=verdict,
        memory=memory,
        max_seq_len=length,
        because=(),
    )


def _because(model: ModelFacts, layout: Layout, rejected: list[Rejection]) -> tuple[str, ...]:
    steps = [f"guide: {rung(model)[1]}"]
    steps += [f"TP={no.tensor} PP={no.pipeline} rejected: {no.detail}" for no in rejected[:8]]
    steps.append(f"TP={layout.tensor} PP={layout.pipeline} chosen ({layout.origin})")
    return tuple(steps)


def _warnings(spec: LLMDeploymentSpec, made: Plan, layout: Layout) -> Iterator[str]:
    if made.verdict == "Tight":
        yield "MemoryTight: fits only with the optimistic estimate of the overhead"
    if made.model.layers is None or made.model.kv_heads is None:
        yield "CoarseEstimate: only the number of parameters is known; set spec.model.shape for an exact plan"
    wanted, _ = rung(made.model)
    if (
        layout.origin != "guide"
        and wanted == ((8, 2),)
        and not spec.parallelism
        and not (spec.gpus and spec.gpus.count)
    ):
        yield f"TreeDowngraded: the guide wants 16 GPUs; {made.gpus} fit by the memory estimate"
    if made.tensor > 1 and nvlink_domain(spec, made.pool) < made.tensor:
        yield f"PCIeTensorParallel: TP={made.tensor} over PCIe is slow; the guide wants a pipeline"
    total = made.pool.total
    if total is not None and total < made.gpus:
        yield f"NotEnoughGPUs: a replica needs {made.gpus} GPUs, the nodes have {total}"


def _refuse(spec: LLMDeploymentSpec, model: ModelFacts, pool: GpuPool, rejected: list[Rejection]) -> Infeasible:
    short = [no for no in rejected if no.reason == Reason.INSUFFICIENT_MEMORY]
    worst = max(short, key=lambda no: no.gpus) if short else rejected[0]
    layout = f"TP={worst.tensor} PP={worst.pipeline}"
    reason = Reason(worst.reason)
    return Infeasible(
        reason=reason,
        message=f"{model.name} in {model.checkpoint_dtype} on {pool.gpu.product}, {layout}: {worst.detail}; "
        + _remedy(spec, model, pool, reason),
        model=model,
        rejected=tuple(rejected[:8]),
    )


def _remedy(spec: LLMDeploymentSpec, model: ModelFacts, pool: GpuPool, reason: Reason) -> str:
    free = spec.model_copy(update={"gpus": None, "parallelism": None})
    sizes = [1, 2, 4, 8] if nvlink_domain(spec, pool) > 1 else [1]
    options = sorted(((t, p) for t in sizes for p in (1, 2, 4, 8)), key=lambda pair: (pair[0] * pair[1], -pair[0]))
    for tensor, pipeline in options:
        layout = Layout(tensor=tensor, pipeline=pipeline, origin="remedy")
        if isinstance(_check(free, model, pool, layout, "Fits", budget=None), Plan):
            pinned = spec.parallelism is not None
            first = f"spec.parallelism.tensor to {tensor}, pipeline to {pipeline} and " if pinned else ""
            smallest = f"the smallest layout that fits is TP={tensor} PP={pipeline}"
            return f"{smallest}: set {first}spec.gpus.count to {layout.gpus}"
    if reason == Reason.INSUFFICIENT_MEMORY:
        smaller = [name for name, dtype in model.siblings if dtype in (Dtype.FP8, Dtype.NVFP4)]
        also = f" such as hf://{smaller[0]}" if smaller else ""
        return f"use GPUs with more memory (spec.gpus.product) or a smaller checkpoint{also}"
    return "change spec.gpus or spec.parallelism"
