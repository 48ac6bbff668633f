"""Everything that happened to the objects of one namespace, in the order of the API server's own revisions."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from trtllm_operator.connection import Connection
from trtllm_operator.kinds import KINDS, LLM_DEPLOYMENT, POD, SECRET, Kind

Manifest = dict[str, Any]
Place = tuple[str, str]
"""Kind and name."""

TRACED: tuple[Kind, ...] = (LLM_DEPLOYMENT, *KINDS, SECRET, POD)


@dataclass(frozen=True, slots=True)
class Happening:
    """One version of an object; ``manifest`` of a deletion is the last one. ``at`` is monotonic seconds."""

    revision: int
    kind: str
    name: str
    deleted: bool
    manifest: Manifest
    at: float

    @property
    def place(self) -> Place:
        return self.kind, self.name


class Trace:
    """Watches the API server itself, past the proxy; survives that the API server goes away."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self._connection = connection
        self._namespace = namespace
        self._happenings: dict[tuple[int, str, str, bool], Happening] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Return when every kind has been listed once."""
        listed = [asyncio.Event() for _ in TRACED]
        session = self._connection.session
        self._tasks = [
            asyncio.create_task(self._follow(session, kind, event)) for kind, event in zip(TRACED, listed, strict=True)
        ]
        for event in listed:
            await event.wait()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.close()

    @property
    def happenings(self) -> Sequence[Happening]:
        """Every version seen so far, oldest first."""
        return sorted(self._happenings.values(), key=lambda happening: happening.revision)

    @property
    def last_change(self) -> float:
        """When anything last changed, in monotonic seconds."""
        return max((happening.at for happening in list(self._happenings.values())), default=0.0)

    def states(self) -> Iterator[tuple[Happening, dict[Place, Manifest]]]:
        """Yield each happening with all objects as they were once it had happened."""
        world: dict[Place, Manifest] = {}
        for happening in self.happenings:
            if happening.deleted:
                world.pop(happening.place, None)
            else:
                world[happening.place] = happening.manifest
            yield happening, world

    async def _follow(self, session: aiohttp.ClientSession, kind: Kind, listed: asyncio.Event) -> None:
        base = self._connection.server + kind.path(self._namespace)
        version = ""
        while True:
            try:
                if not version:
                    version = await self._list(session, kind, base)
                    listed.set()
                version = await self._watch(session, kind, base, version)
            except (aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(0.1)

    async def _list(self, session: aiohttp.ClientSession, kind: Kind, base: str) -> str:
        async with session.get(base) as answer:
            answer.raise_for_status()
            body = await answer.json()
        for item in body["items"]:
            self._add(kind, item, deleted=False)
        return str(body["metadata"]["resourceVersion"])

    async def _watch(self, session: aiohttp.ClientSession, kind: Kind, base: str, version: str) -> str:
        query = {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version}
        no_limit = aiohttp.ClientTimeout(total=None)
        async with session.get(base, params=query, timeout=no_limit) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return ""
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    self._add(kind, event["object"], deleted=event["type"] == "DELETED")
        return version

    def _add(self, kind: Kind, manifest: Manifest, *, deleted: bool) -> None:
        metadata = manifest["metadata"]
        revision, name = int(metadata["resourceVersion"]), metadata["name"]
        happening = Happening(revision, kind.kind, name, deleted, {**manifest, "kind": kind.kind}, time.monotonic())
        self._happenings.setdefault((revision, kind.kind, name, deleted), happening)
