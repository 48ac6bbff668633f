"""Fields of the API that this release does not act on yet. A spec that sets one is refused, never half obeyed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Any

from trtllm_operator import strict_yaml
from trtllm_operator.api import LLMDeploymentSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingField:
    """A field, or with ``value`` (a pattern such as ``pvc://*``) some of its values, and what to do meanwhile."""

    field: str
    value: str = "*"
    instead: str


@cache
def pending() -> tuple[PendingField, ...]:
    """Return every field that nothing acts on yet."""
    text = resources.files("trtllm_operator").joinpath("data/pending.yaml").read_text(encoding="utf-8")
    return tuple(PendingField(**row) for row in strict_yaml.load(text))


def pending_fields(spec: LLMDeploymentSpec) -> tuple[tuple[str, str], ...]:
    """Return the path and the refusal of every pending field this spec sets to more than its default."""
    return refusals(spec, pending())


def refusals(spec: LLMDeploymentSpec, fields: Iterable[PendingField]) -> tuple[tuple[str, str], ...]:
    """Return the path and the refusal of those of ``fields`` that this spec sets to more than their default."""
    stated = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    found = ((row, _value(stated, row.field)) for row in fields)
    return tuple((f"spec.{row.field}", _refusal(row, value)) for row, value in found if _asks(row, value))


def _value(stated: Any, path: str) -> Any:
    for name in path.split("."):
        stated = stated.get(name) if isinstance(stated, dict) else None
    return stated


def _asks(row: PendingField, value: Any) -> bool:
    if value is None or value in ("", [], {}):
        return False
    return row.value == "*" or (isinstance(value, str) and fnmatchcase(value, row.value))


def _refusal(row: PendingField, value: Any) -> str:
    stated = f": {value}" if row.value != "*" else ""
    return f"spec.{row.field}{stated} is not supported by this release; {row.instead}"
