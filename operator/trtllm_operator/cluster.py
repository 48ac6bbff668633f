"""The API server, as the operator uses it: plain aiohttp, JSON parsed once, typed errors out.

No aiohttp exception leaves this module, and nothing is retried here: the queue and the informers decide when to try
again.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlencode

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from trtllm_operator.connection import Connection
from trtllm_operator.errors import ClusterError, Conflict, Forbidden, Gone, NotFound, Rejected, Unavailable
from trtllm_operator.kinds import Kind

Manifest = dict[str, Any]
Manifests = list[Manifest]

_MESSAGE_LIMIT = 1024
_TERMINATING = "NamespaceTerminating"


class WatchEvent(NamedTuple):
    """One line of a watch: ADDED, MODIFIED, DELETED or BOOKMARK, and the object."""

    type: str
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Applied:
    """What the API server stored, and whether the apply created it."""

    manifest: Manifest
    created: bool


_METHODS = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
}
_WRITES = frozenset({"create", "update", "patch", "delete"})
_CREATED = 201
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_JSON = "application/json"
_ERRORS: Mapping[int, type[ClusterError]] = {
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
}

# An apply body is read as YAML. JSON is YAML but for these: raw, they are refused or folded as line breaks. And YAML
# takes no escaped surrogate pairs, so everything else (emoji!) must go raw.
_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One request: an RBAC verb on a collection, an object or a subresource."""

    verb: str
    kind: Kind
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    content_type: str = _JSON

    @property
    def target(self) -> str:
        """The path and query."""
        path = self.kind.path(self.namespace, self.name, self.subresource).rstrip("/")
        return f"{path}?{urlencode(self.query)}" if self.query else path

    @property
    def resource(self) -> str:
        """The resource as RBAC names it; discovery has none."""
        plural = self.kind.plural or self.kind.kind
        return f"{plural}/{self.subresource}" if self.subresource else plural

    def __str__(self) -> str:
        where = "/".join(part for part in (self.namespace, self.name) if part)
        group = f".{self.kind.group}" if self.kind.group else ""
        return f"{self.verb} {self.resource}{group} {where}".rstrip()

    def content(self) -> tuple[bytes | None, dict[str, str]]:
        """Return the body and the header that says what it is."""
        if self.body is None:
            return None, {}
        text = json.dumps(self.body, separators=(",", ":"), ensure_ascii=False)
        text = _NOT_YAML.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
        return text.encode("utf-8", "replace"), {"Content-Type": self.content_type}


def _failure(call: _Call, response: aiohttp.ClientResponse, body: bytes) -> ClusterError:
    """Return the error for a refusal, with the server's own words."""
    status = response.status
    try:
        answer = json.loads(body)
        text, reason = str(answer.get("message") or ""), str(answer.get("reason") or "")
        causes = {cause.get("reason") for cause in (answer.get("details") or {}).get("causes") or ()}
    except (ValueError, AttributeError):
        text, reason, causes = body.decode(errors="replace"), "", set()
    message = f"{call}: {status} {reason or response.reason or ''}: {text.strip()[:_MESSAGE_LIMIT]}"
    if _TERMINATING in causes:
        # A 403 that no right could change: the namespace is as good as gone.
        return NotFound(message, status=status, reason=_TERMINATING)
    if kind := _ERRORS.get(status):
        return kind(message, status=status, reason=reason)
    if 400 <= status < 500 and status not in {408, 429}:  # noqa: PLR2004 - the request itself is at fault
        return Rejected(message, status=status, reason=reason)
    seconds = response.headers.get("Retry-After", "")
    return Unavailable(
        message, status=status, reason=reason, retry_after=float(seconds) if seconds.isdecimal() else None
    )


class _FencedBody(aiohttp.BytesPayload):
    """The body of a write, which asks the fence as its bytes leave.

    aiohttp may wait long for a connection, and a process may be stopped (SIGSTOP, a paused machine) while it does.
    """

    def __init__(self, content: bytes, fence: Callable[[], None]) -> None:
        super().__init__(content)
        self._fence = fence

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self._fence()  # headers are held back until there is something of the body
        await super().write_with_length(writer, content_length)


