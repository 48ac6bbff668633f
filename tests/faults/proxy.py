"""An HTTP proxy between the operator and the API server that does what its rules say.

It knows requests as Kubernetes sees them, records every one of them, and remembers what each list answered. TLS on
both sides, with a CA of its own towards the operator.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web
from yarl import URL

from faults.answers import kept, refusal, reset, status
from faults.rules import (
    BlackHole,
    Cut,
    Expire,
    Garble,
    Hold,
    Kill,
    Moment,
    Refuse,
    Repeat,
    Replay,
    Request,
    Reset,
    Rule,
    Shred,
    Slow,
    Truncate,
    Withhold,
)
from trtllm_operator.sandbox.pki import renew_server, write_pki

_NOT_FORWARDED = {"host", "content-length", "transfer-encoding", "connection", "user-agent"}
_LONGEST_LINE = 16 * 2**20
_GARBAGE = b"<html>not JSON"


class _Broken(Exception):
    """The connection to the operator has been broken on purpose."""


@dataclass(slots=True)
class Armed:
    """A rule at work: how often it matched and fired."""

    rule: Rule
    matched: int = 0
    fired: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def claims(self) -> bool:
        """Count a match; whether this one is to be acted on."""
        self.matched += 1
        spent = self.rule.times is not None and self.fired >= self.rule.times
        if self.over.is_set() or spent or self.matched <= self.rule.skip:
            return False
        self.fired += 1
        return True


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and how it was answered; status 0 when the operator got no answer."""

    request: Request
    status: int


