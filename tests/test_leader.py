"""The election against a lease in memory, two clocks and no sleep."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from clocks import ManualClock
from trtllm_operator.cluster import Cluster
from trtllm_operator.errors import Conflict, NotFound, NotLeader, Unavailable
from trtllm_operator.kinds import Kind
from trtllm_operator.leader import Attempt, Elector
from trtllm_operator.lease import Election, Manifest

DURATION = 15
DEADLINE = 10


class LeaseApi:
    """One Lease with a resourceVersion; ``down`` answers nothing, ``deaf`` stores and then answers nothing."""

    def __init__(self) -> None:
        self.lease: Manifest | None = None
        self.down = self.deaf = False
        self.writes: list[str] = []

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        assert (kind.plural, namespace, name) == ("leases", "system", "trtllm-operator")
        self._answer()
        return copy.deepcopy(self.lease)

    async def create(self, _: Kind, manifest: Manifest) -> Manifest:
        self._answer()
        if self.lease is not None:
            raise Conflict("exists", status=409)
        return self._store(manifest, "1")

    async def update(self, _: Kind, manifest: Manifest) -> Manifest:
        self._answer()
        if self.lease is None:
            raise NotFound("gone", status=404)
        if manifest["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict("changed", status=409)
        return self._store(manifest, str(int(self.lease["metadata"]["resourceVersion"]) + 1))

    def edit(self) -> None:
        assert self.lease is not None
        metadata = self.lease["metadata"]
        metadata["resourceVersion"] = str(int(metadata["resourceVersion"]) + 1)

    def _answer(self) -> None:
        if self.down:
            raise Unavailable("no answer")

    def _store(self, manifest: Manifest, version: str) -> Manifest:
        self.lease = copy.deepcopy(manifest)
        self.lease["metadata"]["resourceVersion"] = version
        self.writes.append(manifest["spec"]["holderIdentity"])
        if self.deaf:
            raise Unavailable("answer lost")
        return copy.deepcopy(self.lease)


class Candidate:
    """An elector, its clock, and why it ended."""

    def __init__(self, api: LeaseApi, identity: str, skew: timedelta = timedelta()) -> None:
        self.clock = ManualClock()
        self.ends: list[str] = []
        start = datetime(2026, 1, 1, tzinfo=UTC) + skew
        self.elector = Elector(
            cast("Cluster", api),
            Election(namespace="system", identity=identity, duration=DURATION, renew_deadline=DEADLINE),
            clock=self.clock,
            now=lambda: start + timedelta(seconds=self.clock.now),
            lost=self.ends.append,
        )

    async def attempt(self) -> str:
        return (await self.elector.attempt()).name


@pytest.fixture
def api() -> LeaseApi:
    return LeaseApi()


async def test_the_first_creates_the_lease_and_may_write(api: LeaseApi) -> None:
    one = Candidate(api, "one")
    with pytest.raises(NotLeader):
        one.elector.fence()
    assert await one.attempt() == "HELD"
    one.elector.fence()
    assert api.lease is not None
    assert api.lease["spec"]["holderIdentity"] == "one"
    assert api.lease["spec"]["leaseDurationSeconds"] == DURATION


@pytest.mark.parametrize("skew", [timedelta(), timedelta(days=1), timedelta(days=-1)], ids=["same", "ahead", "behind"])
async def test_a_silent_leader_is_replaced_after_the_duration_whatever_the_wall_clock_says(
    api: LeaseApi, skew: timedelta
) -> None:
    one, two = Candidate(api, "one"), Candidate(api, "two", skew)
    await one.attempt()
    assert await two.attempt() == "TAKEN"
    two.clock.advance(DURATION - 0.1)
    assert await two.attempt() == "TAKEN"
    two.clock.advance(0.1)
    assert await two.attempt() == "HELD"
    assert api.lease is not None
    assert api.lease["spec"]["leaseTransitions"] == 1


async def test_a_leader_that_renews_is_never_replaced(api: LeaseApi) -> None:
    one, two = Candidate(api, "one"), Candidate(api, "two")
    for _ in range(20):
        assert await one.attempt() == "HELD"
        assert await two.attempt() == "TAKEN"
        one.clock.advance(DURATION - 8)
        two.clock.advance(DURATION - 8)
    assert one.ends == []


async def test_the_old_leader_ends_before_the_new_one_can_lead(api: LeaseApi) -> None:
    one, two = Candidate(api, "one"), Candidate(api, "two")
    await one.attempt()
    await two.attempt()
    led = []
    for _ in range(DURATION * 4):
        one.clock.advance(0.25)
        two.clock.advance(0.25)
        led.append((one.elector.leading, await two.attempt() == "HELD"))
    assert (True, True) not in led
    assert led[-1] == (False, True)
    assert len(one.ends) == 1


async def test_the_deadline_counts_from_when_the_renewal_was_sent(api: LeaseApi) -> None:
    one = Candidate(api, "one")
    plain = api.create

    async def slow(kind: Kind, manifest: Manifest) -> Manifest:
        one.clock.advance(4)
        return await plain(kind, manifest)

    api.create = slow  # type: ignore[method-assign]
    await one.attempt()
    one.clock.advance(DEADLINE - 4)
    assert not one.elector.leading


async def test_a_process_that_was_frozen_may_not_write_before_its_alarm_has_rung(api: LeaseApi) -> None:
    one = Candidate(api, "one")
    await one.attempt()
    one.clock.now += 60
    with pytest.raises(NotLeader):
        one.elector.fence()


async def test_an_outage_shorter_than_the_deadline_costs_nothing(api: LeaseApi) -> None:
    one = Candidate(api, "one")
    await one.attempt()
    api.down = True
    one.clock.advance(DEADLINE - 1)
    assert await one.attempt() == "UNANSWERED"
    api.down = False
    assert await one.attempt() == "HELD"
    one.clock.advance(DEADLINE - 1)
    assert one.elector.leading
    assert one.ends == []


@pytest.mark.parametrize(
    "meddle",
    [
        pytest.param(LeaseApi.edit, id="edited"),
        pytest.param(lambda api: setattr(api, "lease", None), id="deleted"),
    ],
)
async def test_a_leader_survives_what_people_do_to_its_lease(api: LeaseApi, meddle: Callable[[LeaseApi], Any]) -> None:
    one = Candidate(api, "one")
    await one.attempt()
    meddle(api)
    assert await one.attempt() == "HELD"
    assert api.lease is not None
    assert api.lease["spec"]["holderIdentity"] == "one"


async def test_a_deleted_lease_is_not_free_before_its_holder_had_its_time(api: LeaseApi) -> None:
    one, two = Candidate(api, "one"), Candidate(api, "two")
    await one.attempt()
    await two.attempt()
    api.lease = None
    assert await two.attempt() == "TAKEN"
    two.clock.advance(DURATION)
    assert await two.attempt() == "HELD"


async def test_a_write_whose_answer_was_lost_is_recognised(api: LeaseApi) -> None:
    one = Candidate(api, "one")
    api.deaf = True
    assert await one.attempt() == "UNANSWERED"
    api.deaf = False
    assert await one.attempt() == "HELD"


async def test_a_leader_whose_lease_was_taken_says_so(api: LeaseApi) -> None:
    one = Candidate(api, "one")
    await one.attempt()
    assert api.lease is not None
    api.lease["spec"]["holderIdentity"] = "ghost"
    api.edit()
    assert await one.elector.attempt() is Attempt.TAKEN


async def test_a_released_lease_is_free_at_once_and_forbids_writes_before_it_is(api: LeaseApi) -> None:
    one, two = Candidate(api, "one"), Candidate(api, "two")
    await one.attempt()
    await two.attempt()
    plain = api.update
    allowed = []

    async def watched(kind: Kind, manifest: Manifest) -> Manifest:
        allowed.append(one.elector.leading)
        return await plain(kind, manifest)

    api.update = watched  # type: ignore[method-assign]
    await one.elector.release()
    assert allowed == [False]
    assert await two.attempt() == "HELD"
    one.clock.advance(60)
    assert one.ends == []


async def test_of_two_that_find_it_free_one_gets_it(api: LeaseApi) -> None:
    one, two = Candidate(api, "one"), Candidate(api, "two")
    plain = api.get

    async def both_see_nothing(kind: Kind, namespace: str, name: str) -> Manifest | None:
        found = await plain(kind, namespace, name)
        if found is None:
            api.get = plain  # type: ignore[method-assign]
            assert await two.attempt() == "HELD"
        return found

    api.get = both_see_nothing  # type: ignore[method-assign]
    assert await one.attempt() == "TAKEN"
    assert not one.elector.leading
