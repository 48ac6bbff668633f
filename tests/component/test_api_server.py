"""What the API server itself enforces: schema, CEL, columns, explain."""

from __future__ import annotations

from typing import Any

import pytest

from control_plane import Cluster, Namespace, an_llm_deployment
from test_crd import spec_fields

pytestmark = pytest.mark.component

REJECTED: list[tuple[dict[str, Any], list[str]]] = [
    ({"replicas": 1, "scaling": {"maxReplicas": 2}}, ["set either replicas (1) or scaling, not both"]),
    ({"scaling": {"minReplicas": 3, "maxReplicas": 2}}, ["scaling.minReplicas (3)", "scaling.maxReplicas (2)"]),
    ({"parallelism": {"tensor": 4, "expert": 3}}, ["parallelism.expert (3) must divide parallelism.tensor (4)"]),
    (
        {"parallelism": {"tensor": 4, "pipeline": 2}, "gpus": {"count": 4}},
        ["parallelism.tensor (4) x parallelism.pipeline (2) cannot be gpus.count (4)"],
    ),
    ({"gpus": {"count": 8, "maxCount": 4}}, ["gpus.count (8) is larger than gpus.maxCount (4)"]),
    ({"model": {"uri": "s3://bucket/x"}}, ["model.uri must be hf://ORGANISATION/NAME", "got s3://bucket/x"]),
    ({"podMetadata": {"labels": {"trtllm.dev/name": "x"}}}, ["podMetadata.labels may not use the prefixes"]),
    ({"podMetadata": {"annotations": {"trtllm.dev/x": "x"}}}, ["podMetadata.annotations may not use the prefix"]),
    ({"gpus": {"count": 0}}, ["spec.gpus.count", "greater than or equal to 1"]),
    ({"dtype": "float8"}, ["spec.dtype", "Unsupported value"]),
    ({"gpuz": {"count": 1}}, ['unknown field "spec.gpuz"']),
]
ACCEPTED: list[dict[str, Any]] = [
    {},
    {"replicas": 0},
    {"scaling": {"maxReplicas": 2}},
    {"scaling": {"minReplicas": 2, "maxReplicas": 2}},
    {"parallelism": {"tensor": 4, "expert": 2}},
    {"parallelism": {"tensor": 4, "pipeline": 2}, "gpus": {"count": 8}},
    {"parallelism": {"tensor": 4}, "gpus": {"count": 8}},
    {"gpus": {"count": 4, "maxCount": 4}},
    {"podMetadata": {"labels": {"team": "x"}, "annotations": {"note": "x"}}},
]


@pytest.mark.parametrize(
    ("spec", "texts"), REJECTED, ids=lambda value: None if isinstance(value, list) else ",".join(value)
)
def test_rejected(cluster: Cluster, spec: dict[str, Any], texts: list[str]) -> None:
    answer = cluster.kubectl("create", "--dry-run=server", "--filename=-", stdin=an_llm_deployment(**spec), fails=True)
    for text in texts:
        assert text in answer


@pytest.mark.parametrize("spec", ACCEPTED, ids=lambda spec: ",".join(spec) or "smallest")
def test_accepted(cluster: Cluster, spec: dict[str, Any]) -> None:
    cluster.kubectl("create", "--dry-run=server", "--filename=-", stdin=an_llm_deployment(**spec))


@pytest.mark.parametrize("name", ["a" * 41, "7b", "llama.3", "llama-"])
def test_rejected_names(cluster: Cluster, name: str) -> None:
    cluster.kubectl("create", "--dry-run=server", "--filename=-", stdin=an_llm_deployment(name), fails=True)


def test_a_long_name_is_refused_with_its_length(cluster: Cluster) -> None:
    answer = cluster.kubectl(
        "create", "--dry-run=server", "--filename=-", stdin=an_llm_deployment("a" * 41), fails=True
    )
    assert "metadata.name has 41 characters; it must be at most 40" in answer


def test_the_longest_name_is_served(namespace: Namespace) -> None:
    name = "a" + "b" * 39
    namespace.deploy(name, scaling={"maxReplicas": 1})
    namespace.ready(name)


@pytest.mark.parametrize("field", spec_fields())
def test_explain_every_field(cluster: Cluster, field: str) -> None:
    assert "DESCRIPTION:" in cluster.kubectl("explain", f"llmd.{field}")


def test_a_new_object_is_not_ready_before_the_operator_has_seen_it(cluster: Cluster, namespace: Namespace) -> None:
    cluster.sandbox.pause("operator")
    try:
        namespace.deploy()
        status = namespace.get("llmd", "llama")["status"]
        assert status["observedGeneration"] == -1
        assert [(c["type"], c["status"]) for c in status["conditions"]] == [("Ready", "Unknown")]
    finally:
        cluster.sandbox.resume("operator")
    namespace.ready()
