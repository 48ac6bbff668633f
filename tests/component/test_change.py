"""What an edit does to what runs: approval, pause, rollout, scale; and what is told before a replica has a node."""

from __future__ import annotations

from typing import Any

import pytest

from control_plane import Manifest, Namespace, wait_until

pytestmark = pytest.mark.component

GPU = "requests.nvidia.com/gpu"


def _status(namespace: Namespace, name: str = "llama") -> Manifest:
    status: Manifest = namespace.get("llmd", name)["status"]
    return status


def _gpus(namespace: Namespace, name: str = "llama") -> str:
    pod = namespace.get("deployment", name)["spec"]["template"]["spec"]
    return str(pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])


def _until_counted(namespace: Namespace) -> None:
    """Wait until the quota counts: a pod that comes before is never counted."""
    wait_until(lambda: namespace.kubectl("get", "quota", "gpus", "--output=jsonpath={.status.hard}"))


def _uids(namespace: Namespace) -> set[str]:
    return {pod["metadata"]["uid"] for pod in namespace.list("pods")}


def test_another_plan_waits_for_approval_and_what_runs_keeps_running(namespace: Namespace) -> None:
    policy: dict[str, Any] = {"planChangePolicy": "RequireApproval"}
    namespace.deploy(gpus={"count": 1}, **policy)
    namespace.ready()
    before = _uids(namespace)

    namespace.deploy(gpus={"count": 2}, **policy)
    condition = namespace.until_reason("AwaitingApproval")
    pending = _status(namespace)["pendingPlan"]
    assert "gpus 1 -> 2" in pending["changes"]
    assert "replaces 1 replica of 1 GPUs" in pending["impact"]
    assert f"trtllm.dev/approve-plan={pending['id']}" in condition["message"]
    assert namespace.condition("Stalled")["status"] == "True"
    assert _uids(namespace) == before
    assert _gpus(namespace) == "1"

    namespace.kubectl("annotate", "llmd", "llama", "trtllm.dev/approve-plan=another")
    namespace.kubectl("annotate", "llmd", "llama", "--overwrite", f"trtllm.dev/approve-plan={pending['id']}")
    wait_until(lambda: _gpus(namespace) == "2")
    namespace.ready()
    status = _status(namespace)
    assert status["plan"]["id"] == pending["id"]
    assert "pendingPlan" not in status


def test_undoing_the_edit_withdraws_the_plan_that_waits(namespace: Namespace) -> None:
    policy: dict[str, Any] = {"planChangePolicy": "RequireApproval"}
    namespace.deploy(gpus={"count": 1}, **policy)
    namespace.ready()
    namespace.deploy(gpus={"count": 2}, **policy)
    namespace.until_reason("AwaitingApproval")
    namespace.deploy(gpus={"count": 1}, **policy)
    namespace.until_reason("Ready")
    assert "pendingPlan" not in _status(namespace)


def test_a_paused_object_is_left_alone_and_its_status_is_not(namespace: Namespace) -> None:
    namespace.deploy()
    namespace.ready()
    namespace.deploy(paused=True)
    wait_until(lambda: namespace.condition("Paused").get("status") == "True")
    assert namespace.condition()["status"] == "True", "paused, and nothing would be changed"

    namespace.deploy(paused=True, gpus={"count": 2})
    namespace.until_reason("Paused")
    namespace.kubectl("delete", "service", "llama")
    namespace.kubectl("scale", "deployment/llama", "--replicas=2")
    wait_until(lambda: _status(namespace)["replicas"] == 2)
    assert _gpus(namespace) == "1"
    assert namespace.find("service", "llama") is None

    namespace.deploy(gpus={"count": 2})
    wait_until(lambda: _gpus(namespace) == "2")
    namespace.ready()
    assert namespace.find("service", "llama") is not None
    assert namespace.condition("Paused") == {}


def test_a_bad_edit_leaves_the_healthy_replica_serving(namespace: Namespace) -> None:
    namespace.deploy(podMetadata={"annotations": {"note": "good"}})
    namespace.ready()
    (good,) = _uids(namespace)
    namespace.deploy(podMetadata={"annotations": {"sandbox.trtllm.dev/fault": "image-pull"}})
    namespace.until_reason("ImageNotFound")
    serving = [pod for pod in namespace.list("pods") if pod["metadata"]["uid"] == good]
    assert [c["status"] for c in serving[0]["status"]["conditions"] if c["type"] == "Ready"] == ["True"]
    assert _status(namespace)["readyReplicas"] == 1
    assert _status(namespace)["rollout"]["reason"] == "the GPUs of a further replica are free"
    namespace.deploy(podMetadata={"annotations": {"note": "good"}})
    namespace.ready()


