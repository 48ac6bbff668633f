"""A plan as a standalone SVG: one bar per GPU, grouped by pod and pipeline stage."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from math import ceil
from textwrap import wrap

from trtllm_operator.footprint import Part, cells, parts
from trtllm_operator.memory import gib
from trtllm_operator.plain_text import printable
from trtllm_operator.planned import Plan, Stage
from trtllm_operator.ranks import Rank, ranks

_CLASSES = {Part.WEIGHTS: "weights", Part.OVERHEAD: "overhead", Part.KV_CACHE: "kv", Part.FREE: "free"}
_STYLE = """
text { font: 12px sans-serif; fill: #1f2328; }
.title { font-size: 16px; font-weight: bold; }
.muted { fill: #59636e; }
.amount { font-size: 10px; text-anchor: middle; }
.page { fill: #ffffff; }
.group { fill: none; stroke: #d1d9e0; }
.weights { fill: #3b5bdb; } .overhead { fill: #f59f00; } .kv { fill: #2b8a3e; }
.free { fill: #eef1f4; stroke: #d1d9e0; }
.on-weights, .on-kv { fill: #ffffff; } .on-overhead, .on-free { fill: #1f2328; }
@media (prefers-color-scheme: dark) {
  text, .on-free { fill: #f0f6fc; } .muted { fill: #9198a1; }
  .page { fill: #0d1117; } .group { stroke: #3d444d; } .free { fill: #212830; stroke: #3d444d; }
}
"""
_WIDTH, _MARGIN = 960, 24
_BAR_WIDTH, _BAR_GAP, _BAR_HEIGHT, _BARS_PER_ROW = 34, 8, 200, 8
_HEAD, _FOOT = 56, 20
_GROUP_GAP, _GROUP_PADDING = 16, 12
_SIGN_WIDTH, _LINE_HEIGHT, _LINE_SIGNS, _TITLE_SIGNS = 8, 22, 120, 85
_LEGEND_STEP = 120
_SHORTEST_WITH_AMOUNT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """The GPUs of one stage in one pod, and the size of their box in pixels."""

    stage: Stage
    pod: int
    ranks: tuple[Rank, ...]

    @property
    def labels(self) -> tuple[str, str]:
        place = f"pod {self.pod}, stage {self.stage.index}"
        return f"{place}, layers {self.stage.first_layer}-{self.stage.last_layer}", self.stage.gpu.product

    @property
    def width(self) -> int:
        bars = min(len(self.ranks), _BARS_PER_ROW) * (_BAR_WIDTH + _BAR_GAP) - _BAR_GAP
        return max(bars, *(len(label) * _SIGN_WIDTH for label in self.labels)) + 2 * _GROUP_PADDING

    @property
    def height(self) -> int:
        return _HEAD + ceil(len(self.ranks) / _BARS_PER_ROW) * (_BAR_HEIGHT + _FOOT) + _GROUP_PADDING


def svg(plan: Plan) -> str:
    """Return the picture as an XML document. Sizes in it are GiB."""
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "aria-labelledby": "title desc"})
    _child(root, "title", {"id": "title"}, f"{plan.model.name}: {plan.layout}")
    _child(root, "desc", {"id": "desc"}, _description(plan))
    _child(root, "style", {}, _STYLE)
    _child(root, "rect", {"class": "page", "width": "100%", "height": "100%"})
    placed, bottom = _flow(_groups(plan), top=_draw_heading(root, plan))
    for group, x, y in placed:
        _draw_group(root, group, x, y)
    height = str(bottom + _MARGIN)
    root.attrib.update({"viewBox": f"0 0 {_WIDTH} {height}", "width": str(_WIDTH), "height": height})
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _description(plan: Plan) -> str:
    stages = "; ".join(
        f"stage {stage.index} on {stage.gpu.product}, layers {stage.first_layer} to {stage.last_layer}: "
        + (
            "memory unknown"
            if stage.memory is None
            else ", ".join(f"{part} {gib(size)} GiB" for part, size in parts(stage.memory).items())
        )
        for stage in plan.stages
    )
    return f"{plan.summary}. Estimated memory of each GPU: {stages}."


def _groups(plan: Plan) -> Iterator[_Group]:
    for (pod, stage), members in groupby(ranks(plan), key=lambda rank: (rank.pod, rank.stage)):
        yield _Group(stage=plan.stages[stage], pod=pod, ranks=tuple(members))


def _flow(groups: Iterator[_Group], top: int) -> tuple[list[tuple[_Group, int, int]], int]:
    """Place groups in rows, like words; return them with x and y, and where the last row ends."""
    placed: list[tuple[_Group, int, int]] = []
    x, y, bottom = _MARGIN, top, top
    for group in groups:
        if x > _MARGIN and x + group.width > _WIDTH - _MARGIN:
            x, y = _MARGIN, bottom + _GROUP_GAP
        placed.append((group, x, y))
        x += group.width + _GROUP_GAP
        bottom = max(bottom, y + group.height)
    return placed, bottom


def _draw_heading(root: ET.Element, plan: Plan) -> int:
    """Draw the title, the summary and the legend; return where they end."""
    y = _MARGIN
    for line in wrap(plan.model.name, _TITLE_SIGNS):
        _text(root, _MARGIN, y + 10, line, "title")
        y += _LINE_HEIGHT
    for line in wrap(plan.summary, _LINE_SIGNS):
        _text(root, _MARGIN, y + 10, line, "muted")
        y += _LINE_HEIGHT
    for index, part in enumerate(Part):
        x = _MARGIN + index * _LEGEND_STEP
        _rect(root, x, y, 14, 14, _CLASSES[part])
        _text(root, x + 20, y + 12, part)
    _text(root, _MARGIN + len(Part) * _LEGEND_STEP, y + 12, "GiB on each GPU, estimated", "muted")
    return y + 2 * _LINE_HEIGHT


def _draw_group(root: ET.Element, group: _Group, x: int, y: int) -> None:
    box = {"x": str(x), "y": str(y), "width": str(group.width), "height": str(group.height), "rx": "6"}
    _child(root, "rect", {**box, "class": "group"})
    left = x + _GROUP_PADDING
    place, product = group.labels
    _text(root, left, y + 22, place)
    _text(root, left, y + 40, product, "muted")
    for index, rank in enumerate(group.ranks):
        row, column = divmod(index, _BARS_PER_ROW)
        bar_x = left + column * (_BAR_WIDTH + _BAR_GAP)
        bar_y = y + _HEAD + row * (_BAR_HEIGHT + _FOOT)
        _draw_bar(root, group.stage, bar_x, bar_y)
        _text(root, bar_x + _BAR_WIDTH // 2, bar_y + _BAR_HEIGHT + 14, str(rank.rank), "amount muted")


def _draw_bar(root: ET.Element, stage: Stage, x: int, y: int) -> None:
    if stage.memory is None:
        _rect(root, x, y, _BAR_WIDTH, _BAR_HEIGHT, "free")
        return
    sizes: Mapping[Part, int] = parts(stage.memory)
    bottom = y + _BAR_HEIGHT
    for (part, size), height in zip(sizes.items(), cells(list(sizes.values()), _BAR_HEIGHT), strict=True):
        bottom -= height
        _rect(root, x, bottom, _BAR_WIDTH, height, _CLASSES[part])
        if height >= _SHORTEST_WITH_AMOUNT:
            middle = bottom + height // 2 + 4
            _text(root, x + _BAR_WIDTH // 2, middle, gib(size), f"amount on-{_CLASSES[part]}")


def _rect(root: ET.Element, x: int, y: int, width: int, height: int, style: str) -> None:
    box = {"x": str(x), "y": str(y), "width": str(width), "height": str(height), "class": style}
    _child(root, "rect", box)


def _text(root: ET.Element, x: int, y: int, text: str, style: str = "") -> None:
    _child(root, "text", {"x": str(x), "y": str(y), **({"class": style} if style else {})}, text)


def _child(root: ET.Element, tag: str, attributes: dict[str, str], text: str = "") -> None:
    child = ET.SubElement(root, tag, attributes)
    child.text = printable(text) or None
