"""Whether a manifest has only fields its API knows, offline: the pinned OpenAPI of Kubernetes and the pinned CRDs.

It finds unknown fields, wrong types, missing fields and values outside an enumeration. It evaluates no CEL rule, no
admission and no validation that is code: ``Namespace.assert_accepted`` asks the real API server for those.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft4Validator

from trtllm_operator.crd import crd
from trtllm_operator.sandbox import ADDONS

Schema = dict[str, Any]

_OPENAPI = Path(__file__).parent / "data" / "kubernetes-openapi.json.xz"
_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_REFERENCE = "#/components/schemas/"


def problems(manifest: Mapping[str, Any]) -> list[str]:
    """Return one line for each field the API server would refuse; raises KeyError for a kind without a schema."""
    validator = Draft4Validator(_schema_of(manifest["apiVersion"], manifest["kind"]))
    return sorted(f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(manifest))


@cache
def pinned_schemas() -> dict[str, Schema]:
    """The schemas of Kubernetes by name, as its API server serves them."""
    schemas: dict[str, Schema] = json.loads(lzma.decompress(_OPENAPI.read_bytes()))
    return schemas


def strict(schema: Schema, *, structural: bool = False) -> Schema:
    """Return a schema of JSON Schema draft 4 that allows no unknown field.

    In a ``structural`` schema (a CRD's) an object without declared fields is empty, for the API server prunes it;
    in the OpenAPI of Kubernetes it is one of unknown content. ``anyOf`` and the like are kept as they are: they
    restrict the values of fields that are declared outside of them.
    """

    def within(part: Schema) -> Schema:
        return strict(part, structural=structural)

    result = {key: value for key, value in schema.items() if not key.startswith("x-")}
    for prose in ("description", "default", "nullable"):
        result.pop(prose, None)
    if "properties" in schema:
        result["properties"] = {name: within(part) for name, part in schema["properties"].items()}
    if "items" in schema:
        result["items"] = within(schema["items"])
    if isinstance(extra := schema.get("additionalProperties"), dict):
        result["additionalProperties"] = within(extra)
    elif _is_closed(schema, structural=structural):
        result["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        result["type"] = ["integer", "string"]
    return {"anyOf": [{"type": "null"}, result]} if schema.get("nullable") else result


def _is_closed(schema: Schema, *, structural: bool) -> bool:
    if schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema:
        return False
    return "properties" in schema or (structural and schema.get("type") == "object")


@cache
def _schema_of(api_version: str, kind: str) -> Schema:
    own = _kinds()[api_version, kind]
    return {"allOf": [own], "components": {"schemas": _strict_core()}}


@cache
def _strict_core() -> dict[str, Schema]:
    return {name: strict(schema) for name, schema in pinned_schemas().items()}


@cache
def _kinds() -> dict[tuple[str, str], Schema]:
    vendored = (yaml.load_all(addon.crds(), yaml.CSafeLoader) for addon in ADDONS.values())
    return {**dict(_core_kinds()), **dict(_custom_kinds(chain([crd()], *vendored)))}


def _core_kinds() -> Iterator[tuple[tuple[str, str], Schema]]:
    for name, schema in pinned_schemas().items():
        for kind in schema.get("x-kubernetes-group-version-kind", []):
            group, version = kind["group"], kind["version"]
            yield (f"{group}/{version}" if group else version, kind["kind"]), {"$ref": f"{_REFERENCE}{name}"}


def _custom_kinds(definitions: Iterable[Schema]) -> Iterator[tuple[tuple[str, str], Schema]]:
    for definition in definitions:
        spec = definition["spec"]
        for version in spec["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"], structural=True)
            schema["properties"] |= {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"$ref": f"{_REFERENCE}{_OBJECT_META}"},
            }
            yield (f"{spec['group']}/{version['name']}", spec["names"]["kind"]), schema