def test_with_no_gpus_to_spare_the_only_replica_is_recreated(namespace: Namespace) -> None:
    namespace.kubectl("create", "quota", "gpus", f"--hard={GPU}=4")
    _until_counted(namespace)
    namespace.deploy(gpus={"count": 4})
    namespace.ready()
    assert namespace.get("deployment", "llama")["spec"]["strategy"]["type"] == "RollingUpdate"
    namespace.deploy(gpus={"count": 4}, podMetadata={"annotations": {"note": "new"}})
    wait_until(lambda: namespace.get("deployment", "llama")["spec"]["strategy"] == {"type": "Recreate"})
    namespace.ready()
    assert _status(namespace)["rollout"]["strategy"] == "Recreate"
    assert "nothing serves until the new replica has loaded" in _status(namespace)["rollout"]["reason"]


def test_the_user_s_rollout_is_the_deployment_s(namespace: Namespace) -> None:
    namespace.deploy(rollout={"strategy": "RollingUpdate", "maxSurge": 0, "maxUnavailable": 1}, replicas=2)
    namespace.ready()
    strategy = namespace.get("deployment", "llama")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


@pytest.mark.parametrize("replicas", [0, 2])
def test_kubectl_scale(namespace: Namespace, replicas: int) -> None:
    namespace.deploy()
    namespace.ready()
    namespace.kubectl("scale", "llmd/llama", f"--replicas={replicas}")
    wait_until(lambda: _status(namespace).get("ready") == f"{replicas}/{replicas}")
    namespace.ready()
    assert len([pod for pod in namespace.list("pods") if "deletionTimestamp" not in pod["metadata"]]) == replicas
    assert namespace.condition()["reason"] == ("Ready" if replicas else "ScaledToZero")


@pytest.mark.parametrize(
    ("kind", "gpus"),
    [pytest.param("Deployment", 1, id="one-node"), pytest.param("LeaderWorkerSet", 16, id="two-nodes")],
)
def test_a_workload_that_kubectl_scales_is_set_back_and_told_of_once(
    namespace: Namespace, kind: str, gpus: int
) -> None:
    namespace.deploy(gpus={"count": gpus})
    wait_until(lambda: namespace.find(kind, "llama"))
    for replicas in (3, 2):
        namespace.kubectl("scale", f"{kind}/llama", f"--replicas={replicas}")
        wait_until(lambda: namespace.get(kind, "llama")["spec"]["replicas"] == 1)
    namespace.kubectl("scale", "llmd/llama", "--replicas=2")
    wait_until(lambda: namespace.get(kind, "llama")["spec"]["replicas"] == 2)
    (message,) = namespace.told("ReplicasContested")
    assert message.startswith(f"kubectl set the replicas of {kind} llama to 3; set back to 1; ")


def test_a_quota_that_is_too_small_is_told_with_its_numbers(namespace: Namespace) -> None:
    namespace.kubectl("create", "quota", "gpus", f"--hard={GPU}=6")
    _until_counted(namespace)
    namespace.deploy(gpus={"count": 8})
    condition = namespace.until_reason("QuotaShort", "CapacityAvailable")
    assert (
        'ResourceQuota "gpus": requests.nvidia.com/gpu hard 6, used 0, this plan needs 8 more (2 short)'
        in (condition["message"])
    )
    assert _status(namespace)["capacity"]["quota"] == "gpus: 0 of 6 used"


def test_no_room_is_told_in_numbers_beside_the_scheduler_s_words(namespace: Namespace) -> None:
    namespace.deploy(gpus={"count": 8}, replicas=3)
    condition = namespace.until_reason("Unschedulable")
    assert "free GPUs on one node" in condition["message"]
    assert "largest free block is" in condition["message"]
    assert namespace.condition("CapacityAvailable")["status"] == "False"
    assert _status(namespace)["capacity"]["matchingNodes"] == 2


def test_a_product_no_node_has_is_told_with_what_there_is(namespace: Namespace) -> None:
    namespace.deploy(gpus={"product": "NVIDIA-H200"})
    condition = namespace.until_reason("NoMatchingNodes", "CapacityAvailable")
    assert "present: NVIDIA-H100-80GB-HBM3 x16" in condition["message"]
