"""What a change of the CRD's schema takes away from objects that are stored already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

_UPPER = ("maximum", "maxLength", "maxItems", "maxProperties")
_LOWER = ("minimum", "minLength", "minItems", "minProperties")
_FIXED = (
    "type", "pattern", "format", "default", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
)  # fmt: skip
"""A change of these cannot be told from a narrowing, or changes what a stored object means."""


def incompatibilities(old: Schema, new: Schema, path: str = "") -> list[str]:
    """Return how objects valid under ``old`` may be refused, cut or understood otherwise under ``new``."""
    return list(_differences(old, new, path))


def _differences(old: Schema, new: Schema, path: str) -> Iterator[str]:
    yield from (
        f"{path}: {key} changed from {old.get(key)!r} to {new.get(key)!r}"
        for key in _FIXED
        if old.get(key) != new.get(key) and (key in old or key != "default")
    )
    yield from _narrowings(old, new, path)
    for rule in new.get("x-kubernetes-validations", []):
        if rule["rule"] not in {known["rule"] for known in old.get("x-kubernetes-validations", [])}:
            yield f"{path}: new rule {rule['rule']!r}"
    for name, child in old.get("properties", {}).items():
        if name in new.get("properties", {}):
            yield from _differences(child, new["properties"][name], f"{path}.{name}".removeprefix("."))
        else:
            yield f"{path}.{name}: removed".removeprefix(".")
    for key in ("items", "additionalProperties"):
        if isinstance(old.get(key), dict):
            yield from _differences(old[key], new.get(key, {}), f"{path}[]")


def _narrowings(old: Schema, new: Schema, path: str) -> Iterator[str]:
    for name in sorted(set(new.get("required", [])) - set(old.get("required", []))):
        yield f"{path}.{name}: newly required".removeprefix(".")
    for value in _lost_values(old.get("enum"), new.get("enum")):
        yield f"{path}: value {value!r} removed"
    for key in _UPPER:
        if key in new and new[key] < old.get(key, float("inf")):
            yield f"{path}: {key} lowered from {old.get(key)} to {new[key]}"
    for key in _LOWER:
        if key in new and new[key] > old.get(key, float("-inf")):
            yield f"{path}: {key} raised from {old.get(key)} to {new[key]}"


def _lost_values(old: list[Any] | None, new: list[Any] | None) -> list[Any]:
    if new is None:
        return []
    return ["*"] if old is None else [value for value in old if value not in new]
