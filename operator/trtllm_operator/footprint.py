"""What fills a GPU, as the parts of a stacked bar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from trtllm_operator.memory import GpuMemory
from trtllm_operator.planned import Plan, Stage


class Part(StrEnum):
    """The parts of a GPU's memory, from the bottom of the bar up."""

    WEIGHTS = "weights"
    OVERHEAD = "overhead"
    KV_CACHE = "KV cache"
    FREE = "free"


def parts(memory: GpuMemory) -> dict[Part, int]:
    """Return the bytes of each part; together they are the GPU's memory when weights and overhead fit."""
    return {
        Part.WEIGHTS: memory.weights,
        Part.OVERHEAD: memory.overhead,
        Part.KV_CACHE: memory.kv_cache,
        Part.FREE: max(0, memory.free - memory.kv_cache),
    }


def cells(sizes: Sequence[int], width: int) -> list[int]:
    """Share ``width`` cells out in proportion to sizes, such that the ends of the parts lie where they should."""
    total = sum(sizes) or 1
    ends = [round(width * sum(sizes[: index + 1]) / total) for index in range(len(sizes))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRun:
    """Neighbouring stages whose GPUs hold the same."""

    first: Stage
    last: Stage


def stage_runs(plan: Plan) -> Iterator[StageRun]:
    """Yield the stages of a plan, those alike together."""
    start = previous = plan.stages[0]
    for stage in plan.stages[1:]:
        if (stage.gpu, stage.memory, stage.layers) != (start.gpu, start.memory, start.layers):
            yield StageRun(first=start, last=previous)
            start = stage
        previous = stage
    yield StageRun(first=start, last=previous)
