"""What stands around the workload, on an API server that has every optional API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from control_plane import Manifest, Namespace, wait_until
from support import GOLDEN, specs

pytestmark = pytest.mark.component

KEDA = {"prometheusAddress": "http://prometheus:9090"}
GATEWAY = {"name": "inference", "hostnames": ["llama.example.com"]}
KINDS = (
    "horizontalpodautoscaler",
    "httproute",
    "inferencepool",
    "ingress",
    "networkpolicy",
    "poddisruptionbudget",
    "podmonitor",
    "scaledobject",
)


def _edit(namespace: Namespace, **spec: Any) -> None:
    namespace.kubectl("patch", "llmd", "llama", "--type=merge", f"--patch={json.dumps({'spec': spec})}")


def _replicas(namespace: Namespace) -> int:
    return int(namespace.get("deployment", "llama")["spec"]["replicas"])


def _report_route(namespace: Namespace, **told: str) -> None:
    """Say of the route what a gateway's controller, which a sandbox lacks, would."""
    conditions = [
        {
            "type": condition,
            "status": status,
            "reason": "Test",
            "message": "told by a test",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for condition, status in {"Accepted": "True", **told}.items()
    ]
    parent = {"controllerName": "example.com/test", "parentRef": {"name": "inference"}, "conditions": conditions}
    patch = json.dumps({"status": {"parents": [parent]}})
    namespace.kubectl("patch", "httproute", "llama", "--subresource=status", "--type=merge", f"--patch={patch}")


def _rendered(wanted: Manifest) -> set[str]:
    """Return the kinds around the workload that the goldens of an LLMDeployment hold."""
    goldens = (GOLDEN / wanted["metadata"]["name"]).iterdir()
    return {path.name.split("-")[0] for path in goldens} & set(KINDS)


@pytest.mark.parametrize("wanted", [parameter for parameter in specs() if _rendered(parameter.values[0])])
def test_what_is_asked_for_is_made_and_removed_when_it_no_longer_is(namespace: Namespace, wanted: Manifest) -> None:
    expected = _rendered(wanted)
    namespace.deploy(**wanted["spec"])
    wait_until(lambda: _made(namespace) == expected, what=lambda: f"{_made(namespace)}, not {expected}")
    namespace.deploy()
    wait_until(lambda: not _made(namespace), what=lambda: f"left: {_made(namespace)}")


def _made(namespace: Namespace) -> set[str]:
    return {kind for kind in KINDS if namespace.find(kind, "llama")}


def test_an_autoscaler_without_an_adapter_says_what_is_missing(namespace: Namespace) -> None:
    namespace.deploy(scaling={"maxReplicas": 3})
    namespace.ready()
    told = wait_until(
        lambda: _scaling(namespace, "MetricUnavailable"), 60, what=lambda: str(namespace.get("hpa", "llama"))
    )
    for text in ("trtllm_num_requests_waiting", "custom.metrics.k8s.io", "spec.scaling.keda"):
        assert text in told["message"]
    assert namespace.condition()["status"] == "True"


def _scaling(namespace: Namespace, reason: str) -> Manifest | None:
    told = namespace.condition("ScalingReady")
    return told if told.get("reason") == reason else None


def test_the_replicas_go_from_hand_to_hand_without_a_dip(namespace: Namespace) -> None:
    namespace.deploy(replicas=3)
    wait_until(lambda: namespace.get("llmd", "llama")["status"].get("ready") == "3/3")
    _edit(namespace, replicas=None, scaling={"maxReplicas": 4, "keda": KEDA})
    wait_until(lambda: namespace.find("scaledobject", "llama"))
    assert (_replicas(namespace), namespace.find("hpa", "llama")) == (3, None)
    _edit(namespace, scaling={"keda": None})
    wait_until(lambda: namespace.find("hpa", "llama") and not namespace.find("scaledobject", "llama"))
    assert _replicas(namespace) == 3
    _edit(namespace, scaling={"keda": KEDA})
    wait_until(lambda: namespace.find("scaledobject", "llama") and not namespace.find("hpa", "llama"))
    assert _replicas(namespace) == 3
    _edit(namespace, replicas=2, scaling=None)
    wait_until(lambda: namespace.get("llmd", "llama")["status"].get("ready") == "2/2")
    assert namespace.find("scaledobject", "llama") is None


def test_a_release_without_the_metric_leaves_the_replicas_and_says_so(namespace: Namespace) -> None:
    namespace.deploy(scaling={"minReplicas": 2, "maxReplicas": 3}, engine={"image": {"tag": "1.3.0rc0"}})
    assert "1.3.0rc0" in namespace.until_reason("MetricNotExported", "ScalingReady")["message"]
    wait_until(lambda: _replicas(namespace) == 2)
    assert namespace.find("hpa", "llama") is None
    namespace.ready()


def test_the_address_follows_the_gateway(namespace: Namespace) -> None:
    namespace.deploy(expose={"gateway": GATEWAY})
    namespace.ready()
    namespace.until_reason("RoutePending", "ExposureReady")
    inside = f"http://llama.{namespace.name}.svc:8000/v1"
    assert namespace.get("llmd", "llama")["status"]["url"] == inside
    listener = {"name": "web", "protocol": "HTTPS", "port": 443, "tls": {"certificateRefs": [{"name": "tls"}]}}
    namespace.apply(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "inference"},
            "spec": {"gatewayClassName": "none", "listeners": [listener]},
        }
    )
    wait_until(lambda: namespace.get("llmd", "llama")["status"]["url"] == "https://llama.example.com/v1")
    _report_route(namespace, ResolvedRefs="False")
    assert "told by a test" in namespace.until_reason("RouteRefused", "ExposureReady")["message"]
    _report_route(namespace, ResolvedRefs="True")
    namespace.until_reason("Exposed", "ExposureReady")
