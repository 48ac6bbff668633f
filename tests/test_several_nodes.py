"""Replicas of several pods: what is rendered, what is refused, and how one kind of workload gives way to the other."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from builders import H100, a_plan, a_spec
from fakes import FakeCluster, FakeMemory, Manifest
from support import SPECS
from test_reconcile import APPLY, KEY, _reason, _settle, _stored
from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.errors import NotFound
from trtllm_operator.kinds import CONFIG_MAP, DEPLOYMENT, LEADER_WORKER_SET
from trtllm_operator.observe import observe
from trtllm_operator.planned import Infeasible
from trtllm_operator.refusals import Reason
from trtllm_operator.render import Owner, render
from trtllm_operator.replacement import prunable
from trtllm_operator.replica import JOIN_SECONDS
from trtllm_operator.settings import Settings

RTX_3090, RTX_4090, RTX_A5000 = "NVIDIA-GeForce-RTX-3090", "NVIDIA-GeForce-RTX-4090", "NVIDIA-RTX-A5000"
TWO_NODES = {"gpus": {"count": 16}}
GROUP = {"leaderworkerset.sigs.k8s.io/name": "llama"}


def _rendered(spec: LLMDeploymentSpec, *groups: str) -> dict[str, Manifest]:
    rendered = render(Owner(name="llama", namespace="team-a", uid="u1"), spec, a_plan(spec, *groups), Settings())
    assert not isinstance(rendered, Infeasible), rendered
    return {each["kind"]: each for each in rendered}


def _pods(manifests: dict[str, Manifest]) -> tuple[Manifest, Manifest]:
    template = manifests["LeaderWorkerSet"]["spec"]["leaderWorkerTemplate"]
    return template["leaderTemplate"], template["workerTemplate"]


def test_only_the_leader_is_behind_the_service() -> None:
    manifests = _rendered(a_spec(**TWO_NODES))
    selector = manifests["Service"]["spec"]["selector"].items()
    leader, worker = _pods(manifests)
    assert selector <= leader["metadata"]["labels"].items()
    assert not selector <= worker["metadata"]["labels"].items()
    assert selector <= _rendered(a_spec())["Deployment"]["spec"]["template"]["metadata"]["labels"].items()


def test_one_workload_is_rendered_and_scaled() -> None:
    spec = a_spec(**TWO_NODES, scaling={"maxReplicas": 2})
    manifests = _rendered(spec)
    assert "Deployment" not in manifests
    assert "replicas" not in manifests["LeaderWorkerSet"]["spec"]
    target = manifests["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "llama"}


@pytest.mark.parametrize(
    ("pools", "products"),
    [
        pytest.param([(RTX_3090, 1), (RTX_4090, 2)], (RTX_3090, RTX_4090), id="first-differs"),
        pytest.param([(RTX_4090, 1), (RTX_3090, 1)], (RTX_4090, RTX_3090), id="one-and-one"),
        pytest.param([(RTX_4090, 2), (RTX_3090, 1)], None, id="last-differs"),
        pytest.param([(RTX_4090, 1), (RTX_3090, 1), (RTX_A5000, 1)], None, id="three-products"),
    ],
)
def test_pods_on_different_gpus(pools: list[tuple[str, int]], products: tuple[str, str] | None) -> None:
    listed = [{"product": product, "count": count} for product, count in pools]
    spec = a_spec("hf://meta-llama/Llama-3.1-8B-Instruct", gpus={"allowHeterogeneous": True, "pools": listed})
    nodes = [f"{count}x1x{product}" for product, count in pools]
    if products is None:
        refused = render(Owner(name="llama", namespace="team-a"), spec, a_plan(spec, *nodes), Settings())
        assert isinstance(refused, Infeasible)
        assert refused.reason == Reason.HETEROGENEOUS_WORKERS
        assert all(product in refused.message for product, _ in pools)
        return
    selectors = [pod["spec"]["nodeSelector"]["nvidia.com/gpu.product"] for pod in _pods(_rendered(spec, *nodes))]
    assert tuple(selectors) == products


@pytest.mark.parametrize(
    ("profile", "added"),
    [
        pytest.param("Baseline", ["SETGID", "SETUID", "SYS_CHROOT"], id="baseline"),
        pytest.param("Restricted", None, id="restricted"),
    ],
)
def test_only_workers_under_baseline_may_change_their_user(profile: str, added: list[str] | None) -> None:
    pods = _pods(_rendered(a_spec(**TWO_NODES, securityProfile=profile)))
    rights = [pod["spec"]["containers"][0]["securityContext"]["capabilities"] for pod in pods]
    assert rights[0] == {"drop": ["ALL"]}
    assert rights[1].get("add") == added


EVERY_FIELD = SPECS / "every-pod-field.yaml"
OF_ONE_POD = {"gpus": {"count": 8}}


def _every_field(**fields: Any) -> LLMDeploymentSpec:
    (stored,) = yaml.safe_load_all(EVERY_FIELD.read_text(encoding="utf-8"))
    return LLMDeploymentSpec.model_validate({**stored["spec"], **fields}, extra="forbid")


def _named(items: list[Manifest]) -> dict[str, Manifest]:
    names = [item["name"] for item in items]
    assert len(set(names)) == len(names), "the API server refuses a list with the same name twice"
    return {item["name"]: item for item in items}


@pytest.mark.parametrize("index", [pytest.param(0, id="leader"), pytest.param(1, id="worker")])
@pytest.mark.parametrize("profile", ["Baseline", "Restricted"])
def test_every_field_of_the_pod_is_in_leaders_and_workers_alike(index: int, profile: str) -> None:
    alone = _rendered(_every_field(**OF_ONE_POD, securityProfile=profile))["Deployment"]["spec"]["template"]
    pod = _pods(_rendered(_every_field(**TWO_NODES, securityProfile=profile)))[index]
    assert pod["metadata"]["annotations"] == alone["metadata"]["annotations"]
    assert pod["metadata"]["labels"]["team"] == "search"
    different = {"containers", "volumes"}
    assert {key: pod["spec"][key] for key in pod["spec"].keys() - different} == {
        key: alone["spec"][key] for key in alone["spec"].keys() - different
    }
    (container,), (serving,) = pod["spec"]["containers"], alone["spec"]["containers"]
    assert {key: container[key] for key in ("image", "imagePullPolicy", "resources")} == {
        key: serving[key] for key in ("image", "imagePullPolicy", "resources")
    }
    assert _named(serving["env"]).items() <= _named(container["env"]).items()
    assert _named(serving["volumeMounts"]).items() <= _named(container["volumeMounts"]).items()
    configured = "engine-config"  # of several pods it holds their scripts too
    mounted = _named(alone["spec"]["volumes"])
    del mounted[configured]
    assert mounted.items() <= _named(pod["spec"]["volumes"]).items()


def test_pods_of_a_replica_that_break_the_standard_are_refused() -> None:
    spec = a_spec(**TWO_NODES, securityProfile="Restricted", modelCache={"hostPath": "/mnt/models"})
    owner, settings = Owner(name="llama", namespace="team-a"), Settings(allow_host_path=True)
    refused = render(owner, spec, a_plan(spec), settings)
    assert isinstance(refused, Infeasible)
    assert refused.reason == Reason.POD_SECURITY_VIOLATION


def test_a_variable_of_the_user_wins_but_not_over_those_of_the_scripts() -> None:
    mine = [{"name": "OMPI_ALLOW_RUN_AS_ROOT", "value": "0"}, {"name": "REPLICA_SSH_PORT", "value": "22"}]
    for pod in _pods(_rendered(a_spec(**TWO_NODES, engine={"env": mine}))):
        environment = _named(pod["spec"]["containers"][0]["env"])
        assert environment["OMPI_ALLOW_RUN_AS_ROOT"]["value"] == "0"
        assert environment["REPLICA_SSH_PORT"]["value"] == "2222"


def test_a_stated_startup_time_is_counted_from_when_the_workers_have_joined() -> None:
    leader, worker = _pods(_rendered(a_spec(**TWO_NODES, startupTimeoutSeconds=600)))
    assert leader["spec"]["containers"][0]["startupProbe"]["failureThreshold"] == (600 + JOIN_SECONDS) / 10
    assert "startupProbe" not in worker["spec"]["containers"][0]


def test_the_configuration_s_name_tells_the_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = _rendered(a_spec(**TWO_NODES))["ConfigMap"]
    monkeypatch.setattr("trtllm_operator.pod.launch_scripts", lambda: {"leader.sh": "exit"})
    after = _rendered(a_spec(**TWO_NODES))["ConfigMap"]
    assert before["data"]["engine.json"] == after["data"]["engine.json"]
    assert before["metadata"]["name"] != after["metadata"]["name"]


ROLLED_OUT = {"metadata": {}, "status": {"replicas": 1, "updatedReplicas": 1}}
ROLLING = {"metadata": {}, "status": {"replicas": 2, "updatedReplicas": 1}}


@pytest.mark.parametrize(
    ("deployments", "groups", "kept"),
    [
        pytest.param([], [ROLLED_OUT], False, id="every-group-is-new"),
        pytest.param([], [ROLLING], True, id="an-old-group-is-left"),
        pytest.param([ROLLED_OUT], [ROLLED_OUT], True, id="the-predecessor-is-left"),
        pytest.param([ROLLED_OUT], [], True, id="only-the-predecessor-runs"),
        pytest.param([], [], True, id="nothing-runs"),
    ],
)
def test_old_files_stay_until_no_pod_can_read_them(
    deployments: list[Manifest], groups: list[Manifest], kept: bool
) -> None:
    workloads = {DEPLOYMENT: deployments, LEADER_WORKER_SET: groups}
    assert (CONFIG_MAP not in prunable(LEADER_WORKER_SET, workloads, None)) == kept


def _status(ready: int, **more: Any) -> Manifest:
    return {"observedGeneration": 1, "replicas": 1, "readyReplicas": ready, "updatedReplicas": 1, **more}


def _unscheduled(labels: dict[str, str]) -> Manifest:
    condition = {"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"}
    return {"metadata": {"name": "llama-0", "labels": labels}, "status": {"conditions": [condition]}}


@pytest.mark.parametrize(
    ("status", "settled"),
    [
        pytest.param(_status(1), True, id="ready"),
        pytest.param(_status(0), False, id="starting"),
        pytest.param(_status(1, observedGeneration=0), False, id="a-change-not-seen"),
        pytest.param(_status(1, replicas=2), False, id="an-old-group-left"),
        pytest.param({}, False, id="not-yet-told"),
    ],
)
def test_groups_are_counted_as_replicas(status: Manifest, settled: bool) -> None:
    workload = {"metadata": {"name": "llama", "generation": 1}, "spec": {"replicas": 1}, "status": status}
    assert observe(LEADER_WORKER_SET, workload, []).settled == settled


@pytest.mark.parametrize(
    ("old", "new", "before", "after"),
    [
        pytest.param("Deployment", "LeaderWorkerSet", {}, TWO_NODES, id="to-several-nodes"),
        pytest.param("LeaderWorkerSet", "Deployment", TWO_NODES, {}, id="to-one"),
    ],
)
@pytest.mark.parametrize(
    ("status", "labels_of_pending", "gone"),
    [
        pytest.param(_status(0), None, False, id="while-the-new-one-starts"),
        pytest.param(_status(0), "old", False, id="a-pod-of-the-old-one-pends"),
        pytest.param(_status(0), "new", True, id="no-node-for-the-new-one"),
        pytest.param(_status(1), None, True, id="the-new-one-is-ready"),
    ],
)
async def test_the_old_workload_goes_when_the_new_one_serves_or_has_no_room(
    old: str, new: str, before: Manifest, after: Manifest, status: Manifest, labels_of_pending: str | None, gone: bool
) -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored(**before))
    await _settle(cluster, memory)
    stored = _stored({"observedGeneration": 1}, **after)
    memory.deployments[KEY] = cluster.stored[("LLMDeployment", "llama")] = stored
    await _settle(cluster, memory)
    assert ("delete", old) not in cluster.said()
    memory.objects[(new, "llama")]["metadata"]["generation"] = 1
    memory.objects[(new, "llama")]["status"] = status
    if labels_of_pending is not None:
        in_group = (new if labels_of_pending == "new" else old) == LEADER_WORKER_SET.kind
        memory.found_pods = [_unscheduled(GROUP if in_group else {})]
    await _settle(cluster, memory)
    assert (("delete", old) in cluster.said()) == gone
    assert ("delete", new) not in cluster.said()


async def test_the_key_is_made_before_the_pods_that_mount_it_and_not_again_once_they_run() -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored(**TWO_NODES))
    await _settle(cluster, memory)
    said = cluster.said()
    assert said.index(("create", "Secret")) < said.index((APPLY, "LeaderWorkerSet"))
    memory.objects[("LeaderWorkerSet", "llama")]["metadata"]["generation"] = 1
    memory.objects[("LeaderWorkerSet", "llama")]["status"] = _status(1)
    cluster.requests.clear()
    await _settle(cluster, memory)
    assert ("create", "Secret") not in cluster.said()
    assert _reason(memory) == "Ready"


async def test_without_the_api_no_pod_is_waited_for_and_the_status_says_so() -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored(**TWO_NODES))
    memory.absent[LEADER_WORKER_SET] = NotFound("no such resource", status=404)
    await _settle(cluster, memory)
    assert not {(APPLY, "LeaderWorkerSet"), ("create", "Secret")} & set(cluster.said())
    assert _reason(memory) == "APIMissing"


async def test_one_node_needs_no_leader_worker_set() -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored())
    memory.absent[LEADER_WORKER_SET] = NotFound("no such resource", status=404)
    await _settle(cluster, memory)
    assert (APPLY, DEPLOYMENT.kind) in cluster.said()
    assert ("create", "Secret") not in cluster.said()
    assert H100 in str(memory.objects[("Deployment", "llama")])