class Cluster:
    """Requests to the API server. Timeouts in seconds.

    Any method raises, besides the errors it names: Forbidden (401, 403), Rejected (the request is at fault) and
    Unavailable (429, 5xx, time-outs, no connection). ``on_request`` is told the RBAC verb, the resource and the HTTP
    status (0: no answer) of every request; ``fence`` is called before each write and once more as it leaves, and
    forbids it by raising.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        request_timeout: float = 30,
        connect_timeout: float = 5,
        watch_silence: float = 75,
        on_request: Callable[[str, str, int], None] | None = None,
        fence: Callable[[], None] | None = None,
    ) -> None:
        self._connection = connection
        self._server = connection.server
        self._on_request = on_request
        self._fence = fence
        self._timeout = aiohttp.ClientTimeout(total=request_timeout, sock_connect=connect_timeout)
        self._watch_timeout = aiohttp.ClientTimeout(
            total=None, connect=request_timeout, sock_connect=connect_timeout, sock_read=watch_silence
        )

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        """Return the object, or None when it does not exist."""
        try:
            _, manifest = await self._request(_Call(verb="get", kind=kind, namespace=namespace, name=name))
        except NotFound:
            return None
        return manifest

    async def list(
        self, kind: Kind, namespace: str | None = None, *, labels: str = "", limit: int = 500
    ) -> tuple[Manifests, str]:
        """Return every object that matches a label selector, and the resourceVersion to watch from.

        Reads pages of ``limit`` objects. Raises NotFound when the kind is not served, Gone when pages expired twice.
        """
        try:
            return await self._list(kind, namespace, labels, limit)
        except Gone:
            return await self._list(kind, namespace, labels, limit)

    async def _list(self, kind: Kind, namespace: str | None, labels: str, limit: int) -> tuple[Manifests, str]:
        selectors = {"labelSelector": labels} if labels else {}
        pages = [page async for page in self._pages(kind, namespace, selectors, limit)]
        return [item for items, _ in pages for item in items], pages[-1][1]

    async def pages(
        self, kind: Kind, namespace: str | None = None, *, fields: str, limit: int
    ) -> AsyncIterator[Manifests]:
        """Yield every object of one namespace, or of all, that matches a field selector, ``limit`` at a time.

        Raises Gone when it took too long: what was yielded is then part of a whole that no longer exists.
        """
        async for page, _ in self._pages(kind, namespace, {"fieldSelector": fields}, limit):
            yield page

    async def _pages(
        self, kind: Kind, namespace: str | None, selectors: Mapping[str, str], limit: int
    ) -> AsyncIterator[tuple[Manifests, str]]:
        query = {"limit": str(limit), **selectors}
        while True:
            _, page = await self._request(_Call(verb="list", kind=kind, namespace=namespace, query=query))
            metadata = page.get("metadata") or {}
            # The items of a list leave these two out.
            items = [{**item, "apiVersion": kind.api_version, "kind": kind.kind} for item in page.get("items") or ()]
            yield items, metadata.get("resourceVersion", "")
            if not metadata.get("continue"):
                return
            query = {**query, "continue": metadata["continue"]}

    async def apply(self, kind: Kind, manifest: Manifest, *, manager: str, force: bool) -> Applied:
        """Apply server-side as a field manager; ``force`` takes fields over from other managers.

        Raises Conflict when another manager holds a field (without force) or a uid in the body is not the object's,
        NotFound when the namespace or the kind does not exist.
        """
        status, stored = await self._request(_apply(kind, manifest, manager, force=force))
        return Applied(stored, status == _CREATED)

    async def apply_status(self, kind: Kind, manifest: Manifest, *, manager: str) -> Manifest:
        """Apply the status server-side, with force; return the object. Raises NotFound when it is gone, Conflict."""
        _, stored = await self._request(_apply(kind, manifest, manager, force=True, subresource="status"))
        return stored

    async def merge(self, kind: Kind, manifest: Manifest, *, manager: str) -> Manifest:
        """Merge the manifest into the object, lists replaced whole. Raises NotFound, and Conflict for another uid."""
        _, stored = await self._request(_patch(kind, manifest, _MERGE, {"fieldManager": manager}))
        return stored

    async def delete(
        self, kind: Kind, namespace: str | None, name: str, *, uid: str, propagation: str = "Background"
    ) -> bool:
        """Delete the object of this uid; False when the name is free. Raises Conflict when the uid differs."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": propagation,
        }
        try:
            await self._request(_Call(verb="delete", kind=kind, namespace=namespace, name=name, body=options))
        except NotFound:
            return False
        return True

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Create the object; return it as stored. Raises Conflict when it exists, NotFound without its namespace."""
        namespace = manifest["metadata"].get("namespace")
        _, stored = await self._request(_Call(verb="create", kind=kind, namespace=namespace, body=manifest))
        return stored

    async def update(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Replace the object as a whole; return it. Raises Conflict when it has changed since it was read, NotFound."""
        metadata = manifest["metadata"]
        call = _Call(
            verb="update", kind=kind, namespace=metadata.get("namespace"), name=metadata["name"], body=manifest
        )
        _, stored = await self._request(call)
        return stored

    async def kinds_served(self, group: str, version: str) -> frozenset[str]:
        """Return the plural names of the kinds a group and version serve; empty when they are not there."""
        discovery = Kind(group=group, version=version, kind="APIResourceList", plural="")
        try:
            _, answer = await self._request(_Call(verb="get", kind=discovery))
        except NotFound:
            return frozenset()
        return frozenset(item["name"] for item in answer.get("resources") or () if "/" not in item["name"])

    async def watch(
        self, kind: Kind, *, namespace: str | None = None, labels: str = "", resource_version: str
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield what happens after a resourceVersion, until the server ends the stream (after ten minutes).

        Raises Gone when the resourceVersion is too old, NotFound when the kind is not served, and Unavailable also for
        a stream that went silent (bookmarks come about every minute) or broke.
        """
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": "600",
            "resourceVersion": resource_version,
        }
        if labels:
            query["labelSelector"] = labels
        call = _Call(verb="watch", kind=kind, namespace=namespace, query=query)
        async with self._response(call, self._watch_timeout) as response:
            async for line in _lines(response.content):
                yield _event(call, line)

    async def _request(self, call: _Call) -> tuple[int, Manifest]:
        async with self._response(call, self._timeout) as response:
            body = await response.read()
        try:
            answer: Manifest = json.loads(body)
        except ValueError as error:
            raise Unavailable(f"{call}: the answer is not JSON", status=response.status) from error
        return response.status, answer

    @asynccontextmanager
    async def _response(self, call: _Call, limits: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientResponse]:
        content, headers = call.content()
        body = self._fenced(content) if content is not None and call.verb in _WRITES else content
        url = URL(self._server + call.target, encoded=True)
        status = 0
        try:
            async with self._connection.session.request(
                _METHODS[call.verb],
                url,
                data=body,
                headers=headers,
                timeout=limits,
                allow_redirects=False,
            ) as response:
                status = response.status
                self._count(call, status)
                if status >= 300:  # noqa: PLR2004 - the API server never redirects
                    raise _failure(call, response, await response.read())
                yield response
        except TimeoutError as error:
            self._count_unanswered(call, status)
            raise Unavailable(f"{call}: no answer in time ({str(error) or 'request'})", status=status) from error
        except (aiohttp.ClientError, OSError) as error:
            self._count_unanswered(call, status)
            raise Unavailable(f"{call}: {str(error) or type(error).__name__}", status=status) from error

    def _fenced(self, content: bytes) -> bytes | _FencedBody:
        if self._fence is None:
            return content
        self._fence()
        return _FencedBody(content, self._fence)

    def _count(self, call: _Call, status: int) -> None:
        if self._on_request is not None:
            self._on_request(call.verb, call.resource, status)

    def _count_unanswered(self, call: _Call, status: int) -> None:
        if status == 0:
            self._count(call, 0)


def _apply(kind: Kind, manifest: Manifest, manager: str, *, force: bool, subresource: str | None = None) -> _Call:
    query = {"fieldManager": manager, "force": "true" if force else "false"}
    return _patch(kind, manifest, _APPLY, query, subresource)


def _patch(
    kind: Kind, manifest: Manifest, content_type: str, query: Mapping[str, str], subresource: str | None = None
) -> _Call:
    metadata = manifest["metadata"]
    return _Call(
        verb="patch",
        kind=kind,
        namespace=metadata.get("namespace"),
        name=metadata["name"],
        subresource=subresource,
        query=query,
        body=manifest,
        content_type=content_type,
    )


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield the lines of a stream; a line of several MB comes in many pieces, each of which is searched once."""
    begun = bytearray()
    async for piece in content.iter_any():
        first, *others = piece.split(b"\n")
        begun += first
        for other in others:
            if begun:
                yield bytes(begun)
            begun = bytearray(other)
    if begun:
        yield bytes(begun)


def _event(call: _Call, line: bytes) -> WatchEvent:
    try:
        event = json.loads(line)
        kind, manifest = event["type"], event["object"]
        if kind != "ERROR":
            return WatchEvent(kind, manifest)
        code, reason = manifest.get("code", 0), manifest.get("reason", "")
        message = f"{call}: {code} {reason}: {str(manifest.get('message', ''))[:_MESSAGE_LIMIT]}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unavailable(f"{call}: a line of the stream is not a watch event") from error
    if code == 410:  # noqa: PLR2004 - Gone
        raise Gone(message, status=code, reason=reason)
    raise Unavailable(message, status=code, reason=reason)
