"""The CRD for people and for editors: the field reference and a JSON schema. Both are made from the CRD alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from trtllm_operator.crd import crd
from trtllm_operator.naming import API_VERSION, KIND

Schema = dict[str, Any]

_COLUMNS = "| Field | Type | Default | Meaning |\n|---|---|---|---|\n"


def object_schema() -> Schema:
    """Return the schema of a whole LLMDeployment, as the CRD holds it."""
    schema: Schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def reference() -> str:
    """Return the field reference as Markdown."""
    root = object_schema()["properties"]
    parts = [
        f"# {KIND} ({API_VERSION})\n",
        "Generated from the CustomResourceDefinition by `make update`. `[]` is an item of a list. What is not marked",
        "*required* may be left out.\n",
    ]
    for part in ("spec", "status"):
        parts += [f"## {part}\n", f"{root[part]['description']}\n", _table(_direct(root[part], part))]
        for name, child in root[part]["properties"].items():
            if rows := list(_below(child, f"{part}.{name}")):
                parts += [f"### {part}.{name}\n", f"{child['description']}\n", _table(rows)]
    return "\n".join(parts)


_Row = tuple[str, Schema, bool]


def _direct(schema: Schema, path: str) -> list[_Row]:
    required = schema.get("required", [])
    return [(f"{path}.{name}", child, name in required) for name, child in schema.get("properties", {}).items()]


def _below(schema: Schema, path: str) -> Iterator[_Row]:
    if "items" in schema:
        yield from _below(schema["items"], f"{path}[]")
    for row in _direct(schema, path):
        yield row
        yield from _below(row[1], row[0])


def _table(rows: list[_Row]) -> str:
    return _COLUMNS + "".join(_line(*row) for row in rows)


def _line(path: str, schema: Schema, required: bool) -> str:  # noqa: FBT001 - the third part of a row
    default = json.dumps(schema["default"]) if "default" in schema else ""
    cells = (
        f"`{path}`",
        _type(schema),
        "*required*" if required else f"`{default}`" if default else "",
        schema["description"],
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _type(schema: Schema) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    match schema["type"]:
        case "integer":
            return "integer" + _range(schema)
        case "array":
            return f"list of {_type(schema['items'])}" + _most(schema.get("maxItems"))
        case "object" if "additionalProperties" in schema:
            return f"map of {_type(schema['additionalProperties'])}" + _most(schema.get("maxProperties"))
        case other:
            return str(other)


def _range(schema: Schema) -> str:
    return f", {schema['minimum']} to {schema['maximum']}" if "maximum" in schema else ""


def _most(limit: int | None) -> str:
    return "" if limit is None else f", at most {limit}"


_EDITOR_KEYS = frozenset(
    {
        "additionalProperties", "default", "description", "enum", "items", "maxItems", "maxLength", "maxProperties",
        "maximum", "minItems", "minLength", "minProperties", "minimum", "pattern", "properties", "required", "type",
    }
)  # fmt: skip


def editor_schema() -> Schema:
    """Return a JSON schema (draft 7) of an LLMDeployment for editors: strict about unknown fields, without status.

    Rules over several fields are CEL and stay with the API server.
    """
    schema = object_schema()
    properties = {
        "apiVersion": {"const": API_VERSION, "description": "Group and version of the API."},
        "kind": {"const": KIND, "description": "Kind of the object."},
        "metadata": {"type": "object", "description": "Name, namespace, labels and annotations."},
        "spec": _strict(schema["properties"]["spec"]),
        "status": {"type": "object", "description": "Written by the operator alone."},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": KIND,
        "description": schema["description"],
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
        "properties": properties,
    }


def _strict(schema: Schema) -> Schema:
    kept = {key: value for key, value in schema.items() if key in _EDITOR_KEYS}
    if schema.get("x-kubernetes-int-or-string"):
        kept["type"] = ["integer", "string"]
    if "properties" in kept:
        kept["properties"] = {name: _strict(child) for name, child in kept["properties"].items()}
        kept["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if isinstance(kept.get(key), dict):
            kept[key] = _strict(kept[key])
    return kept


def editor_schema_json() -> str:
    """Return the schema as the text of the committed file."""
    return json.dumps(editor_schema(), indent=1, ensure_ascii=False) + "\n"
