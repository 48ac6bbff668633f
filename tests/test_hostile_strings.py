"""Every string of the spec, however it reads, ends up in the fields meant for it and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from builders import LLAMA_70B, a_plan, a_spec
from trtllm_operator.api import ApiModel, LLMDeploymentSpec
from trtllm_operator.crd import crd
from trtllm_operator.planned import Infeasible, Plan
from trtllm_operator.render import Manifest, Owner, render
from trtllm_operator.settings import Settings

HOSTILE = ["$(HF_TOKEN)", 'x"\nhostNetwork: true\nfoo: "', "no", "a: b # c", "{{ 7*7 }}", "\u0085\u2028", "*anchor"]
WORD, SIZE, ADDRESS = "word7", "7Gi", "http://word7"
CLAIM = {"modelCache": {"pvc": {"size": "200Gi"}}}
STRINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "model.name": (WORD, {"model": {"uri": LLAMA_70B, "name": WORD}}),
    "model.revision": (WORD, {"model": {"uri": LLAMA_70B, "revision": WORD}}),
    "model.secretRef": (WORD, {"model": {"uri": LLAMA_70B, "secretRef": {"name": WORD, "key": WORD}}}),
    "engine.env.value": (WORD, {"engine": {"env": [{"name": "A", "value": WORD}]}}),
    "engine.env.valueFrom": (
        WORD,
        {"engine": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": WORD, "key": WORD}}}]}},
    ),
    "engine.args": (WORD, {"engine": {"args": ["--tool_parser", WORD]}}),
    "engine.config": (WORD, {"engine": {"config": {"tokenizer": WORD}}}),
    "engine.image": (WORD, {"engine": {"image": {"repository": WORD, "tag": WORD, "pullSecrets": [WORD]}}}),
    "modelCache.pvc": (
        WORD,
        {"modelCache": {"pvc": {"name": WORD, "size": "1Gi", "storageClass": WORD, "subPath": WORD}}},
    ),
    "download.model": (
        WORD,
        {"model": {"uri": LLAMA_70B, "revision": WORD, "secretRef": {"name": WORD, "key": WORD}}, **CLAIM},
    ),
    "download.pod": (
        WORD,
        {"nodeSelector": {"pool": WORD}, "podMetadata": {"labels": {"a": WORD}, "annotations": {"a": WORD}}, **CLAIM},
    ),
    "download.proxy": (WORD, {"proxy": {"httpProxy": "http://a", "noProxy": WORD, "caConfigMap": WORD}, **CLAIM}),
    "download.engine": (
        WORD,
        {
            "engine": {"image": {"repository": WORD, "pullSecrets": [WORD]}, "env": [{"name": "A", "value": WORD}]},
            **CLAIM,
        },
    ),
    "modelCache.emptyDir": (SIZE, {"modelCache": {"emptyDir": {"sizeLimit": SIZE}}}),
    "sharedMemorySize": (SIZE, {"sharedMemorySize": SIZE}),
    "resources": (SIZE, {"resources": {"requests": {"memory": SIZE}, "limits": {"memory": SIZE}}}),
    "nodeSelector": (WORD, {"nodeSelector": {"pool": WORD}}),
    "tolerations": (WORD, {"tolerations": [{"key": WORD, "value": WORD}]}),
    "affinity": (
        WORD,
        {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": WORD}]}}},
    ),
    "topologySpreadConstraints": (
        WORD,
        {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": WORD, "whenUnsatisfiable": "DoNotSchedule"}]},
    ),
    "priorityClassName": (WORD, {"priorityClassName": WORD}),
    "schedulerName": (WORD, {"schedulerName": WORD}),
    "runtimeClassName": (WORD, {"runtimeClassName": WORD}),
    "serviceAccountName": (WORD, {"serviceAccountName": WORD}),
    "podMetadata": (WORD, {"podMetadata": {"labels": {"a": WORD}, "annotations": {"a": WORD}}}),
    "proxy.addresses": (ADDRESS, {"proxy": {"httpProxy": ADDRESS, "httpsProxy": ADDRESS}}),
    "affinity.nodes": (
        WORD,
        {
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [{"matchExpressions": [{"key": WORD, "operator": "In", "values": [WORD]}]}]
                    }
                }
            }
        },
    ),
    "affinity.pods": (
        WORD,
        {
            "affinity": {
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [
                        {
                            "topologyKey": WORD,
                            "namespaces": [WORD],
                            "labelSelector": {
                                "matchLabels": {"a": WORD},
                                "matchExpressions": [{"key": WORD, "operator": "In", "values": [WORD]}],
                            },
                            "namespaceSelector": {"matchLabels": {"a": WORD}},
                        }
                    ]
                }
            }
        },
    ),
    "topologySpreadConstraints.labels": (
        WORD,
        {
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "zone",
                    "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {
                        "matchLabels": {"a": WORD},
                        "matchExpressions": [{"key": WORD, "operator": "In", "values": [WORD]}],
                    },
                    "matchLabelKeys": [WORD],
                }
            ]
        },
    ),
    "engine.env.references": (
        WORD,
        {
            "engine": {
                "env": [
                    {"name": "A", "valueFrom": {"configMapKeyRef": {"name": WORD, "key": WORD}}},
                ]
            }
        },
    ),
    "expose.ingress": (WORD, {"expose": {"ingress": {"className": WORD, "host": WORD, "tlsSecretName": WORD}}}),
    "expose.gateway": (WORD, {"expose": {"gateway": {"name": WORD, "namespace": WORD, "hostnames": [WORD]}}}),
    "expose.inferencePool": (WORD, {"expose": {"inferencePool": {"endpointPicker": {"name": WORD}}}}),
    "monitoring": ("15m", {"monitoring": {"podMonitor": True, "interval": "15m", "labels": {"a": "15m"}}}),
    "scaling.keda": (ADDRESS, {"scaling": {"maxReplicas": 2, "keda": {"prometheusAddress": ADDRESS}}}),
    "proxy.others": (WORD, {"proxy": {"httpProxy": "http://a", "noProxy": WORD, "caConfigMap": WORD}}),
}
"""Every string of the spec that reaches a manifest: a value that is valid, and a spec that has it there."""


NOT_TEXT = {
    "cost.currency": "shown in the status alone",
    "cost.perGpuHour": "a number, for the status",
    "engine.env.valueFrom.fieldRef.fieldPath": "one of the downward API's paths, by its pattern",
    "engine.env.name": "a name the API server takes is one a shell takes",
    "expose.ingress.annotations": "tests/test_surroundings.py",
    "expose.service.annotations": "tests/test_surroundings.py",
    "gpus.memory": "read by the planner",
    "gpus.pools.product": "found in the catalogue or refused",
    "gpus.product": "found in the catalogue or refused",
    "gpus.resourceName": "a key of limits, test_a_plan_s_gpus_win_over_a_resource_of_the_same_name",
    "model.configMapRef.name": "read by the operator",
    "model.shape.architecture": "read by the planner",
    "model.uri": "read: repository, volume or image",
    "modelCache.hostPath": "only where the administrator allows it, test_a_directory_of_the_node",
    "modelCache.pvc.size": "a quantity, read for the download's annotation",
    "networkPolicy.allowFromNamespaces": "DNS labels, sorted among the object's own namespace",
    "scaling.target": "a number",
}
"""Strings that no manifest holds as they are, or that are proved elsewhere."""


def _strings(schema: Any, path: str = "") -> Iterator[str]:
    """Yield the path of every string of the spec that is no choice; keys of maps and items of lists have their own."""
    if schema.get("type") == "string" and "enum" not in schema:
        yield path
    for name, child in schema.get("properties", {}).items():
        yield from _strings(child, f"{path}.{name}".lstrip("."))
    for below in ("items", "additionalProperties"):
        if isinstance(schema.get(below), dict):
            yield from _strings(schema[below], path)


def _has_word(fields: Any, path: list[str]) -> bool:
    if isinstance(fields, list | tuple):
        return any(_has_word(item, path) for item in fields)
    if isinstance(fields, dict) and path:
        return path[0] in fields and _has_word(fields[path[0]], path[1:])
    found = fields.values() if isinstance(fields, dict) else [fields]
    return any(word in found for word in (WORD, SIZE, ADDRESS, "15m"))


def test_every_string_of_the_spec_is_tried() -> None:
    specs = [fields for _, fields in STRINGS.values()]
    spec = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    # An affinity is handed on as a whole; the samples above stand for its many places.
    paths = {path for path in _strings(spec) if not path.startswith("affinity.")}
    assert {path for path in paths if not any(_has_word(fields, path.split(".")) for fields in specs)} == {*NOT_TEXT}


def _rendered(spec: LLMDeploymentSpec, made: Plan) -> dict[str, Manifest]:
    found = render(Owner(name="llama", namespace="team-a"), spec, made, Settings())
    assert not isinstance(found, Infeasible), found
    return {manifest["kind"]: manifest for manifest in found}


def _replaced(value: Any, word: str, text: str) -> Any:
    """Put a text where a word is, past the patterns with which the API server refuses most hostile ones."""
    if isinstance(value, ApiModel):
        fields = type(value).model_fields
        return value.model_copy(update={name: _replaced(getattr(value, name), word, text) for name in fields})
    if isinstance(value, dict):
        return {key: _replaced(below, word, text) for key, below in value.items()}
    if isinstance(value, tuple):
        return tuple(_replaced(below, word, text) for below in value)
    return text if value == word else value


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {name: leaf for key, below in items for name, leaf in _leaves(below, f"{path}.{key}").items()}
    return {path: value}


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", STRINGS)
def test_a_hostile_string_changes_nothing_but_its_own_value(field: str, text: str) -> None:
    word, fields = STRINGS[field]
    spec = LLMDeploymentSpec.model_validate({"model": {"uri": LLAMA_70B}, **fields}, extra="forbid")
    made = a_plan(a_spec())
    plain = _leaves(_content(_rendered(spec, made)))
    hostile = _leaves(_content(_rendered(_replaced(spec, word, text), made)))
    assert plain.keys() == hostile.keys()
    changed = {path for path in plain if plain[path] != hostile[path]}
    assert changed == {path for path in plain if word in str(plain[path])}
    assert changed, f"{field} reaches no manifest"
    for path in changed:
        expanded = ".args." in path or (".env." in path and path.endswith(".value"))
        assert hostile[path] == plain[path].replace(word, text.replace("$(", "$$(") if expanded else text), path


def _content(rendered: dict[str, Manifest]) -> dict[str, Any]:
    """Read the configuration file, and leave out what is a digest of the rest."""
    found: dict[str, Any] = json.loads(json.dumps(rendered))
    found["ConfigMap"]["data"] = json.loads(found["ConfigMap"]["data"]["engine.json"])
    for named_by_digest in ("ConfigMap", "Job"):
        found.get(named_by_digest, {"metadata": {"name": ""}})["metadata"].pop("name")
    for manifest in found.values():
        del manifest["metadata"]["annotations"]
    del found["Deployment"]["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"]
    return found
