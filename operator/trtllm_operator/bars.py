"""A GPU's memory as a stacked bar of characters, told apart by shade where there is no colour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rich.text import Text

from trtllm_operator.footprint import Part, cells, parts
from trtllm_operator.memory import GpuMemory, gib

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_WIDEST = 80
_GAP = "  "
_SHADES = {Part.WEIGHTS: "█", Part.OVERHEAD: "▓", Part.KV_CACHE: "▒", Part.FREE: "░"}
_ASCII = {Part.WEIGHTS: "#", Part.OVERHEAD: "%", Part.KV_CACHE: "=", Part.FREE: "."}
_STYLES = {Part.WEIGHTS: "blue", Part.OVERHEAD: "magenta", Part.KV_CACHE: "green", Part.FREE: "bright_black"}


class MemoryBar:
    """A bar as wide as there is room for, and a legend with GiB."""

    def __init__(self, memory: GpuMemory) -> None:
        self._memory = memory

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        signs = _ASCII if options.ascii_only else _SHADES
        sizes = parts(self._memory)
        width = min(options.max_width, _WIDEST)
        yield Text.assemble(
            *(
                (signs[part] * count, _STYLES[part])
                for part, count in zip(sizes, cells(list(sizes.values()), width), strict=True)
            )
        )
        yield from _lines(_legend(sizes, signs, self._memory.capacity), options.max_width)


def _legend(sizes: Mapping[Part, int], signs: Mapping[Part, str], capacity: int) -> Iterator[Text]:
    for part, size in sizes.items():
        yield Text.assemble((signs[part], _STYLES[part]), f" {part} {gib(size)}")
    yield Text(f"of {gib(capacity)} GiB")


def _lines(entries: Iterator[Text], width: int) -> Iterator[Text]:
    """Fill lines with whole entries."""
    line = next(entries)
    for entry in entries:
        if len(line) + len(_GAP) + len(entry) > width:
            yield line
            line = entry
        else:
            line = Text.assemble(line, _GAP, entry)
    yield line
