"""What would work in place of a refused spec: a layout that fits, and the dtypes that would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from trtllm_operator.api import Dtype
from trtllm_operator.candidates import nvlink_domain, smallest_first, with_experts
from trtllm_operator.examine import Subject, examine
from trtllm_operator.feasibility import supported_dtypes
from trtllm_operator.parallel import Layout
from trtllm_operator.planned import Plan, Suggestion

_SMALLER = (Dtype.FP8, Dtype.INT4, Dtype.NVFP4)


def fitting_layout(subject: Subject) -> Suggestion | None:
    """Return the first layout, smallest first, that fits when count, budget and pinned sizes are lifted."""
    free = replace(
        subject, budget=None, request=replace(subject.request, count=None, tensor=None, pipeline=None, expert=None)
    )
    for layout in _by_size(free):
        if isinstance(examine(free, layout, "Fits"), Plan):
            return Suggestion(layout=layout, gpus=layout.gpus)
    return None


def _by_size(subject: Subject) -> Iterator[Layout]:
    request = subject.request
    for tensor, stages in smallest_first(nvlink_domain(subject.pool)):
        layout = Layout(tensor=tensor, pipeline=stages, context=request.context, attention_dp=request.attention_dp)
        yield with_experts(request, subject.model, layout)


def fitting_dtypes(subject: Subject) -> tuple[Dtype, ...]:
    """Return the smaller checkpoint formats this GPU runs in which the model would fit the GPUs there are.

    Computed from the number of parameters: such a checkpoint need not exist.
    """
    return tuple(
        dtype for dtype in _SMALLER if dtype in supported_dtypes(subject.pool.gpu) and _fits_as(subject, dtype)
    )


def _fits_as(subject: Subject, dtype: Dtype) -> bool:
    model = replace(
        subject.model,
        checkpoint_dtype=dtype,
        weight_bytes=None,
        quantization_block=None,
        only_experts_quantized=False,
        kv_cache_dtype=None,
    )
    as_dtype = replace(subject, model=model, request=replace(subject.request, tensor=None, pipeline=None, expert=None))
    return any(isinstance(examine(as_dtype, layout, "Fits"), Plan) for layout in _by_size(as_dtype))
