"""What makes a whole spec impossible before any layout is looked at."""

from __future__ import annotations

from trtllm_operator.api import Dtype
from trtllm_operator.facts import GpuPool, ModelFacts
from trtllm_operator.hardware import Gpu
from trtllm_operator.precision import Disputed, Support, Unsupported, kv_cache_support, support
from trtllm_operator.refusals import Reason, Refusal
from trtllm_operator.request import Request

_SIXTEEN_BIT = frozenset({Dtype.BFLOAT16, Dtype.FLOAT16})
_OLDEST_COMPUTE = (8, 0)


def mismatched_dtype(request: Request, model: ModelFacts) -> Refusal | None:
    """Whether the stated dtype is not the checkpoint's; 16-bit formats count as one."""
    stated, actual = request.stated_dtype, model.checkpoint_dtype
    if stated in (None, actual) or {stated, actual} <= _SIXTEEN_BIT:
        return None
    known = [name for name, dtype in model.siblings if dtype == stated]
    remedy = f"set spec.model.uri to hf://{known[0]}" if known else f"set spec.model.uri to a checkpoint in {stated}"
    return Refusal(
        Reason.DTYPE_CHECKPOINT_MISMATCH,
        f"spec.dtype is {stated} but the weights of {model.name} are {actual}, and trtllm-serve takes the dtype "
        f"from the checkpoint: {remedy}, or spec.dtype to {actual}",
    )


def too_long(request: Request, model: ModelFacts) -> Refusal | None:
    """Whether the wanted sequence length exceeds what the model was made for."""
    limit = model.max_position_embeddings
    if limit is None or request.max_seq_len <= limit:
        return None
    return Refusal(
        Reason.CONTEXT_EXCEEDS_MODEL,
        f"spec.engine.maxSeqLen is {request.max_seq_len} tokens; {model.name} was made for at most {limit}",
    )


def unsupported_by(gpu: Gpu, request: Request, model: ModelFacts) -> Refusal | None:
    """Whether TensorRT-LLM has no kernels for this GPU, or none for these weights or this KV cache on it."""
    compute = f"{gpu.product} (compute capability {gpu.compute_major}.{gpu.compute_minor})"
    if gpu.compute < _OLDEST_COMPUTE:
        return Refusal(
            Reason.GPU_ARCH_UNSUPPORTED, f"{compute}: TensorRT-LLM needs 8.0 or newer: change spec.gpus.product"
        )
    weights = weight_support(gpu, model)
    if isinstance(weights, Unsupported):
        runs = ", ".join(supported_dtypes(gpu))
        return Refusal(
            Reason.DTYPE_UNSUPPORTED_ON_GPU,
            f"{compute} cannot run the {model.checkpoint_dtype} weights of {model.name}: {weights.reason}; "
            f"it runs {runs}: change spec.gpus.product or serve another checkpoint",
        )
    cache = kv_cache_support(gpu.compute, request.kv_cache_dtype)
    if isinstance(cache, Unsupported):
        return Refusal(Reason.DTYPE_UNSUPPORTED_ON_GPU, f"{compute}: {cache.reason}: change spec.engine.kvCacheDtype")
    return None


def weight_support(gpu: Gpu, model: ModelFacts) -> Support:
    """Whether this GPU runs the checkpoint's weights; fp8 with a block has scales per block."""
    return support(gpu.compute, model.checkpoint_dtype, block=model.quantization_block is not None)


def disputed(gpu: Gpu, request: Request, model: ModelFacts) -> tuple[str, ...]:
    """Return what the documents disagree about for these weights and this KV cache on this GPU, as sentences."""
    cells = (weight_support(gpu, model), kv_cache_support(gpu.compute, request.kv_cache_dtype))
    return tuple(cell.reason for cell in cells if isinstance(cell, Disputed))


def supported_dtypes(gpu: Gpu) -> tuple[Dtype, ...]:
    """Return the weight formats TensorRT-LLM runs on this GPU."""
    formats = [dtype for dtype in Dtype if dtype != Dtype.AUTO]
    return tuple(dtype for dtype in formats if not isinstance(support(gpu.compute, dtype), Unsupported))


def budget(request: Request, pool: GpuPool) -> int | None:
    """GPUs a replica may use: spec.gpus.maxCount, and what the nodes have unless the user fixed the number."""
    fixed = request.count is not None or request.pinned
    limits = (request.max_count, None if fixed else pool.total)
    return min((limit for limit in limits if limit is not None), default=None)
