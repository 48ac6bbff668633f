"""The operator from start to stop: endpoints, CRD, lease, watches, queue, and all of it back in reverse.

A standby watches nothing: it takes the lease within ``retry_period`` of its becoming free and lists everything then, so
that what it writes never rests on what it saw while somebody else was leading.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from trtllm_operator import endpoints
from trtllm_operator.cluster import Cluster
from trtllm_operator.connection import Connection
from trtllm_operator.errors import OperatorError, Unavailable
from trtllm_operator.handlers import host
from trtllm_operator.leader import Elector
from trtllm_operator.lease import Election
from trtllm_operator.metrics import Metrics
from trtllm_operator.naming import GROUP, PLURAL, VERSION
from trtllm_operator.reconcile import Reconciler
from trtllm_operator.settings import Settings
from trtllm_operator.survey import Survey
from trtllm_operator.watches import Watches
from trtllm_operator.workqueue import Key, WorkQueue

logger = logging.getLogger(__name__)

CRD_POLL = 2.0
"""Seconds between two looks for the CRD before it is there."""

GRACE = 10.0
"""Seconds that a pass in flight may take after the operator was told to stop."""

RESYNC_PERIOD = 1800.0
"""Seconds in which every object is visited once even if nothing was heard of it. A visit that finds nothing to do costs
no request: this is for what only time changes, and for a wake-up that was lost."""

RESYNC_STEPS = 180

CLOCK_TOLERANCE = 300.0
"""Seconds the wall clock may run away from the monotonic one before the process is restarted: tokens and certificates
are judged by it. cert-manager's clock check uses the same five minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to run. No namespaces means all; port 0 means that nothing listens; no election means that we lead."""

    namespaces: tuple[str, ...] = ()
    read_nodes: bool = True
    host: str = "127.0.0.1"
    port: int = 0
    metrics_port: int = 0
    workers: int = 8
    election: Election | None = None


async def run(connection: Connection, settings: Settings, options: Options) -> None:
    """Run until told to stop by a signal. Raises whatever made the operator unable to go on."""
    operator = Operator(connection, settings, options)
    async with (
        endpoints.serving(options.host, options.port, operator.probes()),
        endpoints.serving(options.host, options.metrics_port, {"/metrics": operator.exposition}),
    ):
        await operator.run()


