"""Other tools' names for our flags and values; the table is ``data/flags.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources


@cache
def _tables() -> Mapping[str, Mapping[str, str]]:
    text = resources.files("trtllm_operator").joinpath("data/flags.json").read_text(encoding="utf-8")
    tables: Mapping[str, Mapping[str, str]] = json.loads(text)
    return tables


def aliases() -> Mapping[str, str]:
    """Return flags of other tools, without dashes in front, each with the flag of ours that it means."""
    return _tables()["aliases"]


def refused_flags() -> Mapping[str, str]:
    """Return flags of other tools that have no counterpart here, each with the reason."""
    return _tables()["refused"]


def our_name(name: str) -> str:
    """Return what we call a flag (without the dashes in front) or a value of one; unknown names stay as they are."""
    dashed = name.replace("_", "-")
    known = aliases().get(dashed) or _tables()["values"].get(dashed)
    return known or dashed


def why_refused(flag: str) -> str | None:
    """Return why a flag of another tool has no counterpart here, or None for one nobody has heard of."""
    return refused_flags().get(flag.lstrip("-").replace("_", "-"))
