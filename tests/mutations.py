"""Every property of the spec, changed in every way that is wrong or odd."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trtllm_operator.pending import pending
from trtllm_operator.reference import object_schema

Manifest = dict[str, Any]
Schema = dict[str, Any]
Place = tuple[str | int, ...]

EVERY_FIELD = Path(__file__).parent / "data" / "every-field.yaml"
DELETED = object()
ODD_TEXTS = {
    "huge": "a" * 10_000,
    "unicode": "ünïcödé 🙂",
    "dash": "--leading",
    "variable": "$(HF_TOKEN)",
    "newline": "a\nhostNetwork: true",
    "mapping": "a: b # c",
    "alias": "*anchor",
    "template": "{{ 7*7 }}",
    "boolean": "no",
    "number": "0x10",
    "exponent": "1e3",
    "line separator": "a\u2028b",
}
MOST_OF_A_KEY = 1000
"""YAML reads no longer key on one line."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One value put in one place."""

    place: Place
    what: str
    value: Any

    def __str__(self) -> str:
        return f"{text(self.place)}={self.what}"

    def of(self, spec: Manifest) -> Manifest:
        mutated = deepcopy(spec)
        inner: Any = mutated
        for name in self.place[:-1]:
            inner = inner[name]
        if self.value is DELETED:
            del inner[self.place[-1]]
        else:
            inner[self.place[-1]] = self.value
        return mutated


def text(place: Place) -> str:
    return "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in ("spec", *place)).removeprefix(".")


def properties() -> set[str]:
    """Return every property of the spec, items of lists as []."""
    return set(_properties(object_schema()["properties"]["spec"], "spec"))


def _properties(schema: Schema, path: str) -> Iterator[str]:
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from _properties(child, f"{path}.{name}")
    if "items" in schema:
        yield from _properties(schema["items"], f"{path}[]")


def places() -> dict[str, tuple[Manifest, Place, Schema]]:
    """Return for each property a spec that has it, where it is there, and its schema."""
    schema = object_schema()["properties"]["spec"]
    found: dict[str, tuple[Manifest, Place, Schema]] = {}
    for spec in yaml.safe_load_all(EVERY_FIELD.read_text(encoding="utf-8")):
        for path, place, child in _places(spec, schema, "spec", ()):
            found.setdefault(path, (_around(spec, place), place, child))
    return found


def distinct_places() -> dict[str, tuple[Manifest, Place, Schema]]:
    """Return a place of each kind: what several groups share, such as a label selector, is tried once."""
    kinds = {(path.rsplit(".", 1)[1], json.dumps(place[2])): path for path, place in reversed(places().items())}
    return {path: place for path, place in places().items() if path in kinds.values()}


def _places(value: Any, schema: Schema, path: str, place: Place) -> Iterator[tuple[str, Place, Schema]]:
    if isinstance(value, dict) and "properties" in schema:
        for name, child in value.items():
            yield f"{path}.{name}", (*place, name), schema["properties"][name]
            yield from _places(child, schema["properties"][name], f"{path}.{name}", (*place, name))
    elif isinstance(value, list) and value:
        yield from _places(value[0], schema["items"], f"{path}[]", (*place, 0))


def _around(spec: Manifest, place: Place) -> Manifest:
    """Return the model, the group of this place and no other field that would be refused as not supported yet."""
    kept = deepcopy({name: spec[name] for name in ("model", place[0]) if name in spec})
    dotted = ".".join(str(name) for name in place if not isinstance(name, int))
    for row in pending():
        apart = not (f"{dotted}.".startswith(f"{row.field}.") or f"{row.field}.".startswith(f"{dotted}."))
        if row.value == "*" and apart:
            _remove(kept, row.field.split("."))
    return kept


def _remove(inner: Any, path: list[str]) -> None:
    if isinstance(inner, dict) and path[0] in inner:
        if len(path) == 1:
            del inner[path[0]]
        else:
            _remove(inner[path[0]], path[1:])


def mutations(place: Place, schema: Schema) -> list[Mutation]:
    """Return what is tried in one place."""
    tried: dict[str, Any] = {"deleted": DELETED, "null": None, "list": [{}], "text": "x", "number": -7, "true": True}
    kind = schema.get("type")
    if kind == "integer":
        tried |= {"below": schema["minimum"] - 1, "above": schema["maximum"] + 1, "vast": 2**63, "fraction": 1.5}
    elif kind == "array":
        tried |= {"empty": [], "too many": [schema.get("default", {})] * (schema["maxItems"] + 1)}
    elif kind == "object":
        tried |= {"empty": {}, "unknown": {"novelty": 1}}
        tried |= {
            f"key {what}": {odd[:MOST_OF_A_KEY]: "x"} for what, odd in ODD_TEXTS.items() if "properties" not in schema
        }
    elif kind != "boolean":
        tried |= {"empty": "", **ODD_TEXTS}
    return [Mutation(place, what, value) for what, value in tried.items()]