class Operator:
    """One process: what it is made of, and what it says of itself to probes and to Prometheus."""

    def __init__(self, connection: Connection, settings: Settings, options: Options) -> None:
        self._connection, self._options = connection, options
        self._lease_connection = connection.apart()
        self._elector = self._new_elector(options.election)
        self._metrics = Metrics(time.monotonic)
        fence = None if self._elector is None else self._elector.fence
        self._cluster = Cluster(connection, on_request=self._metrics.count_request, fence=fence)
        self._queue = WorkQueue(self._visit, workers=options.workers, expected=OperatorError)
        self._watches = Watches(
            self._cluster, self._queue.add, namespaces=options.namespaces, read_nodes=options.read_nodes
        )
        self._reconciler = Reconciler(
            cluster=self._cluster,
            memory=self._watches,
            settings=settings,
            now=lambda: datetime.now(UTC),
            survey=Survey(self._cluster, self._watches.readable_nodes, clock=time.monotonic),
        )
        self._stopping = asyncio.Event()
        self._leading = self._standby = False
        self._clock_offset = time.time() - time.monotonic()

    def _new_elector(self, election: Election | None) -> Elector | None:
        if election is None:
            return None
        cluster, loop = Cluster(self._lease_connection), asyncio.get_running_loop()
        return Elector(cluster, election, clock=loop, now=lambda: datetime.now(UTC))

    async def run(self) -> None:
        """Wait for the CRD and for the lease, lead until a signal, then give everything back."""
        self._take_signals()
        try:
            await self._unless_stopped(_wait_for_crd(self._cluster))
            if self._elector is not None:
                self._standby = True
                await self._unless_stopped(self._elector.acquire())
            if not self._stopping.is_set():
                self._leading = True
                await self._lead()
        finally:
            if self._elector is not None:
                await self._elector.release()
            await self._lease_connection.close()
            await self._connection.close()

    def probes(self) -> dict[str, endpoints.Page]:
        """Return the pages of the kubelet."""
        return {"/healthz": endpoints.check(self._problems), "/readyz": endpoints.check(self._unready)}

    def exposition(self) -> str:
        """Return everything Prometheus may know."""
        leading = self._leading if self._elector is None else self._elector.leading
        return self._metrics.exposition(self._queue, self._watches, leading=leading)

    def _problems(self) -> list[str]:
        problems = self._watches.problems(time.monotonic())
        drift = abs(time.time() - time.monotonic() - self._clock_offset)
        if drift > CLOCK_TOLERANCE:
            problems.append(f"the clock has jumped by {drift:.0f} s since the start")
        age, election = None if self._elector is None else self._elector.age, self._options.election
        if age is not None and election is not None and age > election.duration:
            problems.append(f"the lease was not renewed for {age:.0f} s")
        return problems

    def _unready(self) -> list[str]:
        if self._leading:
            return self._watches.unsynced()
        # A standby is ready: a rolling update waits for it before it stops the leader.
        return [] if self._standby else [f"{PLURAL}.{GROUP} is not served"]

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)

    async def _unless_stopped(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Wait for something, or for the signal to stop."""
        tasks = [asyncio.create_task(waiting), asyncio.create_task(self._stopping.wait())]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        for task in done:
            task.result()

    async def _lead(self) -> None:
        stop_kopf = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            running = [informer.run() for informer in self._watches.informers]
            running += [self._work_when_synced(), self._resync()]
            tasks = [group.create_task(coroutine) for coroutine in running]
            holding = [] if self._elector is None else [group.create_task(self._elector.hold())]
            tasks += [*holding, group.create_task(self._stop_in_order(holding, stop_kopf))]
            for task in tasks:
                task.add_done_callback(lambda _: stop_kopf.set())
            await host(
                self._connection,
                self._watches.seen,
                self._options.namespaces,
                stop=stop_kopf,
                on_start=self._take_signals,
            )
            for task in tasks:
                task.cancel()

    async def _work_when_synced(self) -> None:
        await self._watches.wait_until_synced()
        logger.info("watching %s", ", ".join(self._options.namespaces) or "every namespace")
        await self._queue.run()

    async def _stop_in_order(self, holding: Sequence[asyncio.Task[None]], stop_kopf: asyncio.Event) -> None:
        """Finish the passes in flight, let another lead, and only then end kopf, which takes its time."""
        await self._stopping.wait()
        logger.info("stopping")
        if await self._queue.drain(GRACE):
            await self._release(holding)
        else:
            logger.warning("some passes did not end within %.0f s and are cancelled", GRACE)
        stop_kopf.set()

    async def _release(self, holding: Sequence[asyncio.Task[None]]) -> None:
        for task in holding:
            task.cancel()
            await asyncio.wait([task])
        if self._elector is not None:
            await self._elector.release()

    async def _resync(self) -> None:
        step = 0
        while True:
            await asyncio.sleep(RESYNC_PERIOD / RESYNC_STEPS)
            for key in due(self._watches.known(), step):
                self._queue.add(key)
            step = (step + 1) % RESYNC_STEPS

    async def _visit(self, key: Key) -> float | None:
        with self._metrics.measured_pass():
            return await self._reconciler(key)


def due(keys: Iterable[Key], step: int) -> list[Key]:
    """Return the keys whose turn it is in this step of ``RESYNC_STEPS``, which are spread at random."""
    return [key for key in keys if hash(key) % RESYNC_STEPS == step]


async def _wait_for_crd(cluster: Cluster) -> None:
    """Wait until LLMDeployment is served: kopf looks for it once and would be deaf ever after."""
    waiting = False
    while True:
        try:
            if PLURAL in await cluster.kinds_served(GROUP, VERSION):
                return
            problem = f"{PLURAL}.{GROUP} is not served; apply the CRD"
        except Unavailable as error:
            problem = str(error)
        if not waiting:
            logger.warning("waiting: %s", problem)
        waiting = True
        await asyncio.sleep(CRD_POLL)
