"""What each TensorRT-LLM release accepts and does: ``data/engines.json``, looked up by image tag.

A release inherits everything from the one before it and states only what differs; every fact names its source. The
planner's refusals, the rendered command, the metric names and the stand-in server all read this one table.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal

_TAG = re.compile(
    r"^v?(?P<major>\d{1,4})\.(?P<minor>\d{1,4})\.(?P<patch>\d{1,4})(?:\.?rc(?P<candidate>\d{1,4}))?(?:\.post(?P<post>\d{1,4}))?"
    r"(?:[-+.@_].*)?$"
)

Table = Mapping[str, str]
"""Names with their types, as ``data/engines.json`` writes them (``int``, ``str?``, ``a|b``)."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Version:
    """A TensorRT-LLM version; a release candidate sorts before its release. Digits after ``post`` break ties."""

    major: int
    minor: int
    patch: int
    candidate: float = math.inf
    post: int = 0

    @classmethod
    def parse(cls, tag: str) -> Version | None:
        """Read ``1.3.0rc22.post1`` or ``1.2.1-custom`` (what follows the number is ignored); None for anything else."""
        match = _TAG.match(tag)
        if match is None:
            return None
        return cls(
            major=int(match["major"]),
            minor=int(match["minor"]),
            patch=int(match["patch"]),
            candidate=math.inf if match["candidate"] is None else int(match["candidate"]),
            post=int(match["post"] or 0),
        )

    def same_build(self, other: Version) -> bool:
        """Tell whether the two differ at most in their post-release number."""
        return replace(self, post=0) == replace(other, post=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A Prometheus metric, its name without the release's prefix, and the configuration keys it exists with."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    needs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRelease:
    """One range of releases alike. ``sections`` are the configuration keys below a top-level key, where known.

    ``lacks`` and ``faults`` are sentences for people, marked where unverified; ``warnings`` say why this range was
    chosen when the tag does not tell. ``precedence`` names which of the configuration file and a command-line flag wins
    when both set an option.
    """

    name: str
    flags: Table
    config: Table
    sections: Mapping[str, Table]
    metrics: tuple[Metric, ...]
    metric_prefix: str
    precedence: Literal["file", "flag"]
    health_tells_dead_engine: bool
    open_mpi: int
    spawns_ranks_as_root: bool
    lacks: tuple[str, ...]
    faults: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def metric(self, name: str) -> str | None:
        """Return the full name of a metric given without prefix, or None where this release does not have it."""
        return next((self.metric_prefix + metric.name for metric in self.metrics if metric.name == name), None)


@cache
def data() -> Mapping[str, Any]:
    """Return ``data/engines.json`` as it is."""
    text = resources.files("trtllm_operator").joinpath("data/engines.json").read_text(encoding="utf-8")
    return MappingProxyType(json.loads(text))


def default_tag() -> str:
    """Return the image tag of an LLMDeployment that names none: the release this operator was tested with."""
    return str(data()["default"])


def release_names() -> tuple[str, ...]:
    """Return the names of all ranges, oldest first."""
    return tuple(row["name"] for row in data()["releases"])


@lru_cache(maxsize=256)
def find_release(tag: str) -> EngineRelease:
    """Return what is known of an image tag.

    A version that is not in the table gets the newest range that is not newer, a tag that is no version gets the
    default's; both with a warning.
    """
    version = Version.parse(tag)
    default = default_tag()
    if version is None:
        warning = f"image tag {tag!r} does not name a TensorRT-LLM version; it is taken for {default}"
        return replace(_release(_known(default)), warnings=(warning,))
    rows = data()["releases"]
    reached = [index for index, row in enumerate(rows) if _known(row["first"]) <= version]
    row = rows[reached[-1] if reached else 0]
    last = _known(row["last"])
    found = _release(version if reached else last)
    if not reached:
        warning = f"TensorRT-LLM {tag} is older than {row['first']}, the oldest release known; it is taken for that"
        return replace(found, warnings=(warning,))
    if version > last and not version.same_build(last):
        warning = f"TensorRT-LLM {tag} is not known; it is taken for {row['last']}, the newest known that is not newer"
        return replace(found, warnings=(warning,))
    return found


def launcher_environment() -> tuple[tuple[str, str], ...]:
    """Return what mpirun needs in a pod, in the spelling of Open MPI 4 and in that of 5."""
    return tuple((row["name"], row["value"]) for row in data()["launcher_environment"])


def _known(text: str) -> Version:
    version = Version.parse(text)
    if version is None:
        raise ValueError(f"data/engines.json: {text!r} is not a version")
    return version


@cache
def _release(version: Version) -> EngineRelease:
    rows = [row for row in data()["releases"] if _known(row["first"]) <= version]
    facts: dict[str, Any] = {}
    for row in rows:
        facts |= {name: fact["value"] for name, fact in row.get("facts", {}).items()}
    changes = [change for row in rows for change in row["changes"]]
    sections = {change["table"].removeprefix("config.") for change in changes if change["table"].startswith("config.")}
    return EngineRelease(
        name=rows[-1]["name"],
        flags=_table(changes, "flags"),
        config=_table(changes, "config"),
        sections=MappingProxyType({name: _table(changes, f"config.{name}") for name in sorted(sections)}),
        metrics=tuple(_metrics(changes)),
        lacks=tuple(_lacks(version)),
        faults=tuple(_faults(version)),
        **facts,
    )


def _table(changes: list[dict[str, Any]], name: str) -> Table:
    table: dict[str, str] = {}
    for change in changes:
        if change["table"] == name:
            for gone in change.get("remove", ()):
                del table[gone]
            table |= {option: kind for kind, options in change["add"].items() for option in options}
    return MappingProxyType(table)


def _metrics(changes: list[dict[str, Any]]) -> Iterator[Metric]:
    for change in changes:
        if change["table"] == "metrics":
            for kind, names in change["add"].items():
                for name in names:
                    yield Metric(name=name, kind=kind, needs=tuple(change["needs"]))


def _lacks(version: Version) -> Iterator[str]:
    for row in data()["lacks"]:
        if version < _known(row["before"]):
            yield _marked(row["sentence"], verified=version < _known(row["certain_before"]))


def _faults(version: Version) -> Iterator[str]:
    for row in data()["faults"]:
        if _known(row["first"]) <= version and (row["before"] is None or version < _known(row["before"])):
            yield _marked(row["sentence"], verified=row["verified"])


def _marked(sentence: str, *, verified: bool) -> str:
    return sentence if verified else f"{sentence} (unverified)"
