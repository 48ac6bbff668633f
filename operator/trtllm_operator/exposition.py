"""Prometheus's text format, as much of it as the operator needs: counters, gauges and histograms with labels.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """One line; ``suffix`` follows the family's name (``_bucket``)."""

    labels: Labels
    value: float
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric and its samples."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    samples: tuple[Sample, ...]


class Counter:
    """Counts by the values of its labels."""

    def __init__(self, *labels: str) -> None:
        self._labels = labels
        self._counts: Tally[tuple[str, ...]] = Tally()

    def add(self, *values: str) -> None:
        """Count one."""
        self._counts[values] += 1

    def samples(self) -> tuple[Sample, ...]:
        """Return what was counted."""
        return tuple(
            Sample(dict(zip(self._labels, values, strict=True)), count)
            for values, count in sorted(self._counts.items())
        )


class Histogram:
    """Counts values up to each of ``bounds``."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Take one value in."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self) -> tuple[Sample, ...]:
        """Return the buckets, each with all that is below it, the sum and the count."""
        totals = list(accumulate(self._counts))
        bounds = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        buckets = (Sample({"le": bound}, total, "_bucket") for bound, total in zip(bounds, totals, strict=True))
        return (*buckets, Sample({}, self._sum, "_sum"), Sample({}, totals[-1], "_count"))


def gauge(name: str, text: str, values: Mapping[tuple[str, ...], float], *labels: str) -> Family:
    """Return a gauge that has one value for each combination of label values."""
    samples = (
        Sample(dict(zip(labels, combination, strict=True)), value) for combination, value in sorted(values.items())
    )
    return Family(name, "gauge", text, tuple(samples))


def exposition(families: Iterable[Family]) -> str:
    """Return the page."""
    return "\n".join(line for family in families for line in _lines(family)) + "\n"


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {family.help}"
    yield f"# TYPE {family.name} {family.type}"
    for sample in family.samples:
        pairs = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels.items())
        yield (
            f"{family.name}{sample.suffix}{{{pairs}}} {sample.value:g}"
            if pairs
            else (f"{family.name}{sample.suffix} {sample.value:g}")
        )


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
