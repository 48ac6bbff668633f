"""What keeps a pod from running, in the words of the cluster and with the field to change."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from trtllm_operator.diagnose import diagnose, failure
from trtllm_operator.facts import Problem

Manifest = dict[str, Any]


class ProblemReason(StrEnum):
    """Why pods do not become ready, beside what ``diagnose`` reads in their own words."""

    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_NOT_CREATED = "ContainerNotCreated"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    REPLICA_FAILURE = "ReplicaFailure"
    SANDBOX_NOT_CREATED = "SandboxNotCreated"
    UNSCHEDULABLE = "Unschedulable"
    VOLUME_NOT_MOUNTED = "VolumeNotMounted"


_IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_CREATE_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


def waiting_problems(pod: Manifest) -> Iterator[Problem]:
    """Yield why containers cannot be started."""
    name = pod["metadata"]["name"]
    for container in container_statuses(pod):
        waiting = container.get("state", {}).get("waiting", {})
        reason = waiting.get("reason", "")
        words = f"{reason} {waiting.get('message', '')}".strip()
        if reason in _IMAGE_REASONS:
            yield told("image", words, ProblemReason.IMAGE_PULL_FAILED, f"pod {name}: ")
        elif reason in _CREATE_REASONS:
            yield told("container", words, ProblemReason.CONTAINER_NOT_CREATED, f"pod {name}: ")


def ended_problems(pod: Manifest) -> Iterator[Problem]:
    """Yield how containers ended that should run."""
    name = pod["metadata"]["name"]
    for container in container_statuses(pod):
        if not container.get("ready") and (ended := _ended(container)):
            found = failure(pod, container["name"], ended)
            restarts = f"exit code {found.exit_code}, {container.get('restartCount', 0)} restarts"
            yield Problem(reason=found.reason, message=f"pod {name}: {found.message} ({restarts}); {found.hint}")


def unscheduled_problems(pod: Manifest) -> Iterator[Problem]:
    """Yield why a pod has no node."""
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            subject = f"pod {pod['metadata']['name']}{_claims(pod)}: "
            yield told("scheduling", condition.get("message", ""), ProblemReason.UNSCHEDULABLE, subject)


def _claims(pod: Manifest) -> str:
    """Name the claims, which the scheduler does not when one of them has no volume."""
    volumes = pod.get("spec", {}).get("volumes", ())
    names = [volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume]
    return f" with PersistentVolumeClaim {', '.join(names)}" if names else ""


def told(section: str, message: str, otherwise: ProblemReason, subject: str = "") -> Problem:
    """Return a problem in the words of the cluster, with what to change when they are known."""
    found = diagnose(section, message)
    said = f"{subject}{message.rstrip('.')}"
    if found is None:
        return Problem(reason=otherwise, message=said)
    return Problem(reason=found.reason, message=f"{said}; {found.hint}")


def is_placed(pod: Manifest) -> bool:
    """Whether a pod has a node."""
    return has_condition(pod, "PodScheduled", "True")


def has_condition(pod: Manifest, kind: str, status: str) -> bool:
    """Whether a pod has a condition of this status."""
    conditions = pod.get("status", {}).get("conditions", ())
    return any(c["type"] == kind and c["status"] == status for c in conditions)


def _ended(container: Manifest) -> Manifest | None:
    """Return how a container that is not ready ended: now, or before the start it is in the middle of."""
    ends = (container.get(when, {}).get("terminated") for when in ("state", "lastState"))
    return next((dict(end) for end in ends if end and end.get("exitCode")), None)


def container_statuses(pod: Manifest) -> Iterator[Manifest]:
    """Yield the status of every container, the init containers first."""
    status = pod.get("status", {})
    yield from (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
