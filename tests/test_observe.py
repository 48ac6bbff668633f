from __future__ import annotations

from typing import Any

import pytest

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


def test_nothing_runs() -> None:
    assert observe(None, []) is None


def test_settled_only_when_the_controller_has_seen_the_last_change() -> None:
    ready = observe(_deployment(readyReplicas=1), [])
    assert ready is not None
    assert ready.settled
    stale = observe({**_deployment(readyReplicas=1), "metadata": {"name": "llama", "generation": 3}}, [])
    assert stale is not None
    assert not stale.settled


def test_an_old_pod_beside_the_new_one_is_not_settled() -> None:
    rolling = observe(_deployment(readyReplicas=1, replicas=2), [])
    assert rolling is not None
    assert not rolling.settled


@pytest.mark.parametrize(
    ("pod", "reason", "text"),
    [
        (
            _pod(**_container({"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}})),
            "ImagePullFailed",
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
    seen = observe(_deployment(), [pod])
    assert seen is not None
    assert seen.problem is not None
    assert seen.problem.reason == reason
    assert text in seen.problem.message


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
    seen = observe(_deployment(replicas=0, updatedReplicas=0, conditions=[condition]), [])
    assert seen is not None
    assert seen.problem is not None
    assert (seen.problem.reason, seen.problem.message) == (reason, message)


def test_pods_on_their_way_out_tell_nothing() -> None:
    leaving = _pod(**_container({"waiting": {"reason": "CrashLoopBackOff"}}, {"terminated": {"exitCode": 1}}))
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    seen = observe(_deployment(), [leaving])
    assert seen is not None
    assert seen.problem is None
