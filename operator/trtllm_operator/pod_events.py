"""Why a pod that has a node does not start its containers, which is told in Events alone.

The Events of a namespace are many and short-lived, and nobody watches them: those of one pod are listed while it is
stuck.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from trtllm_operator.cluster import Cluster, Manifest, Manifests
from trtllm_operator.errors import OperatorError
from trtllm_operator.facts import Problem
from trtllm_operator.kinds import EVENT
from trtllm_operator.pod_problems import ProblemReason, container_statuses, has_condition, told
from trtllm_operator.workqueue import Key

logger = logging.getLogger(__name__)

STUCK_AFTER = timedelta(seconds=30)
"""A pod that has a node for this long mounts its volumes still: an ordinary one needs seconds."""

EVENTS_POLL = timedelta(seconds=60)
"""Between two lists of Events for one LLMDeployment."""

_NOT_STARTED = frozenset({"ContainerCreating", "PodInitializing"})
_TELLING = {
    "FailedAttachVolume": ProblemReason.VOLUME_NOT_MOUNTED,
    "FailedMapVolume": ProblemReason.VOLUME_NOT_MOUNTED,
    "FailedMount": ProblemReason.VOLUME_NOT_MOUNTED,
    "FailedCreatePodSandBox": ProblemReason.SANDBOX_NOT_CREATED,
    "NetworkNotReady": ProblemReason.SANDBOX_NOT_CREATED,
}
"""Reasons of Events (Kubernetes pkg/kubelet/events), and what they come to when no wording is known."""

_SUMMARY = "Unable to attach or mount volumes"
"""Lists the volumes that are missing and not why; the kubelet repeats it every two minutes."""

_PAGE = 100
_MOST_OBJECTS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Unstarted:
    """What is known of pods that do not start: a problem by pod name, and the seconds until more may be known."""

    problems: Mapping[str, Problem] = field(default_factory=dict)
    revisit: float | None = None


@dataclass(frozen=True, slots=True)
class _Reading:
    time: datetime
    pod: str
    problem: Problem | None


class PodEvents:
    """Reads the Events of the pod that has been stuck longest, and remembers what they told. ``now`` is UTC."""

    def __init__(self) -> None:
        self._readings: OrderedDict[Key, _Reading] = OrderedDict()

    async def unstarted(self, cluster: Cluster, key: Key, pods: Iterable[Manifest], now: datetime) -> Unstarted:
        """Return what keeps the first stuck one of an LLMDeployment's pods; nothing is read when none is stuck.

        Events that cannot be read are no error: then nothing is known.
        """
        pod, since = min(_waiting(pods), key=lambda waiting: waiting[1], default=(None, now))
        if pod is None:
            return Unstarted()
        if now - since < STUCK_AFTER:
            # Another machine dates the condition: its clock may be ahead of ours.
            return Unstarted(revisit=min(STUCK_AFTER - (now - since), STUCK_AFTER).total_seconds())
        reading = self._readings.get(key)
        if reading is None or now - reading.time >= EVENTS_POLL:
            reading = self._remember(key, _Reading(now, pod["metadata"]["uid"], await _problem(cluster, pod)))
        known = reading.problem if reading.pod == pod["metadata"]["uid"] else None
        problems = {} if known is None else {pod["metadata"]["name"]: known}
        return Unstarted(problems=problems, revisit=(reading.time + EVENTS_POLL - now).total_seconds())

    def _remember(self, key: Key, reading: _Reading) -> _Reading:
        self._readings[key] = reading
        self._readings.move_to_end(key)
        if len(self._readings) > _MOST_OBJECTS:
            self._readings.popitem(last=False)
        return reading


def _waiting(pods: Iterable[Manifest]) -> Iterable[tuple[Manifest, datetime]]:
    """Yield the pods whose volumes or sandbox are not there yet, by name, with the time they got their node."""
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"])):
        since = _placed_at(pod)
        if since is not None and _waits_for_volumes_or_sandbox(pod):
            yield pod, since


def _placed_at(pod: Manifest) -> datetime | None:
    for condition in pod.get("status", {}).get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "True":
            stamp = condition.get("lastTransitionTime")
            return datetime.fromisoformat(stamp) if stamp else None
    return None


def _waits_for_volumes_or_sandbox(pod: Manifest) -> bool:
    """Whether the kubelet has taken the pod on and has come as far as no image.

    PodReadyToStartContainers, on by default since Kubernetes 1.29, tells a mount that hangs from a large image that is
    being pulled: the container waits with the same reason.
    """
    if "deletionTimestamp" in pod["metadata"] or has_condition(pod, "PodReadyToStartContainers", "True"):
        return False
    reasons = [status.get("state", {}).get("waiting", {}).get("reason") for status in container_statuses(pod)]
    return bool(reasons) and _NOT_STARTED.issuperset(reasons)


async def _problem(cluster: Cluster, pod: Manifest) -> Problem | None:
    metadata = pod["metadata"]
    fields = f"involvedObject.uid={metadata['uid']},type=Warning"
    events: Manifests = []
    try:
        async for page in cluster.pages(EVENT, metadata["namespace"], fields=fields, limit=_PAGE):
            events += page
    except OperatorError as error:
        logger.info("%s/%s: its events are not known: %s", metadata["namespace"], metadata["name"], error)
        return None
    return _told_by(events, f"pod {metadata['name']}: ")


def _told_by(events: Iterable[Manifest], subject: str) -> Problem | None:
    """Return what the newest telling event says; a summary counts only where nothing else was told."""
    telling = [event for event in events if event.get("reason") in _TELLING and event.get("message")]
    event = max(telling, key=lambda one: (not one["message"].startswith(_SUMMARY), _time(one)), default=None)
    return None if event is None else told("start", event["message"].strip(), _TELLING[event["reason"]], subject)


def _time(event: Manifest) -> str:
    """Return when an event was told last, which its two APIs keep in different fields."""
    stamps = ((event.get("series") or {}).get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next(filter(None, stamps), "")
