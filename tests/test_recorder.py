from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast

from fakes import FakeCluster
from trtllm_operator.cluster import Cluster
from trtllm_operator.errors import Unavailable
from trtllm_operator.recorder import MOST_PER_PERIOD, QUIET_PERIOD, Recorder
from trtllm_operator.status import Transition
from trtllm_operator.workqueue import Key

KEY = Key("team-a", "llama")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _change(message: str = "x") -> Transition:
    return Transition(type="Warning", reason="CrashLoop", message=message)


async def _told(*changes: tuple[float, str, Transition]) -> list[str]:
    """Return the messages that were posted of these, each with its second and the uid it is about."""
    cluster, recorder = FakeCluster(), Recorder()
    for second, uid, change in changes:
        await recorder.post(cast("Cluster", cluster), KEY, uid, change, NOW + timedelta(seconds=second))
    return [event["message"] for _, _, event in cluster.requests]


async def test_the_same_is_told_once_in_a_while() -> None:
    later = QUIET_PERIOD.total_seconds()
    told = await _told((0, "u1", _change()), (1, "u1", _change()), (later, "u1", _change()))
    assert told == ["x", "x"]


async def test_another_message_and_another_object_are_news() -> None:
    told = await _told((0, "u1", _change("a")), (0, "u1", _change("b")), (0, "u2", _change("a")))
    assert told == ["a", "b", "a"]


async def test_a_status_that_flaps_makes_no_storm() -> None:
    assert len(await _told(*((n, "u1", _change(str(n))) for n in range(100)))) == MOST_PER_PERIOD


async def test_numbers_that_change_are_told_once() -> None:
    told = [Transition(type="Warning", reason="Scaled", message=str(n), topic="kubectl") for n in range(3)]
    other = Transition(type="Warning", reason="Scaled", message="9", topic="keda")
    assert await _told(*((n, "u1", change) for n, change in enumerate([*told, other]))) == ["0", "9"]


async def test_a_lost_event_is_no_error() -> None:
    cluster = FakeCluster()
    cluster.answers[("create", "Event")] = Unavailable("no", status=503)
    await Recorder().post(cast("Cluster", cluster), KEY, "u1", _change(), NOW)
    assert cluster.said() == [("create", "Event")]


async def test_an_event_names_its_object_and_fits_the_api_server() -> None:
    cluster = FakeCluster()
    await Recorder().post(cast("Cluster", cluster), KEY, "u1", _change("m" * 5000), NOW)
    event = cluster.requests[0][2]
    assert (event["involvedObject"]["name"], event["involvedObject"]["uid"]) == ("llama", "u1")
    assert len(event["message"]) == 1024
