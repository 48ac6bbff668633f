"""What the API server itself enforces: schema, CEL, columns, explain."""

from __future__ import annotations

import re
from typing import Any

import pytest

from control_plane import Cluster, Namespace, an_llm_deployment
from test_crd import described_objects
from trtllm_operator.crd import crd

pytestmark = pytest.mark.component

REJECTED = [
    pytest.param({"gpus": {"count": 0}}, "spec.gpus.count: Invalid value: 0", id="below the bound"),
    pytest.param(
        {"gpus": {"count": "4"}},
        ".spec.gpus.count: expected numeric (int or float), got string",
        id="text for a number",
    ),
    pytest.param({"dtype": "float8"}, 'spec.dtype: Unsupported value: "float8"', id="unknown value"),
    pytest.param({"gpuz": {"count": 1}}, ".spec.gpuz: field not declared in schema", id="unknown field"),
    pytest.param({"scaling": {}}, "spec.scaling.maxReplicas: Required value", id="missing"),
    pytest.param(
        {"expose": {"inferencePool": {}}},
        "spec.expose.inferencePool.endpointPicker: Required value",
        id="missing two levels down",
    ),
    *(
        pytest.param({"proxy": {"httpProxy": address}}, "spec.proxy.httpProxy: Invalid value", id=f"proxy {address!r}")
        for address in (
            "proxy:3128",
            "socks5://proxy:1080",
            "http://proxy:3128 ",
            "http://a\nb",
            "http://a\u2028b",
            "http://",
        )
    ),
    *(
        pytest.param(
            {"expose": {"gateway": {"name": "inference", "hostnames": [name]}}},
            "spec.expose.gateway.hostnames[0]: Invalid value",
            id=f"host name {name!r}",
        )
        for name in ("Llama.example.com", "llama_1.example.com", "*", "llama.*.com", "-llama.com", "llama.com.", "a:80")
    ),
]
ACCEPTED = [
    pytest.param({}, id="smallest"),
    pytest.param(
        {"proxy": {"httpProxy": "http://user:secret@proxy.example.com:3128", "noProxy": ".example.com,10.0.0.0/8"}},
        id="proxy",
    ),
    pytest.param(
        {"expose": {"gateway": {"name": "inference", "hostnames": ["*.example.com", "llama.example.com"]}}},
        id="host names",
    ),
    pytest.param({"expose": {"inferencePool": {"endpointPicker": {"name": "epp"}}}}, id="endpoint picker"),
]


@pytest.mark.parametrize(("spec", "text"), REJECTED)
def test_rejected(cluster: Cluster, spec: dict[str, Any], text: str) -> None:
    assert text in (cluster.refusal(an_llm_deployment(**spec)) or "accepted")


@pytest.mark.parametrize("spec", ACCEPTED)
def test_accepted(cluster: Cluster, spec: dict[str, Any]) -> None:
    assert cluster.refusal(an_llm_deployment(**spec)) is None


def test_plain_kubectl_apply_takes_the_crd(cluster: Cluster) -> None:
    answer = cluster.kubectl("apply", "--dry-run=server", "--filename=-", stdin=crd())
    assert "llmdeployments.trtllm.dev" in answer


def test_kubectl_says_what_is_wrong(cluster: Cluster) -> None:
    manifest = an_llm_deployment(gpus={"count": 8, "maxCount": 4})
    answer = cluster.kubectl("create", "--dry-run=server", "--filename=-", stdin=manifest, fails=True)
    assert answer.endswith("spec.gpus: Invalid value: gpus.count (8) is larger than gpus.maxCount (4)\n")


def test_the_longest_name_is_served(namespace: Namespace) -> None:
    name = "a" + "b" * 39
    namespace.deploy(name, scaling={"maxReplicas": 1})
    namespace.ready(name)


@pytest.mark.parametrize(("path", "fields"), described_objects())
def test_explain_describes_every_field(cluster: Cluster, path: str, fields: dict[str, str]) -> None:
    answer = " ".join(cluster.kubectl("explain", f"llmd.{path}").split())
    for name, description in fields.items():
        assert re.search(rf" {name} <[^>]+>( -required-)?( enum: [^<]*)? {re.escape(description)}", answer), name


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
