"""Third-party APIs in the sandbox: the pinned CRDs, and the LeaderWorkerSet controller with its webhooks."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane import Cluster, Kubectl, Manifest, Namespace, fresh_namespace, wait_until
from trtllm_operator.sandbox import ADDONS, Sandbox, SandboxError
from trtllm_operator.sandbox.addons import checked_addons
from trtllm_operator.sandbox.toolsets import LWS_CONTROLLER, LWS_VERSION

_LABEL = "leaderworkerset.sigs.k8s.io"


@pytest.mark.parametrize("name", ADDONS)
def test_crds_are_those_of_the_pin(name: str) -> None:
    addon = ADDONS[name]
    content = addon.crds()
    assert hashlib.sha256(content).hexdigest() == addon.sha256
    documents = list(yaml.load_all(content, yaml.CSafeLoader))
    assert {document["kind"] for document in documents} == {"CustomResourceDefinition"}
    groups = [(document["spec"]["group"], document["spec"]["names"]["plural"]) for document in documents]
    assert [f"{group}_{plural}.yaml" for group, plural in groups] == list(addon.files)


def test_the_controller_is_built_from_the_module_its_crds_come_from() -> None:
    assert ADDONS["lws"].version == f"v{LWS_VERSION}"
    go_sum = resources.files("trtllm_operator.sandbox").joinpath("go", "lws", "go.sum").read_text(encoding="utf-8")
    assert f"sigs.k8s.io/lws v{LWS_VERSION} {ADDONS['lws'].sum}\n" in go_sum


def test_addons_are_named_once_in_the_order_of_installation() -> None:
    assert checked_addons(["kueue", "lws", "kueue"]) == ("lws", "kueue")
    with pytest.raises(SandboxError, match=re.escape("no add-on 'istio'; there are: lws, keda, gateway-api")):
        checked_addons(["lws", "istio"])


@pytest.fixture(scope="module")
def cluster(sandbox: Sandbox) -> Cluster:
    return Cluster(sandbox)


@pytest.fixture
def space(cluster: Cluster) -> Iterator[Namespace]:
    name = f"addons-{os.urandom(3).hex()}"
    with fresh_namespace(cluster.kubectl, name):
        yield Namespace(cluster, name)


def a_leader_worker_set(name: str = "llama", *, size: int = 2, replicas: int = 2, **template: Any) -> Manifest:
    container = {"name": "trtllm", "image": "example.com/trtllm", "resources": {"limits": {"nvidia.com/gpu": 4}}}
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "leaderWorkerTemplate": {
                "size": size,
                "workerTemplate": {"spec": {"containers": [container]}},
                **template,
            },
        },
    }


def groups_of(space: Namespace, name: str = "llama") -> dict[str, dict[str, Manifest]]:
    """The Ready pods of a LeaderWorkerSet by the index of their group and their index in it."""
    found: dict[str, dict[str, Manifest]] = defaultdict(dict)
    for pod in space.list("pods", selector=f"{_LABEL}/name={name}"):
        conditions = pod["status"].get("conditions", [])
        if any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions):
            labels = pod["metadata"]["labels"]
            found[labels[f"{_LABEL}/group-index"]][labels[f"{_LABEL}/worker-index"]] = pod
    return found


def full_groups(space: Namespace) -> dict[str, dict[str, Manifest]]:
    """Wait until both groups have their two pods Ready."""

    def complete() -> dict[str, dict[str, Manifest]] | None:
        groups = groups_of(space)
        return groups if [sorted(groups[index]) for index in sorted(groups)] == [["0", "1"]] * 2 else None

    return wait_until(complete, what=lambda: space.kubectl("get", "pods,leaderworkersets,events"))  # type: ignore[no-any-return]


@pytest.mark.component
def test_groups_of_pods_run_on_gpu_nodes_and_know_their_leader(space: Namespace) -> None:
    space.apply(a_leader_worker_set())
    for index, group in full_groups(space).items():
        leader, worker = group["0"], group["1"]
        assert (leader["metadata"]["name"], worker["metadata"]["name"]) == (f"llama-{index}", f"llama-{index}-1")
        for place, pod in group.items():
            assert pod["spec"]["nodeName"].startswith("gpu-h100-80gb-hbm3-")
            (container,) = pod["spec"]["containers"]
            environment = {variable["name"]: variable.get("value") for variable in container["env"]}
            assert environment["LWS_LEADER_ADDRESS"] == f"llama-{index}.llama.{space.name}"
            assert environment["LWS_GROUP_SIZE"] == "2"
            assert pod["metadata"]["labels"][f"{_LABEL}/worker-index"] == place
    space.kubectl("wait", "--for=condition=Available", "leaderworkerset/llama", "--timeout=30s")


@pytest.mark.component
def test_a_lost_worker_takes_its_group_with_it_and_no_other(space: Namespace) -> None:
    space.apply(a_leader_worker_set(restartPolicy="RecreateGroupOnPodRestart"))
    before = full_groups(space)
    space.kubectl("delete", "pod", "llama-1-1")

    def uids(groups: dict[str, dict[str, Manifest]], index: str) -> set[str]:
        return {pod["metadata"]["uid"] for pod in groups[index].values()}

    wait_until(lambda: not uids(before, "1") & uids(groups_of(space), "1"), what=lambda: space.kubectl("get", "pods"))
    after = full_groups(space)
    assert not uids(before, "1") & uids(after, "1")
    assert uids(before, "0") == uids(after, "0")


@pytest.mark.component
def test_a_deleted_set_leaves_nothing(space: Namespace) -> None:
    space.apply(a_leader_worker_set())
    full_groups(space)
    space.kubectl("delete", "leaderworkerset", "llama", "--cascade=foreground", "--timeout=60s")
    assert space.kubectl("get", "statefulsets,pods,services", "--output=name") == ""


@pytest.mark.component
def test_the_mutating_webhook_fills_in_defaults(space: Namespace) -> None:
    space.apply(a_leader_worker_set(replicas=0))
    spec = yaml.safe_load(space.kubectl("get", "leaderworkerset", "llama", "--output=yaml"))["spec"]
    # The schema has defaults of its own; that of networkConfig only the webhook knows.
    assert spec["networkConfig"] == {"subdomainPolicy": "Shared"}


@pytest.mark.component
@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        pytest.param(a_leader_worker_set("8b"), "metadata.name: Invalid value", id="name-begins-with-a-digit"),
        pytest.param(a_leader_worker_set(size=0), "size must be equal or greater than 1", id="size"),
        pytest.param(
            a_leader_worker_set(size=4, subGroupPolicy={"subGroupSize": 3}), None, id="sub-groups-beside-the-leader"
        ),
        pytest.param(
            a_leader_worker_set(size=5, subGroupPolicy={"subGroupSize": 3}), "must be divisible", id="sub-groups"
        ),
    ],
)
def test_the_validating_webhook_decides(space: Namespace, manifest: Manifest, why: str | None) -> None:
    if why is None:
        space.assert_accepted(manifest)
    else:
        refusal = space.refusal(manifest)
        assert 'admission webhook "vleaderworkerset.kb.io" denied the request' in refusal
        assert why in refusal


@pytest.mark.component
def test_nothing_is_created_while_the_webhooks_are_down(sandbox: Sandbox, space: Namespace) -> None:
    sandbox.stop_component(LWS_CONTROLLER)
    try:
        assert "failed calling webhook" in space.refusal(a_leader_worker_set())
    finally:
        sandbox.start_component(LWS_CONTROLLER)
    space.assert_accepted(a_leader_worker_set())


def a_manifest(api_version: str, kind: str, **spec: Any) -> Manifest:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "llama"}, "spec": spec}


_ROUTE = {"backendRefs": [{"name": "llama", "port": 8000}]}
_TARGET = {"scaleTargetRef": {"name": "llama"}}
_TRIGGER = {"type": "prometheus", "metadata": {"serverAddress": "http://prometheus", "query": "q", "threshold": "3"}}
_POOL = {
    "selector": {"matchLabels": {"app": "llama"}},
    "targetPorts": [{"number": 8000}],
    "endpointPickerRef": {"name": "picker", "port": {"number": 9002}},
}


@pytest.mark.component
@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        pytest.param(a_manifest("gateway.networking.k8s.io/v1", "HTTPRoute", rules=[_ROUTE]), None, id="route"),
        pytest.param(
            a_manifest("gateway.networking.k8s.io/v1", "HTTPRoute", rules=[{"backendRefs": [{"name": "llama"}]}]),
            "Must have port for Service reference",
            id="route-without-port",
        ),
        pytest.param(
            a_manifest("gateway.networking.k8s.io/v1", "HTTPRoute", rules=[_ROUTE], hosts=["example.com"]),
            ".spec.hosts: field not declared in schema",
            id="route-unknown-field",
        ),
        pytest.param(
            a_manifest("monitoring.coreos.com/v1", "PodMonitor", selector={}, podMetricsEndpoints=[{"port": "http"}]),
            None,
            id="pod-monitor",
        ),
        pytest.param(
            a_manifest("monitoring.coreos.com/v1", "PodMonitor", selector={}, podMetricsEndpoints=[{"interval": "x"}]),
            "spec.podMetricsEndpoints[0].interval",
            id="pod-monitor-interval",
        ),
        pytest.param(a_manifest("keda.sh/v1alpha1", "ScaledObject", **_TARGET, triggers=[_TRIGGER]), None, id="scaled"),
        pytest.param(
            a_manifest("keda.sh/v1alpha1", "ScaledObject", **_TARGET, triggers=[{"type": "prometheus"}]),
            "spec.triggers[0].metadata: Required value",
            id="scaled-trigger-without-metadata",
        ),
        pytest.param(a_manifest("inference.networking.k8s.io/v1", "InferencePool", **_POOL), None, id="pool"),
        pytest.param(
            a_manifest("inference.networking.k8s.io/v1", "InferencePool", **{**_POOL, "targetPorts": []}),
            "spec.targetPorts",
            id="pool-without-ports",
        ),
        pytest.param(a_manifest("kueue.x-k8s.io/v1beta2", "LocalQueue", clusterQueue="gpus"), None, id="queue"),
        pytest.param(
            a_manifest("kueue.x-k8s.io/v1beta2", "LocalQueue", clusterQueue="GPUs"),
            "spec.clusterQueue",
            id="queue-name",
        ),
        pytest.param(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "dta": {}},
            ".dta: field not declared in schema",
            id="config-map-unknown-field",
        ),
    ],
)
def test_real_schemas_decide(space: Namespace, manifest: Manifest, why: str | None) -> None:
    if why is None:
        space.assert_accepted(manifest)
    else:
        assert why in space.refusal(manifest)


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A second sandbox, without add-ons."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("KUBECACHEDIR", str(tmp_path / "kubectl"))
    with Sandbox.start(name="plain", nodes=["2x8xNVIDIA-H100-80GB-HBM3"]) as started:
        yield started


@pytest.mark.component
def test_addons_can_come_while_the_sandbox_runs(
    sandbox: Sandbox, plain: Sandbox, tmp_path: Path, processes: Callable[[Path], dict[int, str]]
) -> None:
    kubectl = Kubectl(plain, plain.kubeconfig)
    assert LWS_CONTROLLER not in {component.name for component in plain.status()}
    for name in ("keda", "lws", "lws"):  # the second time changes nothing
        plain.install(name)
    states = {component.name: component.healthy for component in plain.status()}
    assert states[LWS_CONTROLLER]
    assert [line for line in processes(tmp_path).values() if f"/bin/{LWS_CONTROLLER}" in line][1:] == []
    assert "scaledobjects.keda.sh" in kubectl("get", "crds", "--output=name")
    with fresh_namespace(kubectl, "late"):
        space = Namespace(Cluster(plain), "late")
        space.apply(a_leader_worker_set())
        full_groups(space)
    assert "late" not in Kubectl(sandbox, sandbox.kubeconfig)("get", "namespaces", "--output=name")
    plain.down()
    assert not processes(tmp_path)
    with pytest.raises(SandboxError, match="'plain' is not running"):
        plain.install("keda")
