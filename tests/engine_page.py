"""``docs/engine-versions.md``, written from the engine's data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from trtllm_operator.engine_versions import data

_INTRODUCTION = """\
# Engine versions

Written from `data/engines.json` and `data/managed_options.json` by `make update`; edit those.

trtllm-serve's flags, configuration keys and metric names change between releases, and the operator renders for the
release that the image tag names. A tag such as `1.3.0rc24-custom` counts as `1.3.0rc24`. A version that is not listed
is taken for the newest listed one that is not newer; a digest or a tag such as `latest` is taken for the default,
`{default}`; both with a warning.

**Unverified** marks what was inferred from a text of a neighbouring date, not read in the release itself. Nothing here
was measured on a GPU.
"""

_FACTS = {
    "precedence": "Wins when both set an option",
    "metric_prefix": "Metric prefix",
    "health_tells_dead_engine": "`/health` fails when the engine is dead",
    "open_mpi": "Open MPI",
    "spawns_ranks_as_root": "Starts its ranks as root",
}

_TABLES = {"flags": "flags", "config": "configuration keys", "metrics": "metrics"}


def engine_page() -> str:
    """Return the page."""
    sections = (_overview(), _releases(), _lacks(), _faults(), _launcher(), _managed(), _sources())
    lines = [line for section in sections for line in section]
    return _INTRODUCTION.format(default=data()["default"]) + "\n" + "\n".join(lines) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""


def _overview() -> Iterator[str]:
    yield "## At a glance"
    yield ""
    facts: dict[str, Mapping[str, Any]] = {}
    rows = []
    for release in data()["releases"]:
        facts |= release.get("facts", {})
        rows.append([_range(release), *(_fact(facts[name]) for name in _FACTS)])
    yield from _table(["Release", *_FACTS.values()], rows)


def _releases() -> Iterator[str]:
    yield "## What each release accepts"
    yield ""
    yield "Everything of the release above it, and:"
    yield ""
    for release in data()["releases"]:
        yield f"### {_range(release)}"
        yield ""
        for change in release["changes"]:
            yield from _change(change)
        if not release["changes"]:
            yield "* no further option"
        yield ""


def _change(change: Mapping[str, Any]) -> Iterator[str]:
    table = change["table"]
    what = _TABLES.get(table) or f"keys of `{table.removeprefix('config.')}`"
    needs = f", with {_names(change['needs'])}" if "needs" in change else ""
    names = {name for options in change["add"].values() for name in options}
    removed = set(change.get("remove", ()))
    for verb, some in (("", names - removed), (" with other values", names & removed), (" gone", removed - names)):
        if some:
            yield f"* {what}{verb}{needs}: {_names(sorted(some))}{_source(change)}"


def _lacks() -> Iterator[str]:
    yield "## What earlier releases lack"
    yield ""
    for lack in data()["lacks"]:
        inferred = {**lack, "verified": lack["certain_before"] == lack["before"]}
        certain = "" if inferred["verified"] else f" from {lack['certain_before']} on"
        yield f"* before {lack['before']}: {lack['sentence']}{_source(inferred)}{certain}"
    yield ""


def _faults() -> Iterator[str]:
    yield "## Known faults"
    yield ""
    for fault in data()["faults"]:
        until = f", before {fault['before']}" if fault["before"] else ""
        yield f"* from {fault['first']}{until}: {fault['sentence']}{_source(fault)}"
    yield ""


def _launcher() -> Iterator[str]:
    yield "## What mpirun is told"
    yield ""
    yield "In the spelling of Open MPI 4 and in that of Open MPI 5, for every release:"
    yield ""
    for variable in data()["launcher_environment"]:
        yield f"* `{variable['name']}={variable['value']}`{_source(variable)}"
    yield ""


def _managed() -> Iterator[str]:
    yield "## What the operator sets itself"
    yield ""
    yield "Refused in `spec.engine.config` and `spec.engine.args`:"
    yield ""
    text = resources.files("trtllm_operator").joinpath("data/managed_options.json").read_text(encoding="utf-8")
    rows = [[_names(row["config"]), _names(row["flags"]), row["instead"]] for row in json.loads(text)["options"]]
    yield from _table(["Key", "Flag", "Instead"], rows)


def _sources() -> Iterator[str]:
    yield "## Sources"
    yield ""
    yield from _table(["Name", "What was read"], [[name, text] for name, text in sorted(data()["sources"].items())])


def _range(release: Mapping[str, Any]) -> str:
    same = release["first"] == release["last"]
    return str(release["first"]) if same else f"{release['first']} to {release['last']}"


def _fact(fact: Mapping[str, Any]) -> str:
    shown = {True: "yes", False: "no", "": "none"}.get(fact["value"], str(fact["value"]))
    return shown if fact["verified"] else f"{shown} (unverified)"


def _source(row: Mapping[str, Any]) -> str:
    return f" [{row['source']}]" + ("" if row["verified"] else " **unverified**")


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "-"
