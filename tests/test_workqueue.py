"""The queue against a clock that only the test moves."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import defaultdict
from collections.abc import AsyncIterator

import pytest

from clocks import ManualClock
from trtllm_operator.errors import Unavailable
from trtllm_operator.workqueue import Key, WorkQueue, exponential_backoff

A, B = Key("one", "a"), Key("one", "b")
DEADLINE = 5


class Work:
    """Records what runs; holds a key until it is let go; plays a script of results."""

    def __init__(self) -> None:
        self.ran: list[Key] = []
        self.gates: dict[Key, asyncio.Event] = {}
        self.results: dict[Key, list[float | BaseException | None]] = defaultdict(list)
        self._moved = asyncio.Condition()

    async def __call__(self, key: Key) -> float | None:
        self.ran.append(key)
        async with self._moved:
            self._moved.notify_all()
        if key in self.gates:
            await self.gates[key].wait()
        result = self.results[key].pop(0) if self.results[key] else None
        if isinstance(result, BaseException):
            raise result
        return result

    def hold(self, key: Key) -> asyncio.Event:
        self.gates[key] = asyncio.Event()
        return self.gates[key]

    async def count(self, number: int) -> None:
        async with asyncio.timeout(DEADLINE), self._moved:
            await self._moved.wait_for(lambda: len(self.ran) >= number)


async def settle(queue: WorkQueue) -> None:
    """Let the loop run until nothing is ready and nothing runs."""
    async with asyncio.timeout(DEADLINE):
        while queue.depth or queue.in_flight:  # noqa: ASYNC110 - a turn of the loop, not a wait
            await asyncio.sleep(0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def work() -> Work:
    return Work()


@contextlib.asynccontextmanager
async def running(queue: WorkQueue) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def queue_of(work: Work, clock: ManualClock, workers: int = 8) -> WorkQueue:
    return WorkQueue(work, workers=workers, clock=clock, backoff=lambda failures: 10.0 * failures)


async def test_adds_before_the_run_are_one_run(work: Work, clock: ManualClock) -> None:
    queue = queue_of(work, clock)
    for _ in range(3):
        queue.add(A)
    assert queue.depth == 1
    async with running(queue):
        await settle(queue)
    assert work.ran == [A]


async def test_add_during_a_run_runs_again_and_never_twice_at_once(work: Work, clock: ManualClock) -> None:
    queue, gate = queue_of(work, clock), work.hold(A)
    async with running(queue):
        queue.add(A)
        await work.count(1)
        queue.add(A)
        queue.add(A)
        assert (queue.in_flight, queue.depth) == (1, 0)
        gate.set()
        await settle(queue)
    assert work.ran == [A, A]


async def test_delay_waits_and_the_earlier_visit_wins(work: Work, clock: ManualClock) -> None:
    queue = queue_of(work, clock)
    async with running(queue):
        queue.add(A, delay=10)
        queue.add(A, delay=5)
        queue.add(A, delay=20)
        clock.advance(4.9)
        await settle(queue)
        assert work.ran == []
        clock.advance(0.1)
        await settle(queue)
        assert work.ran == [A]
        clock.advance(100)
        await settle(queue)
    assert work.ran == [A]


async def test_revisit_is_what_the_last_run_asked_for(work: Work, clock: ManualClock) -> None:
    queue = queue_of(work, clock)
    work.results[A] = [30, None]
    async with running(queue):
        queue.add(A)
        await settle(queue)
        clock.advance(10)
        queue.add(A)
        await settle(queue)
        clock.advance(100)
        await settle(queue)
    assert work.ran == [A, A], "the run at 10 s asked for nothing more"


async def test_delayed_add_during_a_run_is_kept(work: Work, clock: ManualClock) -> None:
    queue, gate = queue_of(work, clock), work.hold(A)
    async with running(queue):
        queue.add(A)
        await work.count(1)
        queue.add(A, delay=5)
        gate.set()
        await settle(queue)
        assert work.ran == [A]
        clock.advance(5)
        await settle(queue)
    assert work.ran == [A, A]


async def test_failures_back_off_and_success_resets(
    work: Work, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    queue = queue_of(work, clock)
    work.results[A] = [RuntimeError("boom"), RuntimeError("boom"), None, RuntimeError("boom")]
    async with running(queue):
        queue.add(A)
        await settle(queue)
        for pause, runs in ((9.9, 1), (0.1, 2), (19.9, 2), (0.1, 3)):
            clock.advance(pause)
            await settle(queue)
            assert len(work.ran) == runs
        queue.add(A)
        await settle(queue)
        clock.advance(10)
        await settle(queue)
    assert len(work.ran) == 5
    assert caplog.text.count("RuntimeError: boom") == 3


async def test_event_during_back_off_waits_unless_urgent(work: Work, clock: ManualClock) -> None:
    queue = queue_of(work, clock)
    work.results[A] = [RuntimeError("boom"), RuntimeError("boom")]
    async with running(queue):
        queue.add(A)
        await settle(queue)
        queue.add(A)
        queue.add(A, delay=3)
        await settle(queue)
        clock.advance(5)
        await settle(queue)
        assert len(work.ran) == 1
        queue.add(A, urgent=True)
        await settle(queue)
        assert len(work.ran) == 2
        clock.advance(19)
        await settle(queue)
        assert len(work.ran) == 2, "the urgent run failed too: the second back-off counts from there"
        clock.advance(1)
        await settle(queue)
    assert len(work.ran) == 3


@pytest.mark.parametrize(("urgent", "runs"), [(False, 1), (True, 2)])
async def test_add_during_a_run_that_fails(work: Work, clock: ManualClock, *, urgent: bool, runs: int) -> None:
    queue, gate = queue_of(work, clock), work.hold(A)
    work.results[A] = [RuntimeError("boom")]
    async with running(queue):
        queue.add(A)
        await work.count(1)
        queue.add(A, urgent=urgent)
        gate.set()
        await settle(queue)
        assert len(work.ran) == runs
        clock.advance(10)
        await settle(queue)
    assert len(work.ran) == 2


async def test_retry_after_is_the_least_pause(work: Work, clock: ManualClock) -> None:
    queue = queue_of(work, clock)
    work.results[A] = [Unavailable("busy", retry_after=25), Unavailable("busy", retry_after=1)]
    async with running(queue):
        queue.add(A)
        await settle(queue)
        for pause, runs in ((24.9, 1), (0.1, 2), (19.9, 2), (0.1, 3)):
            clock.advance(pause)
            await settle(queue)
            assert len(work.ran) == runs


async def test_namespaces_take_turns_and_names_keep_their_order(work: Work, clock: ManualClock) -> None:
    queue = queue_of(work, clock, workers=1)
    crowd = [Key("big", str(number)) for number in range(5)]
    for key in [*crowd, Key("small", "x"), Key("small", "y"), Key("tiny", "z")]:
        queue.add(key)
    async with running(queue):
        await settle(queue)
    turns = ["big/0", "small/x", "tiny/z", "big/1", "small/y", "big/2", "big/3", "big/4"]
    assert [str(key) for key in work.ran] == turns


async def test_no_more_than_workers_run_at_once(work: Work, clock: ManualClock) -> None:
    queue = queue_of(work, clock, workers=3)
    keys = [Key("one", str(number)) for number in range(10)]
    gates = [work.hold(key) for key in keys]
    for key in keys:
        queue.add(key)
    clock.advance(7)
    assert queue.oldest_age(clock.now) == 7
    async with running(queue):
        await work.count(3)
        assert (queue.in_flight, queue.depth, len(work.ran)) == (3, 7, 3)
        for gate in gates:
            gate.set()
        await settle(queue)
    assert len(work.ran) == 10
    assert queue.oldest_age(clock.now) == 0.0


async def test_drain_lets_runs_finish_and_starts_none(work: Work, clock: ManualClock) -> None:
    queue, gate = queue_of(work, clock, workers=1), work.hold(A)
    task = asyncio.create_task(queue.run())
    queue.add(A)
    queue.add(B)
    queue.add(Key("one", "c"), delay=5)
    await work.count(1)
    queue.add(A)
    drained = asyncio.create_task(queue.drain(DEADLINE))
    await asyncio.sleep(0)
    queue.add(Key("one", "d"))
    gate.set()
    assert await drained
    await task
    assert work.ran == [A]
    assert clock.pending == 0


async def test_drain_gives_up_after_its_time(work: Work, clock: ManualClock) -> None:
    queue = queue_of(work, clock)
    work.hold(A)
    async with running(queue):
        queue.add(A)
        await work.count(1)
        assert not await queue.drain(0.01)
        assert queue.in_flight == 1


async def test_drain_of_an_idle_queue_ends_its_run(work: Work, clock: ManualClock) -> None:
    queue = queue_of(work, clock)
    task = asyncio.create_task(queue.run())
    await asyncio.sleep(0)
    assert await queue.drain(DEADLINE)
    await task


async def test_cancellation_inside_a_run_is_a_failure_and_costs_no_worker(work: Work, clock: ManualClock) -> None:
    queue = queue_of(work, clock, workers=1)
    work.results[A] = [asyncio.CancelledError()]
    async with running(queue):
        queue.add(A)
        await settle(queue)
        queue.add(B)
        await settle(queue)
        clock.advance(10)
        await settle(queue)
    assert work.ran == [A, B, A]


async def test_idle_queue_sets_no_alarm(work: Work, clock: ManualClock) -> None:
    queue = queue_of(work, clock)
    async with running(queue):
        queue.add(A)
        await settle(queue)
        assert clock.pending == 0


async def test_timeline_does_not_grow_with_dropped_visits(work: Work, clock: ManualClock) -> None:
    queue = queue_of(work, clock)
    work.results[A] = [600.0] * 1000
    async with running(queue):
        for _ in range(1000):
            queue.add(A)
            await settle(queue)
    assert len(queue._timeline) < 100


async def test_the_loop_is_the_default_clock(work: Work) -> None:
    queue = WorkQueue(work)
    async with running(queue):
        queue.add(A, delay=0.001)
        await work.count(1)


def test_default_backoff_doubles_to_a_minute_with_jitter() -> None:
    for failures, middle in ((1, 0.5), (2, 1), (5, 8), (8, 60), (10_000, 60)):
        pauses = [exponential_backoff(failures) for _ in range(200)]
        assert min(pauses) >= middle * 0.8
        assert max(pauses) <= middle * 1.2
        assert max(pauses) - min(pauses) > middle * 0.2


@pytest.mark.parametrize("seed", range(3))
async def test_every_add_is_followed_by_a_run_and_no_two_runs_overlap(seed: int) -> None:
    chance, order = random.Random(seed), itertools.count()
    clock, inside = ManualClock(), set()
    added: dict[Key, int] = {}
    started: dict[Key, int] = {}

    async def work(key: Key) -> float | None:
        assert key not in inside
        inside.add(key)
        started[key] = next(order)
        try:
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            if chance.random() < 0.1:
                raise Unavailable("chance", retry_after=chance.choice([None, 2.0]))
            return chance.choice([None, None, None, 5.0])
        finally:
            inside.discard(key)

    queue = WorkQueue(work, clock=clock)
    keys = [Key(f"ns-{number % 7}", str(number)) for number in range(500)]
    async with running(queue):
        for _ in range(5000):
            key = chance.choice(keys)
            added[key] = next(order)
            queue.add(key, delay=chance.choice([0, 0, 0, 1.5]), urgent=chance.random() < 0.2)
            if chance.random() < 0.2:
                await asyncio.sleep(0)
            if chance.random() < 0.05:
                clock.advance(chance.random())
        async with asyncio.timeout(30):
            while any(started.get(key, -1) < moment for key, moment in added.items()):
                clock.advance(1)
                await settle(queue)
