"""Templates with holes: YAML gives a manifest its structure, and no value ever passes through YAML.

Every ``{{ }}`` leaves a hole in the text; what was parsed is then filled with the values themselves. A string stays one
string whatever it holds, an undefined name raises, and a text that comes again, with whatever values, is not parsed
again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, lru_cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, Template, Undefined, pass_context
from jinja2.runtime import Context

from trtllm_operator import strict_yaml

Manifest = dict[str, Any]

_HOLES = "values of the holes"
_MARK = re.compile(r"<(\d+)>")
_SCALARS = frozenset({str, int, bool, float, type(None)})

TEXTS = 256
"""Texts whose structure is remembered; one template makes as many as its branches and loops take shapes."""


@dataclass(frozen=True, slots=True)
class _Hole:
    index: int


@cache
def environment() -> Environment:
    """Return where the templates of this package are, and how their holes are made."""
    return Environment(
        loader=PackageLoader("trtllm_operator"),
        undefined=StrictUndefined,
        finalize=_hole,
        autoescape=False,  # noqa: S701 - no value is part of the text
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def fill(template: Template, context: object) -> Manifest:
    """Return the manifest of a template of ``environment`` for a context, which the template calls ``ctx``.

    Raises jinja2.UndefinedError for a name the context lacks, yaml.YAMLError for a duplicate key, several documents
    or a value that is a part of a longer text.
    """
    values: list[Any] = []
    manifest = _filled(_structure(template.render({"ctx": context, _HOLES: values})), values)
    if not isinstance(manifest, dict):
        raise yaml.YAMLError(f"{template.name}: a template must render to one mapping")
    return manifest


@pass_context
def _hole(context: Context, value: object) -> str:
    values: list[Any] = context[_HOLES]
    values.append(_plain(value))
    return f"<{len(values) - 1}>"


def _plain(value: object) -> Any:
    """Return a value as JSON would give it back, a copy of its own."""
    if value.__class__ in _SCALARS:
        return value
    if value.__class__ is dict:
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Undefined):
        str(value)  # raises UndefinedError, with the name
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return json.loads(json.dumps(value))


@lru_cache(maxsize=TEXTS)
def _structure(text: str) -> Any:
    return _with_holes(strict_yaml.load(text))


def _with_holes(node: Any) -> Any:
    if isinstance(node, dict):
        return {_with_holes(key): _with_holes(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_with_holes(item) for item in node]
    if isinstance(node, str) and (mark := _MARK.search(node)):
        if mark[0] != node:
            raise yaml.YAMLError(f"{node!r}: a value must be a whole key, item or value")
        return _Hole(int(mark[1]))
    return node


def _filled(node: Any, values: Sequence[Any]) -> Any:
    if node.__class__ is _Hole:
        return values[node.index]
    if node.__class__ is dict:
        mapping = {_filled(key, values): _filled(value, values) for key, value in node.items()}
        if len(mapping) < len(node):
            keys = [str(_filled(key, values)) for key in node]
            twice = sorted({key for key in keys if keys.count(key) > 1})
            raise yaml.YAMLError(f"duplicate keys: {', '.join(twice)}")
        return mapping
    if node.__class__ is list:
        return [_filled(item, values) for item in node]
    return node
