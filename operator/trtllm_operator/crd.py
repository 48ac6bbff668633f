"""The CustomResourceDefinition, made from the models in ``api.py`` and ``api_status.py``.

pydantic's JSON schema becomes a structural schema: references inlined, ``anyOf [X, null]`` folded into X (optional
means absent), titles and client-side defaults dropped where the API server must not store them.
"""

from __future__ import annotations

from typing import Any

import yaml

from trtllm_operator.api import NAME_RULE, LLMDeploymentSpec
from trtllm_operator.api_base import ApiModel
from trtllm_operator.api_status import LLMDeploymentStatus
from trtllm_operator.naming import GROUP, KIND, PLURAL, VERSION

Schema = dict[str, Any]

_NEUTRAL: tuple[Any, ...] = (None, "Auto", "auto", [], {})
"""Defaults that ask for nothing, as False does: stored in every object they would only be in the reader's way."""

_KEPT = frozenset(
    {
        "default", "description", "enum", "format", "items", "maxItems", "maxLength", "maxProperties", "maximum",
        "minItems", "minLength", "minProperties", "minimum", "pattern", "properties", "required", "type",
        "x-kubernetes-int-or-string", "x-kubernetes-list-map-keys", "x-kubernetes-list-type",
        "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations",
    }
)  # fmt: skip


def _structural(node: Schema, definitions: Schema) -> Schema:
    if "$ref" in node:
        target = definitions[node["$ref"].removeprefix("#/$defs/")]
        return _structural({**target, **{k: v for k, v in node.items() if k != "$ref"}}, definitions)
    if "anyOf" in node:
        branches = [branch for branch in node["anyOf"] if branch.get("type") != "null"]
        if len(branches) != 1:
            raise TypeError(f"a union of several types cannot be a structural schema: {node}")
        outer = {k: v for k, v in node.items() if k != "anyOf"}
        return _structural({**_resolve(branches[0], definitions), **outer}, definitions)
    kept = _own_keys(node)
    if "properties" in kept:
        kept["properties"] = {name: _structural(child, definitions) for name, child in kept["properties"].items()}
    if "items" in kept:
        kept["items"] = _structural(kept["items"], definitions)
    if kept.get("x-kubernetes-preserve-unknown-fields"):
        return kept
    if isinstance(node.get("additionalProperties"), dict):
        kept["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    return kept


def _own_keys(node: Schema) -> Schema:
    kept = {k: v for k, v in node.items() if k in _KEPT}
    if "const" in node:
        kept["enum"] = [node["const"]]
    if kept.get("default", ...) is False or kept.get("default", ...) in _NEUTRAL:
        del kept["default"]
    if kept.get("x-kubernetes-int-or-string"):
        del kept["type"]
    if "description" in kept:
        kept["description"] = " ".join(str(kept["description"]).split())
    if kept.get("type") == "integer":
        kept.setdefault("format", "int64")
    return kept


def _resolve(node: Schema, definitions: Schema) -> Schema:
    return definitions[node["$ref"].removeprefix("#/$defs/")] if "$ref" in node else node


def _schema_of(model: type[ApiModel]) -> Schema:
    schema = model.model_json_schema(by_alias=True, mode="validation")
    definitions = schema.pop("$defs", {})
    return _structural(schema, definitions)


def _without_defaults(node: Schema) -> Schema:
    """Return the schema of a status: only the operator writes it, so the API server must add nothing."""
    result = {k: v for k, v in node.items() if k != "default"}
    if "properties" in result:
        result["properties"] = {name: _without_defaults(child) for name, child in result["properties"].items()}
    if "items" in result:
        result["items"] = _without_defaults(result["items"])
    return result


def _status_schema() -> Schema:
    schema = _without_defaults(_schema_of(LLMDeploymentStatus))
    conditions = schema["properties"]["conditions"]
    conditions["x-kubernetes-list-type"] = "map"
    conditions["x-kubernetes-list-map-keys"] = ["type"]
    # kstatus: without these two a brand-new object would count as reconciled before the operator has seen it.
    schema["default"] = {"observedGeneration": -1}
    conditions["default"] = [
        {
            "type": "Ready",
            "status": "Unknown",
            "reason": "Pending",
            "message": "Waiting for the operator",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
            "observedGeneration": 0,
        }
    ]
    return schema


def _columns() -> list[Schema]:
    def column(name: str, path: str, kind: str = "string", priority: int = 0) -> Schema:
        return {"name": name, "type": kind, "jsonPath": path, "priority": priority}

    return [
        column("Model", ".status.model.name"),
        column("Dtype", ".status.model.checkpointDtype"),
        column("GPUs", ".status.plan.gpus", "integer"),
        column("TP", ".status.plan.tensor", "integer"),
        column("PP", ".status.plan.pipeline", "integer"),
        column("Ready", ".status.ready"),
        column("Status", '.status.conditions[?(@.type=="Ready")].reason'),
        column("Age", ".metadata.creationTimestamp", "date"),
        column("GPU", ".status.plan.gpuProduct", priority=1),
        column("Plan", ".status.plan.summary", priority=1),
        column("URL", ".status.url", priority=1),
        column("Cost", ".status.cost.perHour", priority=1),
    ]


def crd() -> Schema:
    """Return the CustomResourceDefinition of LLMDeployment."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["llmd"],
                "categories": ["llm"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": _columns(),
                    "selectableFields": [{"jsonPath": ".spec.model.uri"}, {"jsonPath": ".spec.dtype"}],
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "schema": {
                        "openAPIV3Schema": {
                            "description": "LLMDeployment serves one large language model with TensorRT-LLM.",
                            "type": "object",
                            "required": ["spec"],
                            "properties": {
                                "apiVersion": {"type": "string"},
                                "kind": {"type": "string"},
                                # The bound is Kubernetes' own; without one NAME_RULE is estimated to cost too much.
                                "metadata": {
                                    "type": "object",
                                    "properties": {"name": {"type": "string", "maxLength": 253}},
                                },
                                "spec": _schema_of(LLMDeploymentSpec),
                                "status": _status_schema(),
                            },
                            "x-kubernetes-validations": [NAME_RULE],
                        }
                    },
                }
            ],
        },
    }


def crd_yaml() -> str:
    """Return the CRD as the text of the committed file."""
    header = "# Generated from operator/trtllm_operator/api.py by `make update`. Do not edit.\n"
    return header + yaml.safe_dump(crd(), sort_keys=False, width=120, allow_unicode=True)
