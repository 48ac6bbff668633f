"""Which layouts to look at, in order of preference.

The guide's decision tree over the weights at the serving dtype (decimal GB, made for GPUs of 80 GB), or what the user
pinned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from trtllm_operator.api import Interconnect, LLMDeploymentSpec
from trtllm_operator.facts import GpuPool, ModelFacts
from trtllm_operator.memory import weight_bytes

_SINGLE_GPU_GB, _TWO_OR_FOUR_GPUS_GB, _ONE_NODE_GB = 20, 80, 320


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Tensor x pipeline parallel sizes, and why they were looked at."""

    tensor: int
    pipeline: int
    origin: str

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.tensor * self.pipeline


def nvlink_domain(spec: LLMDeploymentSpec, pool: GpuPool) -> int:
    """GPUs that reach each other at NVLink speed; 1 on PCIe, where the guide wants pipelines."""
    wanted = (spec.gpus and spec.gpus.interconnect) or Interconnect.AUTO
    if wanted == Interconnect.PCIE:
        return 1
    if wanted == Interconnect.NVLINK:
        return pool.gpus_per_node
    return min(pool.gpus_per_node, pool.gpu.nvlink_domain)


def rung(model: ModelFacts) -> tuple[tuple[tuple[int, int], ...], str]:
    """Return the guide's layouts for this size, and its rule in words. Thresholds are decimal GB."""
    size = weight_bytes(model) / 1e9
    if size < _SINGLE_GPU_GB:
        return ((1, 1),), f"{size:.1f} GB of weights is under 20 GB: a single GPU"
    if size < _TWO_OR_FOUR_GPUS_GB:
        return ((2, 1), (4, 1)), f"{size:.1f} GB of weights is under 80 GB: TP=2 or TP=4 in one node"
    if size < _ONE_NODE_GB:
        return (
            (4, 1),
            (8, 1),
        ), f"{size:.1f} GB of weights is under 320 GB: TP=4 or TP=8 in one node over NVLink"
    return ((8, 2),), f"{size:.1f} GB of weights is 320 GB or more: TP=8 with PP=2 over two nodes"


def layouts(spec: LLMDeploymentSpec, model: ModelFacts, pool: GpuPool) -> Iterator[Layout]:
    """Yield candidates in order of preference, each once."""
    seen: set[tuple[int, int]] = set()
    for tensor, pipeline, origin in _preferences(spec, model, pool):
        if (tensor, pipeline) not in seen:
            seen.add((tensor, pipeline))
            yield Layout(tensor=tensor, pipeline=pipeline, origin=origin)


def _preferences(spec: LLMDeploymentSpec, model: ModelFacts, pool: GpuPool) -> Iterable[tuple[int, int, str]]:
    domain = nvlink_domain(spec, pool)
    pinned = spec.parallelism
    tensor = pinned.tensor if pinned else None
    pipeline = pinned.pipeline if pinned else None
    count = spec.gpus.count if spec.gpus else None
    if tensor is not None or pipeline is not None:
        return _pinned(tensor, pipeline, count, domain)
    if count is not None:
        sizes = [size for size in range(domain, 0, -1) if count % size == 0]
        return [(size, count // size, f"spec.gpus.count is {count}") for size in sizes]
    wanted, _ = rung(model)
    if domain == 1:
        widths = [t * p for t, p in wanted]
        further = [n for n in (2, 4, 8, 16) if n > max(widths)]
        fewer = [n for n in (8, 4, 2, 1) if n < min(widths)]
        return (
            [(1, n, "guide") for n in widths]
            + [(1, n, "more stages") for n in further]
            + [(1, n, "fewer GPUs") for n in fewer]
        )
    tree = [(t, p, "guide") for t, p in wanted]
    wider = [(t, 1, "wider tensor parallelism") for t in (2, 4, 8, 16) if wanted[0][0] <= t <= domain]
    narrower = [(t, 1, "fewer GPUs") for t in (8, 4, 2, 1) if t < wanted[0][0] and t <= domain]
    staged = [(t, p, "more stages") for p in (2, 4, 8) for t in (domain, 4, 2, 1)]
    return [*tree, *wider, *narrower, *staged]


def _pinned(tensor: int | None, pipeline: int | None, count: int | None, domain: int) -> list[tuple[int, int, str]]:
    origin = "pinned by spec.parallelism"
    if tensor is not None and pipeline is not None:
        return [(tensor, pipeline, origin)]
    if tensor is not None:
        stages = [count // tensor] if count else [1, 2, 4, 8]
        return [(tensor, stage, origin) for stage in stages]
    fixed = pipeline or 1
    widths = [max(1, count // fixed)] if count else [width for width in (1, 2, 4, 8) if width <= domain]
    return [(width, fixed, origin) for width in widths]
