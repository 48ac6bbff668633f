"""Pods look as a kubelet would report them, faults too."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.component

Wait = Callable[[Callable[[], Any], float], Any]

FAULTS = ("crash-loop", "crash-after-ready", "never-ready", "oom-killed", "image-pull")


def manifest(name: str, *, probed: bool = False, policy: str = "Always", **annotations: str) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "main", "image": "example.com/image:1"}
    if probed:
        container["startupProbe"] = {"httpGet": {"path": "/health", "port": 8000}}
    keys = {f"sandbox.trtllm.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "stages", "annotations": keys},
        "spec": {"restartPolicy": policy, "containers": [container]},
    }


@pytest.fixture(scope="module")
def status(kubectl: Any, wait: Wait) -> Callable[[str], dict[str, Any]]:
    kubectl("create", "namespace", "stages")
    wait(lambda: "default" in kubectl("get", "serviceaccounts", "--namespace=stages"), 20)
    kubectl.apply(
        manifest("plain"),
        manifest("loading", probed=True, ready_after="1h"),
        manifest("soon", probed=True, ready_after="2s"),
        manifest("task", policy="Never"),
        manifest("task-oom", policy="Never", fault="oom-killed"),
        manifest("slow-stop", stop_after="1h"),
        manifest("heals", fault="image-pull"),
        *(manifest(fault, fault=fault, back_off="1s") for fault in FAULTS),
    )

    def read(name: str) -> dict[str, Any]:
        found: dict[str, Any] = kubectl.get("pod", name, "--namespace=stages")["status"]
        return found

    return read


def container(found: dict[str, Any]) -> dict[str, Any]:
    statuses = found.get("containerStatuses") or [{"state": {}, "lastState": {}, "restartCount": 0}]
    assert len(statuses) == 1
    return dict(statuses[0])


def conditions(found: dict[str, Any]) -> dict[str, str]:
    return {c["type"]: c["status"] for c in found.get("conditions", [])}


def waiting(found: dict[str, Any]) -> str:
    return str(container(found)["state"].get("waiting", {}).get("reason", ""))


def test_plain_pod_becomes_ready(status: Callable[[str], Any], wait: Wait) -> None:
    wait(lambda: conditions(status("plain")).get("Ready") == "True", 20)
    found = status("plain")
    assert found["phase"] == "Running"
    assert conditions(found) == dict.fromkeys(
        ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"), "True"
    )
    main = container(found)
    assert (main["ready"], main["started"], main["restartCount"]) == (True, True, 0)
    assert main["containerID"].startswith("containerd://")
    assert main["image"] == "example.com/image:1"
    assert "@sha256:" in main["imageID"]
    dt.datetime.fromisoformat(main["state"]["running"]["startedAt"])
    assert found["podIP"].startswith("10.244.")
    assert found["startTime"]


def test_probed_pod_runs_unready_while_it_loads(status: Callable[[str], Any], wait: Wait) -> None:
    wait(lambda: status("loading")["phase"] == "Running", 20)
    found = status("loading")
    assert conditions(found)["Ready"] == "False"
    assert (container(found)["ready"], container(found)["started"]) == (False, False)
    wait(lambda: conditions(status("soon"))["Ready"] == "True", 20)
    assert container(status("soon"))["started"] is True


def test_ready_after_counts_from_the_start_of_the_containers(status: Callable[[str], Any], wait: Wait) -> None:
    wait(lambda: conditions(status("soon")).get("Ready") == "True", 20)
    found = status("soon")
    (ready,) = [c["lastTransitionTime"] for c in found["conditions"] if c["type"] == "Ready"]
    started = container(found)["state"]["running"]["startedAt"]
    took = dt.datetime.fromisoformat(ready) - dt.datetime.fromisoformat(started)
    assert dt.timedelta(seconds=1) <= took <= dt.timedelta(seconds=5)


@pytest.mark.parametrize(
    ("fault", "exit_code", "reason"),
    [
        pytest.param("crash-loop", 1, "Error", id="crash-loop"),
        pytest.param("oom-killed", 137, "OOMKilled", id="oom-killed"),
        pytest.param("crash-after-ready", 1, "Error", id="crash-after-ready"),
    ],
)
def test_crashing_container_backs_off_and_restarts(
    status: Callable[[str], Any], wait: Wait, fault: str, exit_code: int, reason: str
) -> None:
    def backs_off() -> dict[str, Any] | None:
        found = status(fault)
        again = waiting(found) == "CrashLoopBackOff" and container(found)["restartCount"] >= 2
        return found if again else None

    found = wait(backs_off, 30)
    main = container(found)
    assert main["state"]["waiting"]["message"].startswith(f"back-off 1s restarting failed container=main pod={fault}_")
    last = main["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (exit_code, reason)
    assert last["startedAt"] <= last["finishedAt"]
    assert last["containerID"].startswith("containerd://")
    assert (main["ready"], main["started"], found["phase"]) == (False, False, "Running")
    assert conditions(found)["Ready"] == "False"
    assert conditions(found)["ContainersReady"] == "False"


def test_never_ready_pod_runs(status: Callable[[str], Any], wait: Wait) -> None:
    wait(lambda: status("never-ready")["phase"] == "Running", 20)
    found = status("never-ready")
    assert "running" in container(found)["state"]
    assert container(found)["ready"] is False
    assert conditions(found)["Ready"] == "False"


def test_image_that_cannot_be_pulled(status: Callable[[str], Any], wait: Wait) -> None:
    wait(lambda: waiting(status("image-pull")) == "ImagePullBackOff", 20)
    found = status("image-pull")
    assert found["phase"] == "Pending"
    assert container(found)["imageID"] == ""
    message = container(found)["state"]["waiting"]["message"]
    assert message.startswith('Back-off pulling image "example.com/image:1": ErrImagePull: ')
    assert message.endswith("example.com/image:1: not found")


def test_pod_recovers_when_its_fault_is_removed(kubectl: Any, status: Callable[[str], Any], wait: Wait) -> None:
    wait(lambda: waiting(status("heals")) == "ImagePullBackOff", 20)
    kubectl("annotate", "pod", "heals", "--namespace=stages", "sandbox.trtllm.dev/fault-")
    wait(lambda: conditions(status("heals"))["Ready"] == "True", 20)
    kubectl("annotate", "pod", "heals", "--namespace=stages", "sandbox.trtllm.dev/fault=never-ready")
    wait(lambda: conditions(status("heals"))["Ready"] == "False", 20)


def test_task_succeeds_or_fails_without_restart(status: Callable[[str], Any], wait: Wait) -> None:
    wait(lambda: status("task")["phase"] == "Succeeded", 20)
    assert container(status("task"))["state"]["terminated"]["exitCode"] == 0
    wait(lambda: status("task-oom")["phase"] == "Failed", 20)
    assert container(status("task-oom"))["state"]["terminated"]["reason"] == "OOMKilled"


def test_job_completes(kubectl: Any, status: Callable[[str], Any]) -> None:
    del status
    kubectl("create", "job", "job", "--image=example.com/image:1", "--namespace=stages")
    kubectl("wait", "--for=condition=Complete", "job/job", "--namespace=stages", "--timeout=30s")


def test_deletion_is_graceful(kubectl: Any, status: Callable[[str], Any], wait: Wait) -> None:
    wait(lambda: status("slow-stop")["phase"] == "Running", 20)
    kubectl("delete", "pod", "slow-stop", "plain", "--namespace=stages", "--wait=false")
    wait(lambda: "plain" not in kubectl("get", "pods", "--namespace=stages"), 20)
    slow = kubectl.get("pod", "slow-stop", "--namespace=stages")
    assert "deletionTimestamp" in slow["metadata"]
    assert conditions(slow["status"])["Ready"] == "True"
    kubectl("delete", "pod", "slow-stop", "--namespace=stages", "--force", "--grace-period=0")