class Proxy:
    """One proxy for one operator. All methods are for its own event loop, but ``arm``, ``exchanges`` and ``lists``."""

    def __init__(
        self, upstream: str, tls: ssl.SSLContext, pki: Path, *, user_agent: str, host: str = "127.0.0.1"
    ) -> None:
        self.exchanges: list[Exchange] = []
        self.lists: defaultdict[str, list[bytes]] = defaultdict(list)
        self.kill: Callable[[], None] = lambda: None
        self.pki = pki
        self._user_agent = user_agent
        self._host = host
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._upstream = URL(upstream)
        self._upstream_tls = tls
        self._armed: list[Armed] = []
        self._dead = False
        self._one_write = asyncio.Lock()
        self._streams: dict[asyncio.Transport, Request] = {}
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Listen on a free port."""
        write_pki(self.pki)
        self._tls.load_cert_chain(self.pki / "server.crt", self.pki / "server.key")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._upstream_tls),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            read_bufsize=_LONGEST_LINE,
        )
        application = web.Application(client_max_size=_LONGEST_LINE)
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, 0, ssl_context=self._tls)
        await site.start()
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.url = f"https://{host}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Break every connection."""
        for armed in self._armed:
            armed.over.set()
        await self.cut()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    def arm(self, rule: Rule) -> Armed:
        """Put a rule to work; the first armed rule that claims a request has it."""
        armed = Armed(rule)
        self._armed.append(armed)
        return armed

    async def disarm(self, armed: Armed) -> None:
        """End a rule, and with it what it holds up."""
        armed.over.set()

    async def revive(self) -> None:
        """Let a new operator process speak after the last one was killed."""
        self._dead = False

    async def renew_certificate(self) -> None:
        """Show new connections another certificate of the same CA, and break the open watches."""
        renew_server(self.pki)
        self._tls.load_cert_chain(self.pki / "server.crt", self.pki / "server.key")
        await self.cut()

    async def cut(self, *resources: str) -> None:
        """Break the open watches of these resources, or all."""
        for transport, request in list(self._streams.items()):
            if not resources or request.resource in resources:
                reset(transport)

    async def _serve(self, http: web.Request) -> web.StreamResponse:
        body = await http.read()
        request = Request.parse(http.method, http.path, dict(http.query), body)
        kills = any(isinstance(armed.rule.do, Kill) and not armed.over.is_set() for armed in self._armed)
        # Writes one after the other: then "after the third write" means that three have reached the API server.
        turn = self._one_write if kills and request.is_write else contextlib.nullcontext()
        try:
            async with turn:
                return await self._answer(http, request, body)
        except (_Broken, aiohttp.ClientError, OSError):
            if http.transport is not None:
                reset(http.transport)
            return web.Response(status=502)  # to nobody: aiohttp wants an answer even where no connection is left

    async def _answer(self, http: web.Request, request: Request, body: bytes) -> web.StreamResponse:
        if self._dead:
            raise _Broken
        armed = self._claim(request)
        fault = armed.rule.do if armed is not None else None
        match fault:
            case Refuse():
                return self._note(request, refusal(fault))
            case Replay(answer):
                return self._note(request, web.Response(body=answer, content_type="application/json"))
            case Kill(Moment.BEFORE):
                self._die(request)
            case Reset(False):
                self._break(request)
            case BlackHole():
                assert armed is not None
                await armed.over.wait()
                self._break(request)
            case Slow(seconds):
                await asyncio.sleep(seconds)
            case _:
                pass
        if request.verb == "watch":
            return await self._stream(http, request)
        return await self._forward(http, request, body, fault)

    async def _forward(self, http: web.Request, request: Request, body: bytes, fault: object) -> web.StreamResponse:
        async with self._ask(http, body) as answer:
            content = await answer.read()
            response = web.Response(status=answer.status, body=content, headers=kept(answer.headers))
        if request.verb == "list" and answer.status == 200:
            self.lists[request.resource].append(content)
        match fault:
            case Kill(Moment.UNANSWERED):
                self._die(request)
            case Kill(Moment.AFTER):
                await response.prepare(http)
                await response.write_eof()
                self._die(request)
            case Reset(True):
                self._break(request)
            case Truncate():
                half = web.StreamResponse(status=answer.status, headers=kept(answer.headers))
                half.content_length = len(content)
                await half.prepare(http)
                await half.write(content[: len(content) // 2])
                self._break(request)
            case Garble():
                response = web.Response(status=answer.status, body=_GARBAGE, content_type="application/json")
            case _:
                pass
        return self._note(request, response)

    async def _stream(self, http: web.Request, request: Request) -> web.StreamResponse:
        async with self._ask(http, b"") as answer:
            response = web.StreamResponse(status=answer.status, headers=kept(answer.headers))
            await response.prepare(http)
            self._note(request, response)
            transport = http.transport
            if transport is not None:
                self._streams[transport] = request
            try:
                async for line in answer.content:
                    async for piece in self._pieces(request, line):
                        await response.write(piece)
                await response.write_eof()
            finally:
                self._streams.pop(transport, None)  # type: ignore[arg-type]
        return response

    async def _pieces(self, request: Request, line: bytes) -> AsyncIterator[bytes]:
        """Yield what the operator is to see of one line of a watch."""
        armed = self._claim_event(request, line)
        match armed.rule.do if armed is not None else None:
            case Withhold():
                return
            case Hold():
                assert armed is not None
                await armed.over.wait()
                yield line
            case Repeat(times):
                for _ in range(times):
                    yield line
            case Cut():
                raise _Broken
            case Expire(code):
                yield json.dumps({"type": "ERROR", "object": status(code, "Expired", "injected")}).encode() + b"\n"
                raise _Broken
            case Garble():
                yield _GARBAGE + b"\n"
            case Shred(size):
                for start in range(0, len(line), size):
                    yield line[start : start + size]
            case _:
                yield line

    def _claim(self, request: Request) -> Armed | None:
        for armed in self._armed:
            if not armed.rule.is_about_events and armed.rule.on.matches(request) and armed.claims():
                return armed
        return None

    def _claim_event(self, request: Request, line: bytes) -> Armed | None:
        about = [armed for armed in self._armed if armed.rule.is_about_events and not armed.over.is_set()]
        if not about or not line.strip():
            return None
        event = json.loads(line)
        for armed in about:
            if armed.rule.on.matches_event(request, event["type"], event["object"]) and armed.claims():
                return armed
        return None

    def _ask(self, http: web.Request, body: bytes) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        assert self._session is not None
        headers = {key: value for key, value in http.headers.items() if key.lower() not in _NOT_FORWARDED}
        headers["User-Agent"] = self._user_agent
        url = self._upstream.join(URL(http.raw_path, encoded=True))
        return self._session.request(http.method, url, data=body or None, headers=headers, allow_redirects=False)

    def _note(self, request: Request, response: web.StreamResponse) -> web.StreamResponse:
        self.exchanges.append(Exchange(request, response.status))
        return response

    def _break(self, request: Request) -> None:
        self.exchanges.append(Exchange(request, 0))
        raise _Broken

    def _die(self, request: Request) -> None:
        self._dead = True
        self.kill()
        self._break(request)
