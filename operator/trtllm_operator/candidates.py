"""Which layouts to look at, in order of preference.

The guide's decision tree over the weights at the serving dtype (decimal GB, made for GPUs of 80 GB), the smallest
layouts first, or what the user pinned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from trtllm_operator.api import ParallelismMode, ParallelismPolicy
from trtllm_operator.facts import GpuPool, ModelFacts
from trtllm_operator.memory import weight_bytes
from trtllm_operator.parallel import Layout
from trtllm_operator.request import Request

_SINGLE_GPU_GB, _TWO_OR_FOUR_GPUS_GB, _ONE_NODE_GB = 20, 80, 320
_SIZES = (1, 2, 4, 8, 16)
_STAGES = (2, 3, 4, 5, 6, 7, 8)

Sizes = tuple[int, int]
"""Tensor and pipeline parallel sizes."""


class Origin(StrEnum):
    """Why a layout was looked at."""

    GUIDE = "guide"
    MINIMAL = "smallest first"
    WIDER = "wider tensor parallelism"
    FEWER = "fewer GPUs"
    STAGES = "more stages"
    COUNT = "spec.gpus.count"
    PINNED = "pinned by spec.parallelism"
    IN_FORCE = "plan in force"
    REMEDY = "remedy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A layout to check, and why it was looked at."""

    layout: Layout
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A rung of the guide's tree: its layouts, in order, and its rule in words."""

    sizes: tuple[Sizes, ...]
    rule: str


def rung(model: ModelFacts) -> Rung:
    """Return the guide's layouts for this size. Thresholds are decimal GB."""
    size = weight_bytes(model) / 1e9
    if size < _SINGLE_GPU_GB:
        return Rung(sizes=((1, 1),), rule=f"{size:.1f} GB of weights is under 20 GB: a single GPU")
    if size < _TWO_OR_FOUR_GPUS_GB:
        return Rung(sizes=((2, 1), (4, 1)), rule=f"{size:.1f} GB of weights is under 80 GB: TP=2 or TP=4 in one node")
    if size < _ONE_NODE_GB:
        rule = f"{size:.1f} GB of weights is under 320 GB: TP=4 or TP=8 in one node over NVLink"
        return Rung(sizes=((4, 1), (8, 1)), rule=rule)
    rule = f"{size:.1f} GB of weights is 320 GB or more: TP=8 with PP=2 over two nodes"
    return Rung(sizes=((8, 2),), rule=rule)


def nvlink_domain(pool: GpuPool) -> int:
    """GPUs that reach each other at NVLink speed; 1 on PCIe. Rack-scale systems reach beyond one node."""
    domain = pool.gpu.nvlink_domain
    return domain if domain > pool.gpu.gpus_per_node else min(pool.gpus_per_node, domain)


def candidates(request: Request, model: ModelFacts, pool: GpuPool) -> Iterator[Candidate]:
    """Yield candidates in order of preference, each once."""
    seen: set[Layout] = set()
    for (tensor, pipeline), origin in _preferences(request, model, pool):
        layout = Layout(tensor=tensor, pipeline=pipeline, context=request.context, attention_dp=request.attention_dp)
        completed = with_experts(request, model, layout)
        if completed not in seen:
            seen.add(completed)
            yield Candidate(layout=completed, origin=origin)


def with_experts(request: Request, model: ModelFacts, layout: Layout) -> Layout:
    """Set the expert parallel size: the pinned one, else the widest that shares the experts out evenly."""
    if request.expert is not None:
        return replace(layout, expert=request.expert)
    if model.experts is None:
        return layout
    count = model.experts.count
    sizes = range(layout.tensor, 0, -1)
    return replace(layout, expert=next(size for size in sizes if layout.tensor % size == 0 and count % size == 0))


def _preferences(request: Request, model: ModelFacts, pool: GpuPool) -> Iterable[tuple[Sizes, Origin]]:
    domain = _preferred_domain(request, pool)
    if request.pinned:
        return [(sizes, Origin.PINNED) for sizes in _pinned(request, domain)]
    if request.count is not None:
        gpus, rest = divmod(request.count, request.context)
        if rest:
            return [((request.count, 1), Origin.COUNT)]
        if request.mode == ParallelismMode.TENSOR:
            return [((gpus, 1), Origin.COUNT)]
        widths = [size for size in range(min(domain, gpus), 0, -1) if gpus % size == 0]
        return [((size, gpus // size), Origin.COUNT) for size in widths]
    if request.policy == ParallelismPolicy.MINIMAL:
        return [(sizes, Origin.MINIMAL) for sizes in smallest_first(domain) if _in_mode(request, sizes)]
    return [(sizes, origin) for sizes, origin in _guide(model, domain) if _in_mode(request, sizes)]


def _preferred_domain(request: Request, pool: GpuPool) -> int:
    if request.mode == ParallelismMode.PIPELINE:
        return 1
    if request.mode == ParallelismMode.TENSOR:
        return max(pool.gpus_per_node, nvlink_domain(pool))
    return nvlink_domain(pool)


def _in_mode(request: Request, sizes: Sizes) -> bool:
    return request.mode != ParallelismMode.TENSOR or sizes[1] == 1


def _guide(model: ModelFacts, domain: int) -> Iterable[tuple[Sizes, Origin]]:
    wanted = rung(model).sizes
    if domain == 1:
        widths = [tensor * pipeline for tensor, pipeline in wanted]
        yield from (((1, width), Origin.GUIDE) for width in widths)
        yield from (((1, size), Origin.STAGES) for size in _SIZES if size > max(widths))
        yield from (((1, size), Origin.FEWER) for size in reversed(_SIZES) if size < min(widths))
        yield from (((1, size), Origin.STAGES) for size in _STAGES)
        return
    first = wanted[0][0]
    yield from ((sizes, Origin.GUIDE) for sizes in wanted)
    yield from (
        ((domain, tensor * stages // domain), Origin.GUIDE)
        for tensor, stages in wanted
        if tensor > domain and tensor * stages % domain == 0
    )
    yield from (((size, 1), Origin.WIDER) for size in _SIZES if first <= size <= domain)
    yield from (((size, 1), Origin.FEWER) for size in reversed(_SIZES) if size < first and size <= domain)
    yield from (((min(domain, 8), stages), Origin.STAGES) for stages in _STAGES)
    yield from (((size, stages), Origin.STAGES) for size in (4, 2, 1) if size <= domain for stages in (2, 4, 8))


def smallest_first(domain: int) -> tuple[Sizes, ...]:
    """Return tensor parallel sizes of a domain, then stages of the whole domain, then the rest by GPUs."""
    wide = [(tensor, 1) for tensor in _SIZES if tensor <= domain]
    whole = [(wide[-1][0], stages) for stages in _STAGES]
    staged = sorted(
        ((tensor, stages) for tensor, _ in wide for stages in (*_STAGES, 16, 32)),
        key=lambda sizes: (sizes[0] * sizes[1], sizes[1]),
    )
    return (*wide, *whole, *staged)


def _pinned(request: Request, domain: int) -> list[Sizes]:
    tensor, pipeline, count = request.tensor, request.pipeline, request.count
    if tensor is not None and pipeline is not None:
        return [(tensor, pipeline)]
    if tensor is not None:
        stages = [max(1, count // (tensor * request.context))] if count else [1, *_STAGES]
        return [(tensor, stage) for stage in stages]
    fixed = pipeline or 1
    if count:
        return [(max(1, count // (fixed * request.context)), fixed)]
    return [(size, fixed) for size in _SIZES if size <= domain]
