"""kopf as the host: login and the watch of LLMDeployments. Its handlers enqueue keys and do nothing else.

No create, update, resume or delete handler, no timer and no daemon: each would write annotations or a finalizer to the
user's object. The only module that imports kopf.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any, cast

import kopf

from trtllm_operator.connection import Connection
from trtllm_operator.naming import GROUP, PLURAL, VERSION

Manifest = dict[str, Any]
Seen = Callable[[str | None, Manifest], None]
"""Take one event of an LLMDeployment: what happened (None: it was listed), and the object."""


async def host(
    connection: Connection, seen: Seen, namespaces: Sequence[str], *, stop: asyncio.Event, on_start: Callable[[], None]
) -> None:
    """Watch LLMDeployments until ``stop``; no namespaces means all. ``on_start`` runs once kopf has taken the signals.

    Raises what makes kopf unable to go on.
    """
    await kopf.operator(
        registry=_registry(connection, seen, on_start),
        settings=_settings(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=list(namespaces),
        # Left out, kopf asks for the name of our user, which a random uid in a pod does not have.
        identity=cast("Any", os.environ.get("POD_ID", "trtllm-operator")),
        stop_flag=stop,
    )


def _registry(connection: Connection, seen: Seen, on_start: Callable[[], None]) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(
            aiohttp_session=connection.new_session(),
            server=connection.server,
            default_namespace=connection.default_namespace,
        )

    @kopf.on.startup(registry=registry)
    async def started(**_: Any) -> None:
        on_start()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def changed(event: kopf.RawEvent, **_: Any) -> None:
        seen(event["type"], dict(event["object"]))

    return registry


class _NoDiffs(kopf.DiffBaseStorage):
    """Keeps kopf from copying every object twice per event, for differences that nobody here asks for."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence({})

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.queueing.idle_timeout = 0.5
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = (0.5, 1, 2, 3, 5, 5, 5, 5, 5, 5)
    settings.watching.server_timeout = 600
    settings.process.ultimate_exiting_timeout = 60
    settings.watching.chunk_size = 500
    return settings
