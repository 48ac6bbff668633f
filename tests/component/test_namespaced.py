"""The operator with rights in two namespaces and none beyond them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from control_plane import Cluster, Namespace, fresh_namespace, wait_until
from own_operator import OwnOperator, account, binding
from trtllm_operator.rbac import NAME

pytestmark = pytest.mark.component

H100 = {"product": "NVIDIA-H100-80GB-HBM3", "count": 1}


@pytest.fixture
def second(cluster: Cluster, namespace: Namespace) -> Iterator[Namespace]:
    name = f"{namespace.name}-b"
    with fresh_namespace(cluster.kubectl, name):
        yield Namespace(cluster, name)


@pytest.fixture
def operator(namespace: Namespace, second: Namespace, tmp_path: Path) -> Iterator[OwnOperator]:
    namespace.apply(account("bounded"), binding("ClusterRole", NAME, namespace.name, "bounded"))
    second.apply(binding("ClusterRole", NAME, namespace.name, "bounded"))
    sandbox = namespace.cluster.sandbox
    with ExitStack() as stack:
        sandbox.stop_component("operator")
        stack.callback(sandbox.start_component, "operator")
        bounded = OwnOperator(namespace, "bounded", tmp_path, f"--namespace={namespace.name},{second.name}")
        stack.callback(bounded.end)
        bounded.start()
        yield bounded


def test_two_namespaces_are_served_without_the_right_to_read_nodes(
    namespace: Namespace, second: Namespace, operator: OwnOperator
) -> None:
    for place in (namespace, second):
        place.deploy("stated", gpus=H100)
        place.ready("stated")
    namespace.deploy("unstated")
    condition = namespace.until_reason("NoGPUs", name="unstated")
    assert "the operator may not read nodes; set spec.gpus.product" in condition["message"]

    namespace.deploy("large", gpus={**H100, "count": 8}, replicas=3)
    condition = namespace.until_reason("NodesUnreadable", "CapacityAvailable", "large")
    assert condition["status"] == "Unknown"
    assert operator.get("healthz") == (200, "ok\n")

    status, page = operator.get("metrics")
    assert status == 200
    lines = page.splitlines()
    assert "trtllm_operator_is_leader 1" in lines
    assert 'trtllm_operator_llmdeployments{reason="NoGPUs"} 1' in lines
    assert any(line.startswith('trtllm_operator_watch_age_seconds{resource="deployments"}') for line in lines)
    assert any(line.startswith('trtllm_operator_passes_total{outcome="Done"}') for line in lines)

    operator.send(signal.SIGTERM)
    assert operator.exit_code() == 0
    assert "Traceback" not in operator.log


def test_what_is_missing_at_the_start_is_made_when_it_may_be(namespace: Namespace, operator: OwnOperator) -> None:
    """A right that comes later needs no restart."""
    namespace.deploy("unstated")
    namespace.until_reason("NoGPUs", name="unstated")
    subject = f"--serviceaccount={namespace.name}:{operator.name}"
    namespace.cluster.kubectl("create", "clusterrolebinding", namespace.name, f"--clusterrole={NAME}", subject)
    try:
        wait_until(lambda: namespace.condition(name="unstated").get("status") == "True", seconds=60)
    finally:
        namespace.cluster.kubectl("delete", "clusterrolebinding", namespace.name)
