"""Which key is worked on next: each once at a time, fair between namespaces, later after a failure.

Knows keys and time, no Kubernetes. The reconciler is its ``work``.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

logger = logging.getLogger(__name__)

_FIRST_BACKOFF = 0.5
_LONGEST_BACKOFF = 60.0
_SLACK = 64


class Key(NamedTuple):
    """Namespace and name of what is worked on."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Clock(Protocol):
    """What the queue needs of time; every asyncio event loop has it."""

    def time(self) -> float:
        """Return monotonic seconds."""

    def call_at(self, when: float, callback: Callable[[], Any], /) -> Any:
        """Call back at that time; the result has ``cancel()``."""


def exponential_backoff(failures: int) -> float:
    """Return 0.5 s doubling to 60 s, give or take a fifth, for the n-th failure in a row."""
    return min(_FIRST_BACKOFF * 2.0 ** min(failures - 1, 10), _LONGEST_BACKOFF) * random.uniform(0.8, 1.2)


class WorkQueue:
    """Runs ``work`` for each key that was added, with at most ``workers`` runs at a time.

    ``work`` returns the seconds until it wants to see the key again, or None. Each run starts from what is true then,
    so a visit that was due later is dropped when a run starts earlier: that run says anew when to come back.
    Errors that are ``expected`` are logged in one line, others with their traceback.
    """

    def __init__(
        self,
        work: Callable[[Key], Awaitable[float | None]],
        *,
        workers: int = 8,
        backoff: Callable[[int], float] = exponential_backoff,
        clock: Clock | None = None,
        expected: type[Exception] | tuple[type[Exception], ...] = (),
    ) -> None:
        self._work = work
        self._expected = expected
        self._workers = workers
        self._backoff = backoff
        self._given_clock = clock
        self._ready: OrderedDict[str, OrderedDict[Key, float]] = OrderedDict()
        self._depth = 0
        self._tickets = asyncio.Semaphore(0)
        """As many as there are ready keys, so that each wakes one worker."""
        self._running: set[Key] = set()
        self._again: set[Key] = set()
        """Added while running: run again."""
        self._urgent: set[Key] = set()
        """Of those, the ones that do not wait for a back-off."""
        self._due: dict[Key, float] = {}
        self._timeline: list[tuple[float, Key]] = []
        """A heap of ``_due`` and of entries that ``_due`` no longer confirms."""
        self._alarm: tuple[float, Any] | None = None
        self._failures: dict[Key, int] = {}
        self._held: dict[Key, float] = {}
        """Until when a key that failed waits."""
        self._draining = False
        self._finished = asyncio.Event()

    @property
    def depth(self) -> int:
        """Keys that wait for a worker; later visits do not count."""
        return self._depth

    @property
    def in_flight(self) -> int:
        """Runs that have begun and not ended."""
        return len(self._running)

    @property
    def retrying(self) -> int:
        """Keys whose last run failed."""
        return len(self._failures)

    def oldest_age(self, now: float) -> float:
        """Return the seconds the longest waiting key has waited for a worker, 0 when none waits."""
        return max((now - next(iter(keys.values())) for keys in self._ready.values()), default=0.0)

    def add(self, key: Key, *, delay: float = 0.0, urgent: bool = False) -> None:
        """Have the key worked on, ``delay`` seconds from now or earlier; a run in progress does not count.

        A key that failed waits for its back-off first, unless ``urgent``: then what made it fail may be gone.
        """
        if self._draining:
            return
        now = self._clock.time()
        if urgent:
            self._held.pop(key, None)
        when = max(now + delay, self._held.get(key, 0.0))
        if when > now:
            self._schedule(key, when)
        elif key in self._running:
            self._again.add(key)
            if urgent:
                self._urgent.add(key)
        else:
            self._make_ready(key, now)

    async def run(self) -> None:
        """Work until ``drain``."""
        self._finished.clear()
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._workers):
                    group.create_task(self._worker(), name=f"worker-{number}")
        finally:
            self._finished.set()
            self._set_alarm(None)

    async def drain(self, seconds: float) -> bool:
        """Start nothing any more and let runs in flight finish; False when some still run after that many seconds."""
        self._draining = True
        self._set_alarm(None)
        for _ in range(self._workers):
            self._tickets.release()
        if not self._running:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._finished.wait()
        except TimeoutError:
            return False
        return True

    @property
    def _clock(self) -> Clock:
        return self._given_clock or asyncio.get_running_loop()

    async def _worker(self) -> None:
        while True:
            await self._tickets.acquire()
            if self._draining:
                return
            key = self._take()
            try:
                await self._visit(key)
            finally:
                self._running.discard(key)
            if key in self._again and not self._draining:
                self._again.discard(key)
                self.add(key)

    async def _visit(self, key: Key) -> None:
        """Run once and note when to come back."""
        task = asyncio.current_task()
        try:
            revisit = await self._work(key)
        except asyncio.CancelledError as error:
            if task is None or task.cancelling():
                raise
            # Cancelled by something inside the run, not from outside: a failure like any other, and no worker is lost.
            self._failed(key, error)
        except Exception as error:  # noqa: BLE001 - whatever one key runs into, the others go on
            self._failed(key, error)
        else:
            self._failures.pop(key, None)
            self._held.pop(key, None)
            if revisit is not None:
                self._schedule(key, self._clock.time() + revisit)

    def _failed(self, key: Key, error: BaseException) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        pause = max(self._backoff(failures), getattr(error, "retry_after", None) or 0.0)
        told = "%s failed (%d in a row), next run in %.1f s: %s"
        fields = {"key": str(key), "failures": failures}
        if isinstance(error, self._expected):
            logger.warning(told, key, failures, pause, error, extra=fields)
        else:
            logger.error(told, key, failures, pause, error, exc_info=error, extra=fields)
        if key in self._urgent:
            return
        self._held[key] = self._clock.time() + pause
        self._due.pop(key, None)
        self._schedule(key, self._held[key])

    def _take(self) -> Key:
        """Take the first key of the namespace whose turn it is; that namespace goes to the end."""
        namespace, keys = self._ready.popitem(last=False)
        key, _ = keys.popitem(last=False)
        if keys:
            self._ready[namespace] = keys
        self._depth -= 1
        self._running.add(key)
        self._urgent.discard(key)
        self._due.pop(key, None)
        self._held.pop(key, None)
        return key

    def _make_ready(self, key: Key, now: float) -> None:
        keys = self._ready.setdefault(key.namespace, OrderedDict())
        if key not in keys:
            keys[key] = now
            self._depth += 1
            self._tickets.release()

    def _schedule(self, key: Key, when: float) -> None:
        """Visit at that time, unless an earlier visit is due."""
        if self._draining or self._due.get(key, when + 1) <= when:
            return
        self._due[key] = when
        if len(self._timeline) > 2 * len(self._due) + _SLACK:
            self._timeline = [(due, other) for other, due in self._due.items()]
            heapq.heapify(self._timeline)
        else:
            heapq.heappush(self._timeline, (when, key))
        if self._alarm is None or when < self._alarm[0]:
            self._set_alarm(when)

    def _set_alarm(self, when: float | None) -> None:
        if self._alarm is not None:
            self._alarm[1].cancel()
        self._alarm = None if when is None else (when, self._clock.call_at(when, self._ring))

    def _ring(self) -> None:
        """Make ready what is due and set the alarm for the next."""
        self._alarm = None
        now = self._clock.time()
        while self._timeline:
            when, key = self._timeline[0]
            current = self._due.get(key) == when
            if current and when > now:
                self._set_alarm(when)
                return
            heapq.heappop(self._timeline)
            if current:
                del self._due[key]
                self.add(key)
