"""Replicas of several pods on the real API server, with the real LeaderWorkerSet controller and scheduler."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from builders import H100
from control_plane import Cluster, Manifest, Namespace, wait_until
from support import ROOT
from trtllm_operator.hardware import NodeGroup
from trtllm_operator.kinds import POD
from trtllm_operator.sandbox.binaries import KUBERNETES_VERSION
from trtllm_operator.sandbox.nodes import node_manifests

pytestmark = pytest.mark.component

_INDEX = "leaderworkerset.sigs.k8s.io/worker-index"


def _example(replicas: int) -> Manifest:
    (manifest,) = yaml.safe_load_all((ROOT / "examples" / "04-multi-node.yaml").read_text(encoding="utf-8"))
    manifest["spec"]["replicas"] = replicas
    return dict(manifest)


@pytest.fixture
def four_nodes(cluster: Cluster) -> Iterator[None]:
    """The sandbox's two nodes of eight GPUs, and two more for one test."""
    _, _, *more = node_manifests([NodeGroup(nodes=4, gpus=8, product=H100)], KUBERNETES_VERSION)
    cluster.kubectl("create", "--filename=-", stdin={"apiVersion": "v1", "kind": "List", "items": more})
    try:
        yield
    finally:
        cluster.kubectl("delete", "node", *(node["metadata"]["name"] for node in more))


def _ready(pods: list[Manifest]) -> list[Manifest]:
    return [
        pod
        for pod in pods
        if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
    ]


@pytest.mark.usefixtures("four_nodes")
def test_two_replicas_of_two_nodes_become_ready(namespace: Namespace) -> None:
    namespace.apply(_example(replicas=2))
    namespace.kubectl("wait", "--for=condition=Ready", "llmd/llama-405b", "--timeout=80s")
    pods = _ready(namespace.list("pods"))
    names = ["llama-405b-0", "llama-405b-0-1", "llama-405b-1", "llama-405b-1-1"]
    assert sorted(pod["metadata"]["name"] for pod in pods) == names
    assert len({pod["spec"]["nodeName"] for pod in pods}) == len(pods), "each takes all the GPUs of a node"
    status = namespace.get("llmd", "llama-405b")["status"]
    assert status["workloads"] == [{"kind": "LeaderWorkerSet", "name": "llama-405b", "ready": True}]

    leaders = {pod["status"]["podIP"] for pod in pods if pod["metadata"]["labels"][_INDEX] == "0"}
    addresses = namespace.kubectl(
        "get", "endpointslices", "--selector=kubernetes.io/service-name=llama-405b",
        "--output=jsonpath={.items[*].endpoints[*].addresses[0]}",
    )  # fmt: skip
    assert set(addresses.split()) == leaders

    environment = {
        variable["name"]: variable.get("value")
        for pod in pods
        if pod["metadata"]["name"] == "llama-405b-1"
        for variable in pod["spec"]["containers"][0]["env"]
    }
    assert environment["LWS_LEADER_ADDRESS"] == f"llama-405b-1.llama-405b-1.{namespace.name}"
    assert environment["LWS_GROUP_SIZE"] == "2"


def test_the_key_is_there_and_the_operator_cannot_read_it(namespace: Namespace) -> None:
    namespace.apply(_example(replicas=1))
    uid = namespace.get("llmd", "llama-405b")["metadata"]["uid"]
    secret = f"secret/llama-405b-ssh-{uid[:8]}"
    wait_until(lambda: namespace.kubectl("get", "secrets", "--output=name").splitlines() == [secret])
    key = namespace.kubectl("get", secret, "--output=jsonpath={.data.key}")
    namespace.kubectl("wait", "--for=condition=Ready", "llmd/llama-405b", "--timeout=80s")
    assert namespace.kubectl("get", secret, "--output=jsonpath={.data.key}") == key


def test_a_deployment_gives_way_to_a_leader_worker_set(namespace: Namespace) -> None:
    namespace.deploy()
    namespace.ready()
    namespace.deploy(gpus={"product": "NVIDIA-H100-80GB-HBM3", "count": 16})
    wait_until(lambda: namespace.find("leaderworkersets", "llama") and not namespace.find("deployment", "llama"))
    namespace.ready()
    assert all(pod["metadata"]["name"].startswith("llama-0") for pod in _ready(namespace.list(POD.plural)))
