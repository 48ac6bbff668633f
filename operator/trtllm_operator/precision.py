"""Which number formats TensorRT-LLM can run on which GPU.

The matrix is data, ``data/precision.json``, which names its sources. Where they contradict one another, or say nothing,
the answer is ``Disputed``: a warning, never a refusal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from trtllm_operator.api import Dtype

Compute = tuple[int, int]
"""Compute capability as (major, minor)."""


@dataclass(frozen=True, slots=True)
class Supported:
    """The kernels exist; ``note`` is a condition they come with, or empty."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class Unsupported:
    """There are no kernels; ``reason`` is a sentence that names where there are."""

    reason: str


@dataclass(frozen=True, slots=True)
class Disputed:
    """The documents contradict one another or are silent; ``reason`` is a sentence that says how."""

    reason: str


Support = Supported | Unsupported | Disputed


def support(compute: Compute, dtype: Dtype, *, block: bool = False) -> Support:
    """Whether weights of this format run; ``block`` tells FP8 with block scales from FP8 with one scale per tensor.

    ``block`` means nothing for other formats. Raises ValueError for ``auto``, which names no format.
    """
    if dtype == Dtype.AUTO:
        raise ValueError("auto names no weight format: resolve it from the checkpoint first")
    return _look_up(compute, "weights", f"{dtype}-block" if block and dtype == Dtype.FP8 else str(dtype))


def kv_cache_support(compute: Compute, dtype: Dtype) -> Support:
    """Whether a KV cache of this format works. Raises ValueError for ``auto``, which names no format."""
    if dtype == Dtype.AUTO:
        raise ValueError("auto names no KV cache format: resolve it from the checkpoint first")
    return _look_up(compute, "kvCache", str(dtype))


def _look_up(compute: Compute, table: Literal["weights", "kvCache"], column: str) -> Support:
    what = f"{column} weights" if table == "weights" else f"{column} KV cache"
    minimum = _matrix()["minimum"]
    if compute < _parse(minimum):
        return Unsupported(f"TensorRT-LLM needs compute capability {minimum} or newer, not {_text(compute)}")
    cells = {listed: row[table][column] for listed, row in _rows().items() if column in row[table]}
    if not cells:
        return Unsupported(f"TensorRT-LLM has no {what}")
    if compute not in cells:
        return Disputed(f"TensorRT-LLM's hardware matrix does not name compute capability {_text(compute)}")
    answer = _answer(cells[compute])
    if answer is not None:
        return answer
    running = ", ".join(_text(listed) for listed, cell in cells.items() if isinstance(_answer(cell), Supported))
    return Unsupported(
        f"TensorRT-LLM has no kernels for {what} on compute capability {_text(compute)}, only on {running}"
    )


def _answer(cell: bool | str) -> Supported | Disputed | None:  # noqa: FBT001 - a cell of the matrix is what it is
    """Read a cell: true, false (None here) or the name of a note."""
    if isinstance(cell, bool):
        return Supported() if cell else None
    note = _matrix()["notes"][cell]
    return Supported(note["text"]) if note["verdict"] == "Supported" else Disputed(note["text"])


@cache
def _matrix() -> Mapping[str, Any]:
    text = resources.files("trtllm_operator").joinpath("data/precision.json").read_text(encoding="utf-8")
    matrix: Mapping[str, Any] = json.loads(text)
    return matrix


@cache
def _rows() -> Mapping[Compute, Mapping[str, Any]]:
    return {_parse(compute): row for row in _matrix()["rows"] for compute in row["compute"]}


def _parse(compute: str) -> Compute:
    major, minor = compute.split(".")
    return int(major), int(minor)


def _text(compute: Compute) -> str:
    return f"{compute[0]}.{compute[1]}"
