"""What makes a layout, or a whole spec, impossible. Each check returns the reason and a sentence with the numbers."""

from __future__ import annotations

from enum import StrEnum

from trtllm_operator.api import Dtype, LLMDeploymentSpec
from trtllm_operator.facts import GpuPool, ModelFacts
from trtllm_operator.layouts import Layout
from trtllm_operator.memory import GIB, GpuMemory

Problem = tuple["Reason", str]
"""A reason and the sentence that goes with it."""


class Reason(StrEnum):
    """Why a layout or a whole spec is refused."""

    CONTEXT_EXCEEDS_MODEL = "ContextExceedsModel"
    DTYPE_CHECKPOINT_MISMATCH = "DtypeCheckpointMismatch"
    DTYPE_UNSUPPORTED_ON_GPU = "DtypeUnsupportedOnGPU"
    EXPERT_PARALLEL_INVALID = "ExpertParallelInvalid"
    EXPERT_PARALLEL_ON_DENSE = "ExpertParallelOnDense"
    EXPERTS_NOT_DIVISIBLE = "ExpertsNotDivisible"
    GPU_ARCH_UNSUPPORTED = "GPUArchUnsupported"
    GPU_UNKNOWN = "GPUUnknown"
    HEADS_NOT_DIVISIBLE = "HeadsNotDivisible"
    INSUFFICIENT_MEMORY = "InsufficientMemory"
    KV_HEADS_INDIVISIBLE = "KVHeadsIndivisible"
    MODEL_SIZE_UNKNOWN = "ModelSizeUnknown"
    MULTIPLE_NODES_UNSUPPORTED = "MultipleNodesUnsupported"
    NO_GPUS = "NoGPUs"
    NOT_ENOUGH_GPUS = "NotEnoughGPUs"
    TENSOR_PARALLEL_ACROSS_NODES = "TensorParallelAcrossNodes"
    TOO_MANY_STAGES = "TooManyStages"


DEFAULT_MAX_SEQ_LEN = 8192


def mismatched_dtype(spec: LLMDeploymentSpec, model: ModelFacts) -> Problem | None:
    """Whether the stated dtype is not the checkpoint's; 16-bit formats count as one."""
    stated, actual = spec.dtype, model.checkpoint_dtype
    sixteen_bit = {Dtype.BFLOAT16, Dtype.FLOAT16}
    if stated in (None, Dtype.AUTO, actual) or {stated, actual} <= sixteen_bit:
        return None
    known = [name for name, dtype in model.siblings if dtype == stated]
    remedy = f"set spec.model.uri to hf://{known[0]}" if known else f"set spec.model.uri to a checkpoint in {stated}"
    return (
        Reason.DTYPE_CHECKPOINT_MISMATCH,
        (
            f"spec.dtype is {stated} but the weights of {model.name} are {actual}, and trtllm-serve takes the dtype "
            f"from the checkpoint: {remedy}, or spec.dtype to {actual}"
        ),
    )


def too_long(spec: LLMDeploymentSpec, model: ModelFacts) -> Problem | None:
    """Whether the wanted sequence length exceeds what the model was made for."""
    limit, wanted = model.max_position_embeddings, wanted_length(spec, model)
    if limit is None or wanted <= limit:
        return None
    return (
        Reason.CONTEXT_EXCEEDS_MODEL,
        f"spec.engine.maxSeqLen is {wanted} tokens; {model.name} was made for at most {limit}",
    )


def wanted_length(spec: LLMDeploymentSpec, model: ModelFacts) -> int:
    """Return the longest sequence to serve, in tokens."""
    if spec.engine is not None and spec.engine.max_seq_len is not None:
        return spec.engine.max_seq_len
    return min(DEFAULT_MAX_SEQ_LEN, model.max_position_embeddings or DEFAULT_MAX_SEQ_LEN)


def unsupported_by(pool: GpuPool, model: ModelFacts) -> Problem | None:
    """Whether TensorRT-LLM has no kernels for this GPU, or none for these weights on it."""
    gpu, dtype = pool.gpu, model.checkpoint_dtype
    compute = (gpu.compute_major, gpu.compute_minor)
    if compute < (8, 0):
        return (
            Reason.GPU_ARCH_UNSUPPORTED,
            (
                f"{gpu.product} has compute capability {gpu.compute_major}.{gpu.compute_minor}; "
                "TensorRT-LLM needs 8.0 or newer: change spec.gpus.product"
            ),
        )
    needed = {Dtype.FP8: (8, 9), Dtype.NVFP4: (10, 0), Dtype.MXFP4: (9, 0)}.get(dtype, (8, 0))
    if compute >= needed and not (dtype == Dtype.INT4 and compute >= (12, 0)):
        return None
    return (
        Reason.DTYPE_UNSUPPORTED_ON_GPU,
        (
            f"{gpu.product} (compute capability {gpu.compute_major}.{gpu.compute_minor}) cannot run {dtype} weights, "
            f"which need {needed[0]}.{needed[1]}: change spec.gpus.product or serve another checkpoint of {model.name}"
        ),
    )


