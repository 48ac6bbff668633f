"""The objects around the workload: what is in them, and when they are made."""

from __future__ import annotations

from typing import Any

import pytest

from builders import a_plan, a_spec
from trtllm_operator.render import Manifest, Owner, render
from trtllm_operator.settings import Settings

SERVING = {"trtllm.dev/name": "llama", "app.kubernetes.io/component": "inference-server"}
EVERY_POD = {"trtllm.dev/name": "llama"}
HOSTILE = [
    'x"\nhostNetwork: true\nfoo: "',
    "no",
    "0x10",
    "a: b # c",
    "{{ 7*7 }}",
    "\u0085\u2028",
    "*anchor",
    "ünïcödé 🙂",
]


def _render(**spec: Any) -> dict[str, Manifest]:
    wanted = a_spec(**spec)
    owner = Owner(name="llama", namespace="team-a")
    return {manifest["kind"]: manifest for manifest in render(owner, wanted, a_plan(wanted), Settings())}


def test_nothing_is_made_that_was_not_asked_for() -> None:
    assert set(_render()) == {"ConfigMap", "Service", "Deployment"}


@pytest.mark.parametrize(
    ("expose", "backend"),
    [
        pytest.param({}, {"group": "", "kind": "Service", "name": "llama", "port": 8000, "weight": 1}, id="service"),
        pytest.param(
            {"service": {"port": 80}},
            {"group": "", "kind": "Service", "name": "llama", "port": 80, "weight": 1},
            id="service-of-another-port",
        ),
        pytest.param(
            {"inferencePool": {"endpointPicker": {"name": "epp"}}},
            {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "llama", "weight": 1},
            id="pool",
        ),
    ],
)
def test_a_route_leads_to_the_pool_or_else_to_the_service(expose: dict[str, Any], backend: dict[str, Any]) -> None:
    route = _render(expose={"gateway": {"name": "inference"}, **expose})["HTTPRoute"]
    assert [rule["backendRefs"] for rule in route["spec"]["rules"]] == [[backend]]
    assert route["spec"]["parentRefs"][0]["namespace"] == "team-a"


@pytest.mark.parametrize(
    ("spec", "budget"),
    [
        pytest.param({"replicas": 3}, {"minAvailable": 2}, id="fixed"),
        pytest.param({"scaling": {"minReplicas": 2, "maxReplicas": 4}}, {"minAvailable": 2}, id="scaled"),
        pytest.param({"scaling": {"minReplicas": 1, "maxReplicas": 4}}, None, id="scaled-from-one"),
        pytest.param({"replicas": 1}, None, id="one"),
        pytest.param({}, None, id="default"),
    ],
)
def test_a_budget_needs_replicas_to_spare(spec: dict[str, Any], budget: dict[str, int] | None) -> None:
    found = _render(disruption={"minAvailable": 2}, **spec).get("PodDisruptionBudget", {"spec": None})["spec"]
    kept = found and {key: found[key] for key in found if key in ("minAvailable", "maxUnavailable")}
    assert kept == budget


@pytest.fixture
def of_two_nodes() -> dict[str, Manifest]:
    return _render(
        gpus={"count": 16},
        replicas=3,
        expose={"gateway": {"name": "g"}, "inferencePool": {"endpointPicker": {"name": "epp"}}},
        monitoring={"podMonitor": True},
        networkPolicy={"enabled": True},
        disruption={"minAvailable": 1},
    )


def test_only_pods_that_answer_are_asked(of_two_nodes: dict[str, Manifest]) -> None:
    assert of_two_nodes["Service"]["spec"]["selector"] == SERVING
    assert of_two_nodes["InferencePool"]["spec"]["selector"]["matchLabels"] == SERVING
    assert of_two_nodes["PodMonitor"]["spec"]["selector"]["matchLabels"] == SERVING


def test_a_drain_moves_one_pod_of_many_node_replicas_at_a_time(of_two_nodes: dict[str, Manifest]) -> None:
    budget = of_two_nodes["PodDisruptionBudget"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert "minAvailable" not in budget
    assert budget["selector"]["matchLabels"] == EVERY_POD


def test_ranks_reach_each_other_on_any_port(of_two_nodes: dict[str, Manifest]) -> None:
    policy = of_two_nodes["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == EVERY_POD
    assert policy["ingress"][1] == {"from": [{"podSelector": {"matchLabels": EVERY_POD}}]}


def test_one_pod_has_no_ranks_to_reach() -> None:
    policy = _render(networkPolicy={"enabled": True, "allowFromNamespaces": ["apps"]})["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress"], "DNS and downloads are nobody's to stop"
    (rule,) = policy["ingress"]
    assert rule["from"][0]["namespaceSelector"]["matchExpressions"][0]["values"] == ["apps", "team-a"]
    assert rule["ports"] == [{"port": 8000, "protocol": "TCP"}]


def test_our_labels_win_over_those_of_the_user() -> None:
    labels = {"release": "prometheus", "app.kubernetes.io/managed-by": "Helm"}
    found = _render(monitoring={"podMonitor": True, "labels": labels})["PodMonitor"]["metadata"]["labels"]
    assert found["release"] == "prometheus"
    assert found["app.kubernetes.io/managed-by"] == "trtllm-operator"


def _annotated(text: str) -> list[Manifest]:
    expose = {
        "service": {"annotations": {"note": text}},
        "ingress": {"host": "llama.example.com", "annotations": {"note": text}},
    }
    rendered = _render(expose=expose)
    return [rendered["Service"], rendered["Ingress"]]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_annotations_stay_annotations(text: str) -> None:
    for hostile, plain in zip(_annotated(text), _annotated("plain"), strict=True):
        assert hostile["metadata"].pop("annotations")["note"] == text
        assert plain["metadata"].pop("annotations")["note"] == "plain"
        assert hostile == plain


@pytest.mark.parametrize(
    "address",
    [
        pytest.param('http://p:9090/"x', id="quote"),
        pytest.param("http://p:9090/{{x}}#y", id="template-and-comment"),
        pytest.param("http://p:9090/*&!|>%@`", id="indicators"),
    ],
)
def test_a_hostile_prometheus_address_stays_one_string(address: str) -> None:
    rendered = _render(scaling={"maxReplicas": 2, "keda": {"prometheusAddress": address}})
    (trigger,) = rendered["ScaledObject"]["spec"]["triggers"]
    assert trigger["metadata"]["serverAddress"] == address
