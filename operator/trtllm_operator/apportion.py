"""Sharing out layers over pipeline stages on GPUs that differ: by speed, capped by memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trtllm_operator.hardware import Gpu


def stage_speeds(gpus: Sequence[Gpu]) -> tuple[float, ...]:
    """Speed of each GPU relative to the slowest, to the nearest half: sqrt(memory bandwidth x dense TFLOPS)."""
    measured = [_speed(gpu) for gpu in gpus]
    slowest = min(measured)
    return tuple(max(1.0, round(2 * speed / slowest) / 2) for speed in measured)


def _speed(gpu: Gpu) -> float:
    if gpu.memory_bandwidth_gbps is None or gpu.tflops is None:
        return 1.0
    return math.sqrt(gpu.memory_bandwidth_gbps * gpu.tflops)


def apportion(layers: int, speeds: Sequence[float], caps: Sequence[int]) -> tuple[int, ...] | None:
    """Share out layers by largest remainder, no stage above its cap and none empty; None when the caps are too low."""
    if sum(caps) < layers or layers < len(speeds) or min(caps) < 1:
        return None
    ideal = [layers * speed / sum(speeds) for speed in speeds]
    shares = [max(1, min(cap, math.floor(part))) for part, cap in zip(ideal, caps, strict=True)]
    while sum(shares) > layers:
        shares[max(range(len(shares)), key=lambda stage: (shares[stage] - ideal[stage], stage))] -= 1
    while sum(shares) < layers:
        roomy = [stage for stage in range(len(shares)) if shares[stage] < caps[stage]]
        shares[max(roomy, key=lambda stage: (ideal[stage] - shares[stage], -stage))] += 1
    return tuple(shares)