def count_problem(spec: LLMDeploymentSpec, pool: GpuPool, layout: Layout, budget: int | None) -> Problem | None:
    """Whether the layout has too many GPUs for the pin, the budget or one node."""
    count = spec.gpus.count if spec.gpus else None
    if count is not None and layout.gpus != count:
        return (
            Reason.NOT_ENOUGH_GPUS,
            f"TP={layout.tensor} x PP={layout.pipeline} is {layout.gpus} GPUs, not {count}",
        )
    if budget is not None and layout.gpus > budget:
        return Reason.NOT_ENOUGH_GPUS, f"needs {layout.gpus} GPUs, at most {budget} may be used"
    if layout.tensor > pool.gpus_per_node:
        return (
            Reason.TENSOR_PARALLEL_ACROSS_NODES,
            f"TP={layout.tensor} exceeds the {pool.gpus_per_node} GPUs of one node",
        )
    if layout.gpus > pool.gpus_per_node:
        return (
            Reason.MULTIPLE_NODES_UNSUPPORTED,
            (
                f"needs {layout.gpus} GPUs over several nodes of {pool.gpus_per_node}; "
                "a replica is one pod in this release"
            ),
        )
    return None


def divisibility_problem(model: ModelFacts, layout: Layout) -> Problem | None:
    """Whether heads or layers cannot be shared out (attention.py and mapping.py of TensorRT-LLM)."""
    tensor = layout.tensor
    if model.attention_heads is not None and model.attention_heads % tensor:
        return (
            Reason.HEADS_NOT_DIVISIBLE,
            f"{model.attention_heads} attention heads are not divisible by TP={tensor}",
        )
    heads = model.kv_heads
    if heads is not None and (heads % tensor if heads >= tensor else tensor % heads):
        return Reason.KV_HEADS_INDIVISIBLE, f"{heads} key-value heads and TP={tensor} do not divide"
    if model.layers is not None and layout.pipeline > model.layers:
        return Reason.TOO_MANY_STAGES, f"{model.layers} layers cannot fill {layout.pipeline} stages"
    return None


def expert_size(spec: LLMDeploymentSpec, model: ModelFacts, tensor: int) -> int:
    """Return the expert parallel size: the pinned one, else the widest legal one."""
    if spec.parallelism is not None and spec.parallelism.expert is not None:
        return spec.parallelism.expert
    if model.experts is None:
        return 1
    experts = model.experts
    return max(size for size in range(1, tensor + 1) if tensor % size == 0 and experts % size == 0)


def expert_problem(model: ModelFacts, tensor: int, expert: int) -> Problem | None:
    """Whether the experts cannot be shared out: moe_tp x moe_ep = tp."""
    if model.experts is None:
        if expert == 1:
            return None
        return (
            Reason.EXPERT_PARALLEL_ON_DENSE,
            f"{model.name} has no experts; spec.parallelism.expert is {expert}",
        )
    if tensor % expert:
        return Reason.EXPERT_PARALLEL_INVALID, f"EP={expert} does not divide TP={tensor}"
    if model.experts % expert:
        return Reason.EXPERTS_NOT_DIVISIBLE, f"{model.experts} experts are not divisible by EP={expert}"
    return None


def memory_problem(memory: GpuMemory, length: int) -> str | None:
    """Whether one sequence of ``length`` tokens does not fit beside weights and overhead."""
    use = f"weights {gib(memory.weights)} + overhead {gib(memory.overhead)} of {gib(memory.capacity)} GiB per GPU"
    if memory.kv_tokens is None:
        reserve = memory.capacity // 5
        if memory.weights + memory.overhead + reserve <= memory.capacity:
            return None
        return f"{use} leave less than the {gib(reserve)} GiB kept for the KV cache of an unknown shape"
    if memory.kv_tokens >= length:
        return None
    return f"{use} leave room for {memory.kv_tokens} KV tokens, {length} needed"


def gib(size: int) -> str:
    """Return bytes as GiB with one decimal."""
    return f"{size / GIB:.1f}"
