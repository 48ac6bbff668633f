"""What makes a layout impossible for a model on a pool: one small check each, every refusal with its numbers.

The limits are those of TensorRT-LLM (mapping.py, attention.py, the linear layers) and of the nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trtllm_operator.api import Dtype
from trtllm_operator.candidates import nvlink_domain
from trtllm_operator.facts import GpuPool, ModelFacts
from trtllm_operator.hardware import Partition
from trtllm_operator.parallel import Layout
from trtllm_operator.refusals import Reason, Refusal
from trtllm_operator.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One layout under examination. ``budget`` is the most GPUs a replica may use, None when nobody limits it."""

    request: Request
    model: ModelFacts
    pool: GpuPool
    layout: Layout
    budget: int | None


Check = Callable[[Case], Refusal | None]


def first_refusal(case: Case) -> Refusal | None:
    """Return the first hard constraint the layout breaks."""
    return next((found for check in CHECKS if (found := check(case)) is not None), None)


def partitioned(case: Case) -> Refusal | None:
    """Whether several GPUs are wanted of slices or shares of one: MIG devices and time-sliced replicas have no NCCL."""
    gpu = case.pool.gpu
    if case.layout.gpus == 1 or gpu.partition is Partition.WHOLE:
        return None
    if gpu.partition is Partition.MIG:
        return Refusal(
            Reason.PARTITIONED_GPU,
            f"{case.layout} needs {case.layout.gpus} GPUs that talk to each other, and {gpu.product} is a MIG slice: "
            "set spec.gpus.count to 1 or spec.gpus.product to a whole GPU",
        )
    return Refusal(
        Reason.SHARED_GPU,
        f"{case.layout} needs {case.layout.gpus} GPUs of its own, and {gpu.product} is time-sliced: "
        "set spec.gpus.count to 1 or spec.gpus.product to a GPU that is not shared",
    )


def counted(case: Case) -> Refusal | None:
    """Whether the layout is not the pinned count, or beyond the budget."""
    layout, count = case.layout, case.request.count
    if count is not None and layout.gpus != count:
        return Refusal(Reason.NOT_ENOUGH_GPUS, f"{layout} is {layout.gpus} GPUs, and spec.gpus.count is {count}")
    if case.budget is not None and layout.gpus > case.budget:
        return Refusal(Reason.NOT_ENOUGH_GPUS, f"needs {layout.gpus} GPUs, at most {case.budget} may be used")
    return None


def tensor_within_nvlink(case: Case) -> Refusal | None:
    """Whether tensor parallelism would cross from one node to another without NVLink between them."""
    tensor, request, pool = case.layout.tensor * case.layout.context, case.request, case.pool
    reach = max(pool.gpus_per_node, nvlink_domain(pool))
    if tensor <= reach or request.allow_tensor_across_nodes:
        return None
    return Refusal(
        Reason.TENSOR_PARALLEL_ACROSS_NODES,
        f"TP={tensor} exceeds the {reach} GPUs that NVLink or one node joins; "
        "use pipeline stages, or set spec.parallelism.allowTensorAcrossNodes",
    )


def heads_divide(case: Case) -> Refusal | None:
    """Attention heads % (tp x cp), unless every rank computes whole attention for its own requests."""
    heads, layout = case.model.attention_heads, case.layout
    ranks = layout.context * (1 if layout.attention_dp else layout.tensor)
    if heads is None or heads % ranks == 0:
        return None
    with_context = f" x CP={layout.context}" if layout.context > 1 else ""
    return Refusal(
        Reason.HEADS_NOT_DIVISIBLE, f"{heads} attention heads are not divisible by TP={layout.tensor}{with_context}"
    )


def key_value_heads_divide(case: Case) -> Refusal | None:
    """Key-value heads are shared out evenly, or each is repeated evenly; latent attention has none to share."""
    heads, layout = case.model.kv_heads, case.layout
    if heads is None or layout.attention_dp or case.model.latent_attention is not None:
        return None
    if (heads % layout.tensor if heads >= layout.tensor else layout.tensor % heads) == 0:
        return None
    return Refusal(
        Reason.KV_HEADS_INDIVISIBLE,
        f"{heads} key-value heads can neither be shared out nor repeated evenly over TP={layout.tensor}",
    )


