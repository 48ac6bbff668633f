"""The bare client, and the eyes of the benchmark: nothing of the operator but its connection is used."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from trtllm_operator.connection import Connection
from trtllm_operator.kinds import CHILD_KINDS, LLM_DEPLOYMENT, Kind

Manifest = dict[str, Any]
Wanted = Callable[[str, Manifest], bool]
"""Whether an event, by its type and its object, is what is waited for."""

WORKERS = 8
"""Objects at a time, as many as the operator works on; their children are applied at once, as the operator does."""

_WRITES = ("APPLY", "PATCH", "POST", "PUT", "DELETE")
_COUNTER = re.compile(r"apiserver_request_total\{(?P<labels>[^}]*)\} (?P<value>\S+)")


class Client:
    """Requests without retries and without parsing what is not needed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._server = connection.server

    async def close(self) -> None:
        await self._connection.close()

    async def apply_all(self, objects: Sequence[Sequence[Manifest]]) -> float:
        """Apply every manifest server-side, eight objects at a time; return the seconds."""
        return await _timed_by_workers([lambda each=each: self._apply_each(each) for each in objects])

    async def create_all(self, manifests: Iterable[Manifest]) -> float:
        """Create LLMDeployments; return the seconds."""
        return await _timed_by_workers([lambda one=one: self._create(one) for one in manifests])

    async def edit_all(self, namespace: str, names: Iterable[str], tag: str) -> float:
        """Change the image tag of LLMDeployments; return the seconds."""
        return await _timed_by_workers([lambda name=name: self.edit(namespace, name, tag) for name in names])

    async def edit(self, namespace: str, name: str, tag: str) -> None:
        """Change the image tag of one LLMDeployment."""
        patch = {"spec": {"engine": {"image": {"tag": tag}}}}
        await self._send("PATCH", LLM_DEPLOYMENT.path(namespace, name), patch, "application/merge-patch+json")

    async def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """Delete one object."""
        await self._send("DELETE", kind.path(namespace, name), None)

    async def writes(self) -> Counter[str]:
        """Return the writes the API server has counted so far, by resource, but those it does for itself."""
        text = (await self._send("GET", "/metrics", None)).decode()
        counted: Counter[str] = Counter()
        for found in _COUNTER.finditer(text):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', found["labels"]))
            if labels["verb"] in _WRITES and labels["resource"] not in ("leases", "ipaddresses", ""):
                name = labels["resource"] + (f"/{labels['subresource']}" if labels["subresource"] else "")
                counted[name] += int(float(found["value"]))
        return counted

    @asynccontextmanager
    async def watching(self, kind: Kind, namespace: str) -> AsyncIterator[Arrivals]:
        """Note when each object of one kind changes, from now on."""
        listed = json.loads(await self._send("GET", f"{kind.path(namespace)}?limit=1", None))
        arrivals = Arrivals()
        version = listed["metadata"]["resourceVersion"]
        task = asyncio.create_task(self._follow(kind, namespace, version, arrivals))
        try:
            yield arrivals
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self, kind: Kind, namespace: str, version: str, arrivals: Arrivals) -> None:
        url = f"{self._server}{kind.path(namespace)}?watch=1&resourceVersion={version}"
        async with self._connection.session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as answer:
            async for line in answer.content:
                arrivals.take(line)

    async def _apply_each(self, manifests: Sequence[Manifest]) -> None:
        await asyncio.gather(*map(self._apply, manifests))

    async def _apply(self, manifest: Manifest) -> None:
        metadata = manifest["metadata"]
        path = CHILD_KINDS[manifest["kind"]].path(metadata["namespace"], metadata["name"])
        await self._send("PATCH", f"{path}?fieldManager=bare&force=true", manifest, "application/apply-patch+yaml")

    async def _create(self, manifest: Manifest) -> None:
        await self._send("POST", LLM_DEPLOYMENT.path(manifest["metadata"]["namespace"]), manifest)

    async def _send(self, method: str, path: str, body: Manifest | None, form: str = "application/json") -> bytes:
        data = None if body is None else json.dumps(body, separators=(",", ":"))
        async with self._connection.session.request(
            method, self._server + path, data=data, headers={"Content-Type": form}
        ) as answer:
            content = await answer.read()
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {answer.status} {content[:300]!r}")
        return content


class Arrivals:
    """When objects were seen to change, in seconds of the monotonic clock; an event is read when somebody asks."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, bytes]] = []
        self._news = asyncio.Event()

    def take(self, line: bytes) -> None:
        self._seen.append((time.monotonic(), line))
        self._news.set()

    async def number(self, count: int, seconds: float) -> float:
        """Wait for so many events; return when the last of them came."""
        async with asyncio.timeout(seconds):
            while len(self._seen) < count:
                self._news.clear()
                await self._news.wait()
        return self._seen[count - 1][0]

    async def first(self, name: str, wanted: Wanted, seconds: float = 60) -> float:
        """Wait for an event of one object; return when it came."""
        return await self.all([name], wanted, seconds)

    async def all(self, names: Iterable[str], wanted: Wanted, seconds: float) -> float:
        """Wait until each of these had such an event; return when the last one came."""
        missing, done, last = set(names), 0, 0.0
        async with asyncio.timeout(seconds):
            while missing:
                await self.number(done + 1, seconds)
                at, line = self._seen[done]
                done += 1
                event = json.loads(line)
                manifest = event["object"]
                if manifest["metadata"]["name"] in missing and wanted(event["type"], manifest):
                    missing.discard(manifest["metadata"]["name"])
                    last = at
        return last


async def _timed_by_workers(jobs: Sequence[Callable[[], Any]]) -> float:
    waiting = iter(jobs)

    async def worker() -> None:
        for job in waiting:
            await job()

    started = time.monotonic()
    await asyncio.gather(*(worker() for _ in range(WORKERS)))
    return time.monotonic() - started
