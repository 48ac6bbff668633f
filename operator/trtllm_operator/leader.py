"""Leading by a Lease: one operator writes, the others wait, and whoever loses the lease ends.

Nobody else leads before ``duration`` seconds have passed since a renewal was seen. The leader counts from the moment it
*sent* that renewal, and ends the process after ``renew_deadline``: by an alarm of the event loop, and by the fence that
every write passes (a process that was frozen may be woken by an answer before its alarm).
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import Enum, auto
from typing import Any

from trtllm_operator.cluster import Cluster
from trtllm_operator.errors import ClusterError, Conflict, NotFound, NotLeader
from trtllm_operator.kinds import LEASE
from trtllm_operator.lease import Election, Manifest, Sighting, claimed, holder, released, sighting
from trtllm_operator.workqueue import Clock

logger = logging.getLogger(__name__)

_REQUEST_TIMEOUT = 5.0
"""Seconds: a renewal that hangs must leave time for another before the deadline."""


class Attempt(Enum):
    """What one round of the election led to."""

    HELD = auto()
    TAKEN = auto()
    UNANSWERED = auto()


def end_process(reason: str) -> None:
    """End at once, without a further write: what runs now runs under a lease that may be somebody else's."""
    logger.critical("%s; exiting", reason)
    os._exit(1)


class Elector:
    """Acquires, holds and releases one lease. ``now`` is UTC and only written down; ``clock`` is monotonic."""

    def __init__(
        self,
        cluster: Cluster,
        election: Election,
        *,
        clock: Clock,
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        lost: Callable[[str], None] = end_process,
    ) -> None:
        self._cluster = cluster
        self._election = election
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._lost = lost
        self._deadline = -math.inf
        self._alarm: Any = None
        self._stored: Manifest | None = None
        """The lease as we wrote it last, while we hold it."""
        self._seen: Sighting | None = None

    @property
    def leading(self) -> bool:
        """Whether writes are allowed now."""
        return self._clock.time() < self._deadline

    @property
    def age(self) -> float | None:
        """Seconds since the lease was last renewed; None while waiting for it."""
        sent = self._deadline - self._election.renew_deadline
        return None if math.isinf(sent) else self._clock.time() - sent

    def fence(self) -> None:
        """Raise NotLeader unless a write may be sent now."""
        if not self.leading:
            raise NotLeader(f"the lease {self._election.namespace}/{self._election.name} is not held")

    async def acquire(self) -> None:
        """Return once the lease is ours."""
        logger.info("waiting for the lease %s/%s", self._election.namespace, self._election.name)
        while await self.attempt() is not Attempt.HELD:
            await self._sleep(self._election.retry_period)
        logger.info("leading as %s", self._election.identity)

    async def hold(self) -> None:
        """Renew until cancelled; end the process when somebody else has the lease."""
        while True:
            await self._sleep(self._election.retry_period)
            if await self.attempt() is Attempt.TAKEN:
                self._lost("the lease was taken by another")

    async def release(self) -> None:
        """Forbid further writes, then free the lease, so that another need not wait for it to run out."""
        self._extend(-math.inf)
        if self._stored is None:
            return
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT):
                await self._cluster.update(LEASE, released(self._election, self._stored, self._now()))
        except (ClusterError, TimeoutError) as error:
            logger.warning("the lease could not be released: %s", error)
        self._stored = None

    async def attempt(self) -> Attempt:
        """Try once to take or renew the lease."""
        sent = self._clock.time()
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT):
                held = await self._claim()
        except (ClusterError, TimeoutError) as error:
            logger.warning("lease: %s", str(error) or "no answer in time")
            return Attempt.UNANSWERED
        if not held:
            return Attempt.TAKEN
        self._extend(sent + self._election.renew_deadline)
        return Attempt.HELD

    async def _claim(self) -> bool:
        if self._stored is not None:
            try:
                await self._write(self._stored)
            except (Conflict, NotFound):
                self._stored = None  # edited, deleted, or taken
            else:
                return True
        found = await self._cluster.get(LEASE, self._election.namespace, self._election.name)
        if not self._is_free(found):
            return False
        try:
            await self._write(found)
        except Conflict:
            return False
        return True

    def _is_free(self, found: Manifest | None) -> bool:
        """Whether the lease may be taken; one that vanished stays its holder's until the time promised is over."""
        now = self._clock.time()
        if found is None:
            return self._seen is None or self.leading or self._seen.expired(now)
        self._seen = sighting(self._seen, found, now)
        return holder(found) in ("", self._election.identity) or self._seen.expired(now)

    async def _write(self, lease: Manifest | None) -> None:
        wanted = claimed(self._election, lease, self._now())
        write = self._cluster.create if lease is None else self._cluster.update
        self._stored = await write(LEASE, wanted)
        self._seen = sighting(self._seen, self._stored, self._clock.time())

    def _extend(self, deadline: float) -> None:
        self._deadline = deadline
        if self._alarm is not None:
            self._alarm.cancel()
        overdue = "the lease could not be renewed in time"
        self._alarm = None if math.isinf(deadline) else self._clock.call_at(deadline, lambda: self._lost(overdue))