def state_heads_divide(case: Case) -> Refusal | None:
    """Heads and channels of recurrent layers % tp."""
    state, layout = case.model.state_space, case.layout
    if state is None or layout.attention_dp:
        return None
    for count, what in ((state.heads, "recurrent heads"), (state.conv_dim, "convolution channels")):
        if count % layout.tensor:
            return Refusal(Reason.HEADS_NOT_DIVISIBLE, f"{count} {what} are not divisible by TP={layout.tensor}")
    return None


def enough_layers(case: Case) -> Refusal | None:
    """Each stage has at least one layer."""
    layers, stages = case.model.layers, case.layout.pipeline
    if layers is None or stages <= layers:
        return None
    return Refusal(Reason.TOO_MANY_STAGES, f"{layers} layers cannot fill PP={stages} stages")


def experts_divide(case: Case) -> Refusal | None:
    """moe_tp x moe_ep = tp, and every rank has equally many experts."""
    experts, layout = case.model.experts, case.layout
    if experts is None:
        if layout.expert == 1:
            return None
        return Refusal(
            Reason.EXPERT_PARALLEL_ON_DENSE,
            f"{case.model.name} has 0 experts; remove spec.parallelism.expert, which is {layout.expert}",
        )
    if layout.tensor % layout.expert:
        return Refusal(
            Reason.EXPERT_PARALLEL_INVALID,
            f"EP={layout.expert} does not divide TP={layout.tensor}; spec.parallelism.expert must",
        )
    if experts.count % layout.expert:
        return Refusal(
            Reason.EXPERTS_NOT_DIVISIBLE,
            f"{experts.count} experts are not divisible by EP={layout.expert}; change spec.parallelism.expert",
        )
    return None


def intermediate_divides(case: Case) -> Refusal | None:
    """Feed-forward width % tp, and that of an expert % moe_tp."""
    model, layout = case.model, case.layout
    width = model.intermediate_size
    if width is not None and width % layout.tensor:
        return Refusal(
            Reason.INTERMEDIATE_INDIVISIBLE, f"intermediate size {width} is not divisible by TP={layout.tensor}"
        )
    expert_width = model.experts.intermediate_size if model.experts else None
    if expert_width is not None and expert_width % layout.expert_tensor:
        return Refusal(
            Reason.MOE_INTERMEDIATE_INDIVISIBLE,
            f"intermediate size {expert_width} of an expert is not divisible by {layout.expert_tensor}, "
            f"which is TP={layout.tensor} / EP={layout.expert}",
        )
    return None


def blocks_divide(case: Case) -> Refusal | None:
    """Each shard of a quantised layer is a multiple of the block that shares a scale.

    Not so for mxfp4, whose shards are padded: gpt-oss is served by others with TP=8, which is 360 over blocks of 32.
    """
    model, layout = case.model, case.layout
    block = model.quantization_block
    if block is None or model.checkpoint_dtype in (Dtype.BFLOAT16, Dtype.FLOAT16, Dtype.MXFP4):
        return None
    shards = [(model.experts.intermediate_size, layout.expert_tensor, "an expert")] if model.experts else []
    if not model.only_experts_quantized:
        shards.append((model.intermediate_size, 1 if layout.attention_dp else layout.tensor, "a layer"))
    for width, ways, what in shards:
        if width is not None and ways > 1 and (width // ways) % block:
            return Refusal(
                Reason.QUANT_BLOCK_INDIVISIBLE,
                f"intermediate size {width} of {what} over {ways} GPUs is {width // ways}, not a multiple of the "
                f"quantisation block of {block}; use a smaller TP or a larger EP",
            )
    return None


CHECKS: tuple[Check, ...] = (
    partitioned,
    counted,
    tensor_within_nvlink,
    heads_divide,
    key_value_heads_divide,
    state_heads_divide,
    enough_layers,
    experts_divide,
    intermediate_divides,
    blocks_divide,
)
"""Cheapest first; the first one that fails is the one users read."""
