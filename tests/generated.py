"""Objects that the CRD's schema allows, for hypothesis. The rules over several fields may still refuse them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from trtllm_operator.hardware import catalogue as gpus
from trtllm_operator.models import catalogue as models
from trtllm_operator.naming import API_VERSION, KIND
from trtllm_operator.pending import pending
from trtllm_operator.reference import object_schema

Schema = dict[str, Any]
Values = st.SearchStrategy[Any]

_ASCII = st.characters(codec="ascii")
_LABEL_KEYS = st.sampled_from(["team", "example.com/team", "a.b-c_d", "A"])
_FREE_FORM = st.dictionaries(
    st.text(max_size=9),
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=9), inner, max_size=2),
        max_leaves=5,
    ),
    max_size=3,
)
_LIKELY: dict[str, Values] = {
    "spec.model.uri": st.sampled_from([f"hf://{model.name}" for model in models().values()]),
    "spec.gpus.product": st.sampled_from(sorted(gpus())),
    "spec.gpus.pools[].product": st.sampled_from(sorted(gpus())),
}
"""Values that mean something, beside any that the schema allows: else hardly an object would get as far as a plan."""

_PENDING = {f"spec.{row.field}" for row in pending() if row.value == "*"}
_MOST_OPTIONAL = 4
_SMALL = 16
_LIKELY_TO_ANY = 9
"""So many objects with a likely value to one with any."""


def objects() -> Values:
    """Return objects the schema allows."""
    spec = object_schema()["properties"]["spec"]
    return st.builds(
        lambda spec: {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "llama"}, "spec": spec},
        _object(spec, "spec"),
    )


def _object(schema: Schema, path: str) -> Values:
    fields = {name: _values(child, f"{path}.{name}") for name, child in schema["properties"].items()}
    required = {name: fields[name] for name in schema.get("required", [])}
    optional = [name for name in fields if name not in required]
    return _some_of(optional, path).flatmap(
        lambda chosen: st.fixed_dictionaries({**required, **{name: fields[name] for name in chosen}})
    )


def _some_of(names: list[str], path: str) -> Values:
    """Choose a few: an object with every field breaks some rule, and one with a pending field is never planned."""
    if not names:
        return st.just([])
    some = st.lists(st.sampled_from(names), max_size=_MOST_OPTIONAL, unique=True)
    acted_on = [name for name in names if f"{path}.{name}" not in _PENDING]
    if len(acted_on) in (0, len(names)):
        return some
    few = st.lists(st.sampled_from(acted_on), max_size=_MOST_OPTIONAL, unique=True)
    return st.one_of(few, few, few, some)


def _values(schema: Schema, path: str) -> Values:
    allowed = _allowed(schema, path)
    if path not in _LIKELY:
        return allowed
    return st.integers(0, _LIKELY_TO_ANY).flatmap(lambda number: _LIKELY[path] if number else allowed)


def _allowed(schema: Schema, path: str) -> Values:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return st.integers(0, 2**31) | _text(schema)
    by_type: dict[str, Callable[[], Values]] = {
        "boolean": st.booleans,
        "integer": lambda: _integers(schema["minimum"], schema["maximum"]),
        "string": lambda: _text(schema),
        "array": lambda: _list(schema, path),
        "object": lambda: _object(schema, path) if "properties" in schema else _map(schema, path),
    }
    return by_type[schema["type"]]()


def _map(schema: Schema, path: str) -> Values:
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return _FREE_FORM
    return st.dictionaries(_LABEL_KEYS, _values(schema["additionalProperties"], f"{path}[]"), max_size=3)


def _integers(least: int, most: int) -> Values:
    small = st.integers(least, min(most, least + _SMALL))
    powers = st.sampled_from([2**n for n in range(64) if least <= 2**n <= most] or [least])
    return st.one_of(small, powers, st.sampled_from([least, most]), st.integers(least, most))


def _text(schema: Schema) -> Values:
    least, most = schema.get("minLength", 0), schema.get("maxLength", 64)
    if "pattern" not in schema:
        return st.text(st.characters(codec="utf-8"), min_size=least, max_size=min(most, 64))
    texts = st.from_regex(schema["pattern"], fullmatch=True, alphabet=_ASCII)
    return texts.filter(lambda text: least <= len(text) <= most)


def _list(schema: Schema, path: str) -> Values:
    items = _values(schema["items"], f"{path}[]")
    keys = schema.get("x-kubernetes-list-map-keys")
    is_set = schema.get("x-kubernetes-list-type") == "set"
    least = schema.get("minItems", 0)
    most = min(schema["maxItems"], max(least, 3))
    if keys:
        return st.lists(items, min_size=least, max_size=most, unique_by=lambda item: tuple(item[key] for key in keys))
    return st.lists(items, min_size=least, max_size=most, unique=is_set)
