"""What a user adds to trtllm-serve's configuration file and command line, and what is refused there.

An option stands in exactly one place, because which of file and flag wins changed between releases; so what the
operator sets (``data/managed_options.json``) cannot be set a second time.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from trtllm_operator.engine_versions import EngineRelease, Table
from trtllm_operator.refusals import Reason

Config = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRefusal:
    """The command cannot be rendered; ``message`` names the option and the field of the spec to change."""

    reason: Reason
    message: str


def merge(ours: Config, theirs: Mapping[str, Any]) -> Config | EngineRefusal:
    """Return our configuration with the user's merged into it, maps deeply and everything else as a whole."""
    managed = _managed()["config"]
    for path in _paths(theirs):
        if path in managed:
            return EngineRefusal(
                reason=Reason.MANAGED_OPTION,
                message=f"spec.engine.config.{path} is set by the operator: {managed[path]}",
            )
    for key, value in theirs.items():
        if not isinstance(value, Mapping) and (isinstance(ours.get(key), dict) or _is_parent(key, managed)):
            return EngineRefusal(
                reason=Reason.INVALID_ENGINE_VALUE, message=f"spec.engine.config.{key} is {value!r}; it must be a map"
            )
    return _deep(ours, theirs)


def unknown_keys(theirs: Mapping[str, Any], release: EngineRelease) -> Iterator[str]:
    """Say which of the user's keys the release is not known to accept: a warning, for the table may miss a new key."""
    for path, table in _tables(theirs, release):
        key = path.rpartition(".")[2]
        if key not in table:
            yield (
                f"spec.engine.config.{path} is not known to TensorRT-LLM {release.name}{_near(key, table)}; "
                "trtllm-serve ends at start-up on a key it does not know"
            )


def flag_problem(args: Iterable[str], release: EngineRelease) -> EngineRefusal | None:
    """Return why the user's arguments are refused, or None.

    They are read as click reads them: ``--flag value`` and ``--flag=value``, and no value after a switch.
    """
    managed = _managed()["flags"]
    rest = list(args)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if flag in managed:
            return EngineRefusal(
                reason=Reason.MANAGED_OPTION,
                message=f"{flag} in spec.engine.args is set by the operator: {managed[flag]}",
            )
        if flag not in release.flags:
            return EngineRefusal(
                reason=Reason.UNKNOWN_FLAG,
                message=f"{flag!r} in spec.engine.args is not a flag of TensorRT-LLM "
                f"{release.name}{_near(flag, release.flags)}",
            )
        kind = release.flags[flag]
        given = value if equals else rest.pop(0) if rest and kind != "switch" else None
        if not _fits(given, kind):
            told = "no value" if given is None else repr(given)
            return EngineRefusal(
                reason=Reason.INVALID_ENGINE_VALUE, message=f"{flag} in spec.engine.args has {told}; it takes {kind}"
            )
    return None


def _fits(value: str | None, kind: str) -> bool:
    if kind == "switch" or value is None:
        return kind == "switch" and value is None
    if "|" in kind:
        return value in kind.split("|")
    try:
        {"int": int, "float": float}.get(kind, str)(value)
    except ValueError:
        return False
    return True


def _deep(ours: Config, theirs: Mapping[str, Any]) -> Config:
    merged = dict(ours)
    for key, value in theirs.items():
        mine = merged.get(key)
        merged[key] = _deep(mine, value) if isinstance(mine, dict) and isinstance(value, Mapping) else value
    return merged


def _paths(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{key}.")


def _tables(config: Mapping[str, Any], release: EngineRelease) -> Iterator[tuple[str, Table]]:
    for key, value in config.items():
        yield key, release.config
        if key in release.sections and isinstance(value, Mapping):
            for inner in value:
                yield f"{key}.{inner}", release.sections[key]


def _is_parent(key: str, managed: Mapping[str, str]) -> bool:
    return any(path.startswith(f"{key}.") for path in managed)


def _near(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


@cache
def _managed() -> dict[str, dict[str, str]]:
    """Return the managed names, of the file and of the command line, each with what to do instead."""
    text = resources.files("trtllm_operator").joinpath("data/managed_options.json").read_text(encoding="utf-8")
    rows = json.loads(text)["options"]
    return {place: {name: row["instead"] for row in rows for name in row[place]} for place in ("config", "flags")}
