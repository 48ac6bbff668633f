"""When the Events of a pod are read, and what they come to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from fakes import FakeCluster
from trtllm_operator import pod_events
from trtllm_operator.cluster import Cluster, Manifest
from trtllm_operator.errors import ClusterError, Forbidden, Unavailable
from trtllm_operator.pod_events import EVENTS_POLL, STUCK_AFTER, PodEvents, Unstarted
from trtllm_operator.watches import slim_pod
from trtllm_operator.workqueue import Key

KEY = Key("team-a", "llama")
PLACED = datetime(2026, 1, 1, tzinfo=UTC)
STUCK = PLACED + STUCK_AFTER
SUMMARY = "Unable to attach or mount volumes: unmounted volumes=[authorities], unattached volumes=[]: timed out"
CREATING = {"waiting": {"reason": "ContainerCreating"}}
INITIALIZING = {"waiting": {"reason": "PodInitializing"}}
RUNNING = {"running": {"startedAt": "2026-01-01T00:00:01Z"}}


def _pod(
    name: str = "llama-1",
    state: Any = None,
    init: Any = None,
    placed: datetime = PLACED,
    node: str = "True",
    sandbox: str = "False",
    **metadata: str,
) -> Manifest:
    stamp = placed.strftime("%Y-%m-%dT%H:%M:%SZ")
    scheduled = {"type": "PodScheduled", "status": node, "lastTransitionTime": stamp}
    status = {
        "conditions": [{"type": "PodReadyToStartContainers", "status": sandbox}, scheduled],
        "containerStatuses": [{"name": "trtllm-serve", "state": state or CREATING}],
        "initContainerStatuses": [{"name": "trust-store", "state": init}] if init else [],
    }
    return slim_pod({"metadata": {"name": name, "namespace": "team-a", "uid": name, **metadata}, "status": status})


def _without_containers(pod: Manifest) -> Manifest:
    return {**pod, "status": {"conditions": pod["status"]["conditions"]}}


def _event(message: str, second: int = 0, reason: str = "FailedMount", **fields: Any) -> Manifest:
    stamp = f"2026-01-01T00:00:{second:02}Z"
    return {"reason": reason, "message": message, "lastTimestamp": stamp, "eventTime": None, **fields}


class Told:
    """Events of a cluster, read by one reader at one time after another."""

    def __init__(self, *events: Manifest) -> None:
        self.cluster, self._reader = FakeCluster(), PodEvents()
        self.cluster.answers[("list", "Event")] = lambda _: list(events)

    async def at(self, now: datetime, *pods: Manifest, key: Key = KEY) -> Unstarted:
        return await self._reader.unstarted(cast("Cluster", self.cluster), key, pods, now)

    @property
    def lists(self) -> int:
        return len(self.cluster.requests)


@pytest.mark.parametrize(
    ("pod", "lists"),
    [
        pytest.param(_pod(), 1, id="container-creating"),
        pytest.param(_pod(state=INITIALIZING, init=INITIALIZING), 1, id="pod-initializing"),
        pytest.param(_pod(state=INITIALIZING, init=RUNNING), 0, id="init-container-runs"),
        pytest.param(_pod(state=INITIALIZING, init={"terminated": {"exitCode": 0}}), 0, id="init-container-done"),
        pytest.param(_pod(sandbox="True"), 0, id="image-is-being-pulled"),
        pytest.param(_pod(state={"waiting": {"reason": "ImagePullBackOff"}}), 0, id="waits-for-its-image"),
        pytest.param(_pod(state=RUNNING), 0, id="runs"),
        pytest.param(_pod(state={"terminated": {"exitCode": 1}}), 0, id="ended"),
        pytest.param(_pod(node="False"), 0, id="without-a-node"),
        pytest.param(_pod(deletionTimestamp="2026-01-01T00:00:20Z"), 0, id="deleted"),
        pytest.param(_without_containers(_pod()), 0, id="not-seen-by-a-kubelet"),
    ],
)
async def test_events_are_read_of_pods_that_wait_for_volumes_or_their_sandbox(pod: Manifest, lists: int) -> None:
    told = Told()
    found = await told.at(STUCK, pod)
    assert (told.lists, found.revisit) == (lists, EVENTS_POLL.total_seconds() if lists else None)
    assert found.problems == {}


@pytest.mark.parametrize(
    ("age", "lists", "revisit"),
    [
        pytest.param(timedelta(seconds=29), 0, 1, id="a-second-early"),
        pytest.param(timedelta(seconds=30), 1, 60, id="in-time"),
        pytest.param(timedelta(seconds=-300), 0, 30, id="the-scheduler-s-clock-is-ahead"),
    ],
)
async def test_a_pod_may_take_its_time(age: timedelta, lists: int, revisit: float) -> None:
    told = Told()
    found = await told.at(PLACED + age, _pod())
    assert (told.lists, found.revisit) == (lists, revisit)


async def test_only_the_pod_s_own_warnings_are_asked_for() -> None:
    told = Told()
    await told.at(STUCK, _pod())
    ((verb, kind, asked),) = told.cluster.requests
    assert (verb, kind, asked["metadata"]["namespace"]) == ("list", "Event", "team-a")
    assert asked["fields"] == "involvedObject.uid=llama-1,type=Warning"


async def test_events_are_read_once_a_minute_and_stay_told_meanwhile() -> None:
    told = Told(_event("no"))
    for seconds, lists in ((0, 1), (59, 1), (60, 2), (61, 2)):
        found = await told.at(STUCK + timedelta(seconds=seconds), _pod())
        assert (list(found.problems), told.lists) == (["llama-1"], lists)
        assert found.revisit == 60 - seconds % 60


async def test_the_pod_that_waits_longest_is_asked_about_and_the_next_one_not_at_once() -> None:
    told = Told(_event("no"))
    younger = _pod("llama-1", placed=PLACED + timedelta(seconds=1))
    older = _pod("llama-2")
    later = STUCK + timedelta(seconds=1)
    assert list((await told.at(later, younger, older)).problems) == ["llama-2"]
    assert await told.at(later, younger) == Unstarted(revisit=60)
    assert list((await told.at(later + EVENTS_POLL, younger)).problems) == ["llama-1"]
    assert told.lists == 2


async def test_no_more_readings_are_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_events, "_MOST_OBJECTS", 2)
    told, others = Told(), [Key("team-a", name) for name in ("a", "b")]
    for key, lists in ((KEY, 1), (others[0], 2), (KEY, 2), (others[1], 3), (KEY, 4)):
        await told.at(STUCK, _pod(), key=key)
        assert told.lists == lists


@pytest.mark.parametrize("error", [Forbidden("no", status=403), Unavailable("no", status=503)])
async def test_events_that_cannot_be_read_are_no_error(error: ClusterError) -> None:
    told = Told()
    told.cluster.answers[("list", "Event")] = error
    assert await told.at(STUCK, _pod()) == Unstarted(revisit=60)


@pytest.mark.parametrize(
    ("events", "reason", "message"),
    [
        pytest.param(
            [_event('MountVolume.SetUp failed for volume "authorities" : configmap "corp-ca" not found')],
            "ConfigMapMissing",
            'pod llama-1: MountVolume.SetUp failed for volume "authorities" : configmap "corp-ca" not found; '
            "create the ConfigMap with the key ca.crt, or correct spec.proxy.caConfigMap",
            id="known",
        ),
        pytest.param([_event("old", 1), _event("new", 3), _event("older", 2)], "VolumeNotMounted",
                     "pod llama-1: new", id="newest"),
        pytest.param([_event("cause", 1), _event(SUMMARY, 3)], "VolumeNotMounted",
                     "pod llama-1: cause", id="cause-before-summary"),
        pytest.param([_event(SUMMARY)], "VolumeNotMounted", f"pod llama-1: {SUMMARY}", id="summary-alone"),
        pytest.param([_event("no address", reason="FailedCreatePodSandBox")], "SandboxNotCreated",
                     "pod llama-1: no address", id="sandbox"),
        pytest.param([_event("detach first.\n", reason="FailedAttachVolume")], "VolumeNotMounted",
                     "pod llama-1: detach first", id="attach"),
        pytest.param([_event("old", 1), _event("new", 0, series={"lastObservedTime": "2026-01-01T00:00:02.000000Z"})],
                     "VolumeNotMounted", "pod llama-1: new", id="series"),
        pytest.param([_event("old", 1), _event("new", lastTimestamp=None, eventTime="2026-01-01T00:00:02.000000Z")],
                     "VolumeNotMounted", "pod llama-1: new", id="event-time"),
    ],
)  # fmt: skip
async def test_the_newest_telling_event_is_told(events: list[Manifest], reason: str, message: str) -> None:
    problem = (await Told(*events).at(STUCK, _pod())).problems["llama-1"]
    assert (problem.reason, problem.message) == (reason, message)


async def test_events_of_the_scheduler_are_another_story() -> None:
    unplaced = _event("0/4 nodes are available", reason="FailedScheduling")
    assert (await Told(unplaced, _event("")).at(STUCK, _pod())).problems == {}
