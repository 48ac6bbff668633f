"""The candidates of a GPU product as a table that gives up columns where the terminal is narrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from trtllm_operator.answers import is_chosen
from trtllm_operator.memory import GpuMemory, gib
from trtllm_operator.planned import Infeasible, Plan, Rejection

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

VERDICT_STYLES = {"Fits": "bold green", "Tight": "bold yellow"}

_COLUMNS = ("", "layout", "GPUs", "weights", "overhead", "KV cache", "KV tokens", "verdict")
_NUMBERS = frozenset({"GPUs", "weights", "overhead", "KV cache", "KV tokens"})
_GIVEN_UP_FIRST = ("overhead", "KV cache", "weights", "KV tokens", "GPUs")
_GAP = 2


class CandidateTable:
    """One line per candidate, in order of preference; sizes are GiB of the fullest GPU, and the plan is marked."""

    def __init__(self, candidates: Iterable[Plan | Rejection], verdict: Plan | Infeasible) -> None:
        self._rows = [tuple(_cells(candidate, verdict)) for candidate in candidates]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        kept = self._columns(options.max_width)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
        for name in kept:
            table.add_column(name, justify="right" if name in _NUMBERS else "left", no_wrap=True, overflow="fold")
        for row in self._rows:
            by_name = dict(zip(_COLUMNS, row, strict=True))
            style = "bold" if by_name[""] else VERDICT_STYLES.get(by_name["verdict"], "dim").removeprefix("bold ")
            table.add_row(*(by_name[name] for name in kept), style=style)
        yield table

    def _columns(self, width: int) -> list[str]:
        widths = {
            name: max(len(name), *(len(row[index]) for row in self._rows)) + _GAP for index, name in enumerate(_COLUMNS)
        }
        kept = list(_COLUMNS)
        for name in _GIVEN_UP_FIRST:
            if sum(widths[column] for column in kept) - _GAP > width:
                kept.remove(name)
        return kept


def _cells(candidate: Plan | Rejection, verdict: Plan | Infeasible) -> Iterator[str]:
    yield ">" if is_chosen(candidate, verdict) else ""
    yield str(candidate.layout)
    yield str(candidate.layout.gpus)
    yield from _sizes(candidate.memory)
    tokens = candidate.max_kv_tokens if isinstance(candidate, Plan) else _held(candidate.memory)
    yield "-" if tokens is None else str(tokens)
    yield candidate.verdict if isinstance(candidate, Plan) else str(candidate.reason)


def _sizes(memory: GpuMemory | None) -> tuple[str, ...]:
    if memory is None:
        return ("-",) * 3
    return gib(memory.weights), gib(memory.overhead), gib(memory.kv_cache)


def _held(memory: GpuMemory | None) -> int | None:
    return None if memory is None else memory.kv_tokens
