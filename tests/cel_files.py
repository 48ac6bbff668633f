"""The files of tests/cel: for each rule of the CRD, objects the API server takes and objects it refuses, and how."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from trtllm_operator.reference import object_schema

DIRECTORY = Path(__file__).parent / "cel"
_FORMAT = re.compile(r"'(?P<text>.*)'\.format\(\[", re.DOTALL)
_PLACEHOLDER = re.compile(r"%[sd]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One object; ``stored`` is the spec it replaces, for a rule that compares the two."""

    spec: dict[str, Any]
    stored: dict[str, Any] | None = None
    name: str = "llama"
    field: str = ""
    says: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFile:
    """One file; ``message`` is the rule's, with its placeholders."""

    message: str
    accepted: list[Case] = field(default_factory=list)
    rejected: list[Case] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> RuleFile:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
        cases = {key: [Case(**case) for case in stored.pop(key)] for key in ("accepted", "rejected")}
        return cls(**stored, **cases)

    def speaks_in(self, refusal: str) -> bool:
        """Whether a refusal is this rule's, with any values in place of its placeholders."""
        parts = (re.escape(part) for part in _PLACEHOLDER.split(self.message))
        # The API server trims a message that ends with an empty value.
        return re.search(".*?".join(parts), f"{refusal} ", re.DOTALL) is not None


def rule_files() -> dict[str, RuleFile]:
    return {path.stem: RuleFile.read(path) for path in sorted(DIRECTORY.glob("*.yaml"))}


def cases(kind: str) -> list[Any]:
    """Every accepted or rejected object with its file, as a parameter named after the file and its place in it."""
    return [
        pytest.param(file, case, id=f"{name}-{number}")
        for name, file in rule_files().items()
        for number, case in enumerate(getattr(file, kind))
    ]


def messages() -> set[str]:
    """Return the message of every rule in the CRD, with its placeholders."""
    return {_message(rule) for rule in _rules(object_schema())}


def _rules(schema: dict[str, Any]) -> Iterator[dict[str, str]]:
    yield from schema.get("x-kubernetes-validations", [])
    for child in (*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")):
        if isinstance(child, dict):
            yield from _rules(child)


def _message(rule: dict[str, str]) -> str:
    if "messageExpression" not in rule:
        return rule["message"]
    found = _FORMAT.match(rule["messageExpression"])
    assert found is not None, rule
    return found["text"]
