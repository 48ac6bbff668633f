"""The failure stories of ``tests/data/failure_stories.yaml``, and the page with what the operator says of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from support import ROOT

Manifest = dict[str, Any]

PAGE = ROOT / "docs" / "failure-stories.md"
_TABLE = Path(__file__).parent / "data" / "failure_stories.yaml"

_INTRODUCTION = """\
# Failure stories

Written by the tests that bring each failure about on a real control plane and hold `kubectl describe llmd` to the
reason, the numbers and the field to change; edit `tests/data/failure_stories.yaml`, and run
`pytest tests/component/test_failure_stories.py --update`. What a kubelet would report of a container is played: no GPU
and no image is behind it, and the wordings are those [Troubleshooting](troubleshooting.md) goes by. The message is that
of the condition; that of its event holds the same reason, numbers and field. What differs from run to run (the ends of
pod names, what the scheduler counts node by node) is replaced.

| | What happens | Reason | What `kubectl describe llmd` says |
|---|---|---|---|
"""
_ROW = re.compile(r"^\| \d+ \| \*\*(?P<title>.+?)\*\*: .* \| `\w+` \| (?P<message>.*) \|$", re.MULTILINE)

_NAME_ENDING = "[bcdfghjklmnpqrstvwxz2456789]"
_COUNTED = r"\b\d+ (?:node\(s\)|Insufficient|Preemption|No preemption)(?:[^,.;]|\.(?=\w))*"
_VOLATILE = (
    (re.compile(rf"\bllama-download-[0-9a-f]{{10}}-{_NAME_ENDING}{{5}}\b"), "llama-download-HASH-POD"),
    (re.compile(rf"\bllama-{_NAME_ENDING}{{5,10}}-{_NAME_ENDING}{{5}}\b"), "llama-POD"),
    (re.compile(rf"\bllama-{_NAME_ENDING}{{5,10}}\b"), "llama-HASH"),
    (re.compile(r"\b0/\d+ nodes"), "0/N nodes"),
    (re.compile(rf"{_COUNTED}(?:, {_COUNTED})*"), "(counts)"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One failure; the head of the table says what its fields mean."""

    title: str
    done: str
    reason: str
    numbers: list[str]
    hint: str
    condition: str = "Ready"
    capacity: str = ""
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    nodes: list[Manifest] = field(default_factory=list)
    objects: list[Manifest] = field(default_factory=list)
    spec: Manifest = field(default_factory=dict)
    container: str = "trtllm-serve"
    waiting: Manifest | None = None
    died: Manifest | None = None
    event: Manifest | None = None
    stuck: bool = False

    @property
    def namespace(self) -> str:
        return "story-" + re.sub(r"[^a-z0-9]+", "-", self.title.lower())

    @property
    def plays_the_kubelet(self) -> bool:
        return self.stuck or any(told is not None for told in (self.waiting, self.died, self.event))


def stories() -> list[Story]:
    """Return every story, in the order of the page."""
    rows = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    found = [Story(**{_snake(key): value for key, value in row.items()}) for row in rows]
    return [Story(**_placed(story)) for story in found]


def steady(message: str) -> str:
    """Return a message without what differs from run to run."""
    for pattern, replacement in _VOLATILE:
        message = pattern.sub(replacement, message)
    return message


def told() -> dict[str, str]:
    """Return the messages that the page shows, by the title of their story."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    return {row["title"]: row["message"].replace("\\|", "|") for row in _ROW.finditer(page)}


def page(messages: Mapping[str, str]) -> str:
    """Return the page with the messages of the stories, by title."""
    rows = [
        f"| {number} | **{story.title}**: {story.done} | `{story.reason}` | {_cell(messages.get(story.title, ''))} |\n"
        for number, story in enumerate(stories(), start=1)
    ]
    return _INTRODUCTION + "".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _snake(key: str) -> str:
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", key)


def _placed(story: Story) -> dict[str, Any]:
    """Return the fields of a story with the name of its namespace in place."""
    fields = {name: getattr(story, name) for name in story.__slots__}
    text = yaml.safe_dump(fields).replace("NAMESPACE", story.namespace)
    return dict(yaml.safe_load(text))
