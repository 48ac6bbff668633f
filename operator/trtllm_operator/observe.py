"""From the Deployment and its pods, as the cluster reports them, to what the status must say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any

from trtllm_operator.facts import Observed, Problem

Manifest = dict[str, Any]


class ProblemReason(StrEnum):
    """Why pods do not become ready."""

    CRASH_LOOP = "CrashLoop"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    OUT_OF_MEMORY = "OutOfMemory"
    POD_SECURITY = "PodSecurity"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    QUOTA_EXCEEDED = "QuotaExceeded"
    REPLICA_FAILURE = "ReplicaFailure"
    UNSCHEDULABLE = "Unschedulable"


_IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})


def observe(deployment: Manifest | None, pods: Iterable[Manifest]) -> Observed | None:
    """Read a Deployment and its pods; None when there is no Deployment."""
    if deployment is None:
        return None
    spec, status, metadata = deployment["spec"], deployment.get("status", {}), deployment["metadata"]
    wanted, ready, updated = (
        spec.get("replicas", 1),
        status.get("readyReplicas", 0),
        status.get("updatedReplicas", 0),
    )
    total = status.get("replicas", 0)
    seen = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
    settled = seen and updated == wanted and ready == wanted and total == wanted
    problem = None if settled else next(_problems(deployment, pods), None)
    return Observed(
        kind="Deployment",
        name=metadata["name"],
        wanted=wanted,
        replicas=total,
        ready=ready,
        settled=settled,
        problem=problem,
    )


def _problems(deployment: Manifest, pods: Iterable[Manifest]) -> Iterator[Problem]:
    """Yield what is wrong, the most telling first."""
    for pod in sorted(pods, key=lambda pod: pod["metadata"]["name"]):
        if "deletionTimestamp" not in pod["metadata"]:
            yield from _container_problems(pod)
    conditions = {c["type"]: c for c in deployment.get("status", {}).get("conditions", [])}
    failure = conditions.get("ReplicaFailure", {})
    if failure.get("status") == "True":
        yield Problem(reason=_refused(failure.get("message", "")), message=failure.get("message", ""))
    for pod in sorted(pods, key=lambda pod: pod["metadata"]["name"]):
        yield from _unscheduled(pod)
    progress = conditions.get("Progressing", {})
    if progress.get("reason") == ProblemReason.PROGRESS_DEADLINE_EXCEEDED:
        yield Problem(reason=ProblemReason.PROGRESS_DEADLINE_EXCEEDED, message=progress.get("message", ""))


def _refused(message: str) -> ProblemReason:
    if "exceeded quota" in message:
        return ProblemReason.QUOTA_EXCEEDED
    if "violates PodSecurity" in message:
        return ProblemReason.POD_SECURITY
    return ProblemReason.REPLICA_FAILURE


def _container_problems(pod: Manifest) -> Iterator[Problem]:
    name = pod["metadata"]["name"]
    for container in pod.get("status", {}).get("containerStatuses", []):
        restarts = container.get("restartCount", 0)
        waiting = container.get("state", {}).get("waiting", {})
        last = container.get("lastState", {}).get("terminated", {})
        if waiting.get("reason") in _IMAGE_REASONS:
            told = f"{waiting['reason']} {waiting.get('message', '')}".strip()
            yield Problem(
                reason=ProblemReason.IMAGE_PULL_FAILED, message=f"pod {name}: {told}; check spec.engine.image"
            )
        elif last.get("reason") == "OOMKilled":
            yield Problem(
                reason=ProblemReason.OUT_OF_MEMORY,
                message=f"pod {name}: the container was killed for want of host memory "
                f"(exit code {last.get('exitCode')}, {restarts} restarts)",
            )
        elif waiting.get("reason") == "CrashLoopBackOff":
            yield Problem(
                reason=ProblemReason.CRASH_LOOP,
                message=f"pod {name}: trtllm-serve exited with code {last.get('exitCode')} "
                f"({restarts} restarts); kubectl logs {name} --previous",
            )


def _unscheduled(pod: Manifest) -> Iterator[Problem]:
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            message = f"pod {pod['metadata']['name']}: {condition.get('message', '')}"
            yield Problem(reason=ProblemReason.UNSCHEDULABLE, message=message)
