"""A cluster that lacks every optional API, and gets them while the operator runs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from control_plane import Cluster, Namespace, fresh_namespace, wait_until
from trtllm_operator.sandbox import Sandbox

pytestmark = pytest.mark.component

ARRIVAL = 90
"""Seconds; the operator looks for a missing API every 30 to 36, and the machine may be busy."""

WAITING = {
    "replicas": None,
    "scaling": {"minReplicas": 2, "maxReplicas": 3, "keda": {"prometheusAddress": "http://prometheus:9090"}},
    "expose": {"gateway": {"name": "inference"}, "inferencePool": {"endpointPicker": {"name": "epp"}}},
    "monitoring": {"podMonitor": True},
}


@pytest.fixture(scope="module")
def bare() -> Iterator[Sandbox]:
    with Sandbox.start(operator=True) as started:
        yield started
        log = started.log("operator").read_text(encoding="utf-8")
    assert "Traceback" not in log, log


@pytest.fixture
def namespace(bare: Sandbox) -> Iterator[Namespace]:
    cluster, name = Cluster(bare), f"optional-{os.urandom(2).hex()}"
    with fresh_namespace(cluster.kubectl, name):
        yield Namespace(cluster, name)


def test_what_waits_for_an_api_is_made_when_the_api_comes(bare: Sandbox, namespace: Namespace) -> None:
    namespace.deploy(**WAITING)
    namespace.ready()
    assert namespace.get("llmd", "llama")["status"]["ready"] == "2/2", "the replicas no autoscaler sets are held"
    for condition, field, crd in (
        ("ScalingReady", "spec.scaling.keda", "scaledobjects.keda.sh"),
        ("ExposureReady", "spec.expose.gateway", "httproutes.gateway.networking.k8s.io"),
        ("MonitoringReady", "spec.monitoring.podMonitor", "podmonitors.monitoring.coreos.com"),
    ):
        told = namespace.until_reason("APIMissing", condition)
        assert field in told["message"]
        assert crd in told["message"]
    assert "Warning  APIMissing" in namespace.kubectl("describe", "llmd", "llama")
    assert "ScalingReady is False (APIMissing)" in namespace.condition()["message"]

    for addon in ("keda", "gateway-api", "inference", "prometheus-operator"):
        bare.install(addon)
    for kind in ("scaledobject", "httproute", "inferencepool", "podmonitor"):
        wait_until(lambda kind=kind: namespace.find(kind, "llama"), ARRIVAL, what=lambda kind=kind: f"no {kind}")
    namespace.until_reason("AutoscalerPending", "ScalingReady")
    namespace.until_reason("RoutePending", "ExposureReady")
    namespace.until_reason("PodMonitorApplied", "MonitoringReady")

    namespace.cluster.kubectl("delete", "crd", "podmonitors.monitoring.coreos.com", "--timeout=60s")
    wait_until(
        lambda: namespace.condition("MonitoringReady")["reason"] == "APIMissing",
        ARRIVAL,
        what=lambda: str(namespace.condition("MonitoringReady")),
    )
    assert namespace.condition()["status"] == "True"
    namespace.deploy()
    wait_until(lambda: not namespace.condition("ExposureReady"), what=lambda: str(namespace.get("llmd", "llama")))
    for kind in ("scaledobject", "httproute", "inferencepool"):
        wait_until(lambda kind=kind: not namespace.find(kind, "llama"), what=lambda kind=kind: f"{kind} stays")


def test_a_model_that_needs_several_nodes_waits_for_their_api(bare: Sandbox, namespace: Namespace) -> None:
    namespace.deploy(model={"uri": "hf://meta-llama/Llama-3.1-405B-Instruct"}, dtype="bfloat16", gpus={"count": 16})
    told = namespace.until_reason("APIMissing")
    assert "leaderworkersets.leaderworkerset.x-k8s.io" in told["message"]
    assert namespace.condition("Stalled")["status"] == "True"
    assert namespace.find("service", "llama"), "what needs no such API is there"
    bare.install("lws")
    wait_until(lambda: namespace.find("leaderworkerset", "llama"), ARRIVAL, what=lambda: str(namespace.condition()))
    namespace.ready()
