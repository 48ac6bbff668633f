"""GPUs as people type them: ``H100``, ``a100-40``, ``8xH100``, ``2x8xH100``, ``2x4090,1x3090``.

The command line reads these; a spec names labels instead, because pods select nodes by them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from trtllm_operator.hardware import (
    Gpu,
    catalogue,
    catalogue_rows,
    find_gpu,
    near_names,
    part_of,
    split_partition,
    stem,
)

_TERM = re.compile(
    r"^(?:(?P<nodes>[1-9]\d{0,3})x)?(?P<count>[1-9]\d{0,3})x(?P<name>\D.*|\d[^x]*)$", re.ASCII | re.IGNORECASE
)
_SHOWN = 80
"""Characters of somebody's text that an error repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuGroup:
    """``count`` GPUs of one product, on each of ``nodes`` nodes where the text says how many."""

    gpu: Gpu
    count: int
    nodes: int | None = None

    @property
    def total(self) -> int:
        """GPUs of the group."""
        return self.count * (self.nodes or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Misread:
    """A text that names no GPUs: what was expected in its place, and known names that resemble it."""

    text: str
    expected: str
    near: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = self.text if len(self.text) <= _SHOWN else self.text[:_SHOWN] + "..."
        near = f"; near names: {', '.join(self.near)}" if self.near else ""
        return f"{shown!r} is not {self.expected}{near}"


def short_gpu(name: str) -> Gpu | Misread:
    """Return the GPU somebody means by a short name or a label; ``-MIG-3g.40gb`` and ``-SHARED`` may follow.

    H100 and A100 alone mean the SXM boards with 80 GB. The product is a label of the catalogue where a short name was
    typed, and the label itself where a label was.
    """
    whole, profile, shared = split_partition(name)
    gpu = catalogue().get(whole) or _by_name().get(_key(whole)) or find_gpu(whole)
    suffix = (f"-MIG-{profile}" if profile is not None else "") + ("-SHARED" if shared else "")
    part = gpu and part_of(replace(gpu, product=gpu.product + suffix), profile, shared=shared)
    if part is None:
        known = [row.name for row in catalogue_rows()]
        return Misread(text=name, expected="a GPU name such as H100 or RTX-4090", near=near_names(whole, known))
    return part


def parse_gpus(text: str) -> tuple[GpuGroup, ...] | Misread:
    """Read GPUs in groups separated by ``,`` or ``+``; each is COUNTxGPU or NODESxCOUNTxGPU.

    A GPU may stand in one group only: two groups are two kinds of GPU.
    """
    groups: list[GpuGroup] = []
    for term in re.split(r"[,+]", text):
        group = _group(term.strip())
        if isinstance(group, Misread):
            return group
        if any(group.gpu.product == other.gpu.product for other in groups):
            return Misread(text=text, expected="a list that names each GPU once, such as 3x4090")
        groups.append(group)
    return tuple(groups)


def _group(term: str) -> GpuGroup | Misread:
    match = _TERM.match(term)
    if match is None:
        return Misread(text=term, expected="COUNTxGPU or NODESxCOUNTxGPU, such as 8xH100 or 2x8xH100")
    gpu = short_gpu(match["name"])
    if isinstance(gpu, Misread):
        return gpu
    nodes = int(match["nodes"]) if match["nodes"] else None
    return GpuGroup(gpu=gpu, count=int(match["count"]), nodes=nodes)


@cache
def _by_name() -> Mapping[str, Gpu]:
    return {_key(name): row.gpu for row in catalogue_rows() for name in (row.name, *row.aliases, *row.products)}


def _key(name: str) -> str:
    """People write RTX-4090, rtx 4090 and RTX4090: only letters and digits count."""
    return stem(name).replace("-", "")
