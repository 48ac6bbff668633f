from __future__ import annotations

from typing import Any

import pytest

from trtllm_operator.facts import Problem
from trtllm_operator.kinds import DEPLOYMENT
from trtllm_operator.observe import observe


def _deployment(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "llama", "generation": 2},
        "spec": {"replicas": 1},
        "status": {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, **status},
    }


def _pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "llama-1", "namespace": "default"}, "status": status}


def _container(state: dict[str, Any], last: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "trtllm-serve", "restartCount": 3, "state": state, "lastState": last or {}}]}


def test_settled_only_when_the_controller_has_seen_the_last_change() -> None:
    ready = observe(DEPLOYMENT, _deployment(readyReplicas=1), [])
    assert ready is not None
    assert ready.settled
    stale = observe(DEPLOYMENT, {**_deployment(readyReplicas=1), "metadata": {"name": "llama", "generation": 3}}, [])
    assert stale is not None
    assert not stale.settled


def test_an_old_pod_beside_the_new_one_is_not_settled() -> None:
    rolling = observe(DEPLOYMENT, _deployment(readyReplicas=1, replicas=2), [])
    assert rolling is not None
    assert not rolling.settled


@pytest.mark.parametrize(
    ("pod", "reason", "text"),
    [
        (
            _pod(**_container({"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}})),
            "ImageNotFound",
            "tag",
        ),
        (
            _pod(
                **_container(
                    {"waiting": {"reason": "CrashLoopBackOff"}},
                    {"terminated": {"exitCode": 1, "reason": "Error"}},
                )
            ),
            "CrashLoop",
            "code 1",
        ),
        (
            _pod(
                **_container(
                    {"waiting": {"reason": "CrashLoopBackOff"}},
                    {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
                )
            ),
            "OutOfMemory",
            "137",
        ),
        (
            _pod(conditions=[{"type": "PodScheduled", "status": "False", "message": "Insufficient nvidia.com/gpu"}]),
            "Unschedulable",
            "Insufficient nvidia.com/gpu",
        ),
    ],
)
def test_problems_of_pods(pod: dict[str, Any], reason: str, text: str) -> None:
    seen = observe(DEPLOYMENT, _deployment(), [pod])
    assert seen is not None
    assert seen.problem is not None
    assert seen.problem.reason == reason
    assert text in seen.problem.message


def test_a_container_that_was_stopped_on_purpose_is_no_trouble() -> None:
    seen = observe(DEPLOYMENT, _deployment(), [_pod(**_container({"running": {}}, {"terminated": {"exitCode": 0}}))])
    assert seen is not None
    assert (seen.problem, seen.failure) == (None, None)


def test_a_container_that_loads_again_after_a_crash_still_tells_of_it() -> None:
    crashed = {"terminated": {"exitCode": 1, "message": "CUDA out of memory", "finishedAt": "2026-01-01T00:00:00Z"}}
    seen = observe(DEPLOYMENT, _deployment(), [_pod(**_container({"running": {}}, crashed))])
    assert seen is not None
    assert seen.problem is not None
    assert seen.problem.reason == "GPUOutOfMemory"
    assert "spec.gpus.count" in seen.problem.message
    assert seen.failure is not None
    assert (seen.failure.pod, seen.failure.exit_code) == ("llama-1", 1)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            'pods "x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=4',
            "QuotaExceeded",
        ),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest"', "PodSecurity"),
        ("something else", "ReplicaFailure"),
    ],
)
def test_pods_the_api_server_refuses(message: str, reason: str) -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": message}
    seen = observe(DEPLOYMENT, _deployment(replicas=0, updatedReplicas=0, conditions=[condition]), [])
    assert seen is not None
    assert seen.problem is not None
    assert seen.problem.reason == reason
    assert seen.problem.message.startswith(message)


def test_what_events_tell_of_a_pod_comes_before_the_deadline_it_makes_pass() -> None:
    condition = {"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "too late"}
    workload = _deployment(conditions=[condition])
    workload["spec"]["progressDeadlineSeconds"] = 1500
    problem = Problem(reason="ConfigMapMissing", message="pod llama-1: not found")
    assert observe(DEPLOYMENT, workload, [_pod()], {"llama-1": problem}).problem == problem
    others = observe(DEPLOYMENT, _deployment(), [_pod()], {"llama-download-1": problem})
    assert others.problem is None


def _overdue(*pods: dict[str, Any]) -> str:
    message = 'ReplicaSet "llama-6b" has timed out progressing.'
    condition = {"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": message}
    workload = _deployment(conditions=[condition])
    workload["spec"]["progressDeadlineSeconds"] = 1500
    seen = observe(DEPLOYMENT, workload, pods)
    assert seen.problem is not None
    assert seen.problem.reason == "ProgressDeadlineExceeded"
    return seen.problem.message


def test_a_start_that_takes_too_long_is_told_with_its_budget() -> None:
    ready = _pod(conditions=[{"type": "Ready", "status": "True"}])
    slow = {**_pod(), "metadata": {"name": "llama-2"}}
    message = _overdue(ready, slow)
    for text in ("for 1500 s", "kubectl logs llama-2", "spec.startupTimeoutSeconds"):
        assert text in message
    assert "kubectl logs" not in _overdue()


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        pytest.param((), "pod llama-1: no volume", id="none"),
        pytest.param(("models", "data"), "pod llama-1 with PersistentVolumeClaim models, data: no volume", id="two"),
    ],
)
def test_a_pod_without_a_node_is_told_with_its_claims(claims: tuple[str, ...], expected: str) -> None:
    pod = _pod(conditions=[{"type": "PodScheduled", "status": "False", "message": "no volume."}])
    pod["spec"] = {"volumes": [{"name": "x", "persistentVolumeClaim": {"claimName": claim}} for claim in claims]}
    seen = observe(DEPLOYMENT, _deployment(), [pod])
    assert seen.problem is not None
    assert seen.problem.message == expected


def test_pods_on_their_way_out_tell_nothing() -> None:
    leaving = _pod(**_container({"waiting": {"reason": "CrashLoopBackOff"}}, {"terminated": {"exitCode": 1}}))
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    seen = observe(DEPLOYMENT, _deployment(), [leaving])
    assert seen is not None
    assert seen.problem is None
