"""kopf as the host: login, the watch of LLMDeployments, signals. Its handlers enqueue keys and do nothing else.

No create, update, resume or delete handler, no timer and no daemon: each would write annotations or a finalizer to the
user's object. The only module that imports kopf.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import kopf

from trtllm_operator import probes
from trtllm_operator.cluster import Cluster
from trtllm_operator.connection import Connection
from trtllm_operator.errors import OperatorError, Unavailable
from trtllm_operator.naming import GROUP, PLURAL, VERSION
from trtllm_operator.reconcile import Reconciler
from trtllm_operator.settings import Settings
from trtllm_operator.watches import Watches
from trtllm_operator.workqueue import Key, WorkQueue

logger = logging.getLogger(__name__)

CRD_POLL = 2.0
"""Seconds between two looks for the CRD before it is there."""

GRACE = 10.0
"""Seconds that a pass in flight may take after the operator was told to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to run: one namespace or all, with or without the nodes, and where the probes listen (port 0: nowhere)."""

    namespace: str | None = None
    read_nodes: bool = True
    host: str = "127.0.0.1"
    port: int = 0
    workers: int = 8


async def run(connection: Connection, settings: Settings, options: Options) -> None:
    """Run until told to stop by a signal. Raises whatever made the operator unable to go on."""
    cluster = Cluster(connection)

    async def work(key: Key) -> float | None:
        return await reconciler(key)

    queue = WorkQueue(work, workers=options.workers, expected=OperatorError)
    watches = Watches(cluster, queue.add, namespace=options.namespace, read_nodes=options.read_nodes)
    reconciler = Reconciler(cluster=cluster, memory=watches, settings=settings, now=lambda: datetime.now(UTC))
    server = None
    if options.port:
        server = await probes.serve(
            options.host,
            options.port,
            healthy=lambda: watches.problems(time.monotonic()),
            ready=watches.unsynced,
        )
    try:
        await _wait_for_crd(cluster)
        await _host(connection, watches, queue, options)
    finally:
        if server is not None:
            await server.cleanup()
        await connection.close()


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


async def _host(connection: Connection, watches: Watches, queue: WorkQueue, options: Options) -> None:
    async def work_when_synced() -> None:
        for informer in watches.informers:
            await informer.synced.wait()
        logger.info("watching %s", options.namespace or "every namespace")
        await queue.run()

    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(informer.run()) for informer in watches.informers]
        tasks.append(group.create_task(work_when_synced()))
        for task in tasks:
            task.add_done_callback(lambda _: stop.set())
        await kopf.operator(
            registry=_registry(connection, watches),
            settings=_kopf_settings(),
            standalone=True,
            clusterwide=options.namespace is None,
            namespaces=[] if options.namespace is None else [options.namespace],
            # Left out, kopf asks for the name of our user, which a random uid in a pod does not have.
            identity=cast("Any", os.environ.get("POD_ID", "trtllm-operator")),
            stop_flag=stop,
        )
        await queue.drain(GRACE)
        for task in tasks:
            task.cancel()


def _registry(connection: Connection, watches: Watches) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(
            aiohttp_session=connection.new_session(),
            server=connection.server,
            default_namespace=connection.default_namespace,
        )

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def changed(event: kopf.RawEvent, **_: Any) -> None:
        watches.seen(event["type"], dict(event["object"]))

    return registry


class _NoDiffs(kopf.DiffBaseStorage):
    """Keeps kopf from copying every object twice per event, for differences that nobody here asks for."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence({})

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass


def _kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.queueing.idle_timeout = 0.5
    settings.queueing.exit_timeout = GRACE
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = (0.5, 1, 2, 3, 5, 5, 5, 5, 5, 5)
    settings.watching.server_timeout = 600
    settings.process.ultimate_exiting_timeout = 60
    settings.watching.chunk_size = 500
    return settings
