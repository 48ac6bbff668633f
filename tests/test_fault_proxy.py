"""The fault stand itself: a proxy that does not do what its rule says would prove nothing."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from faults.oracles import differences
from faults.proxy import Proxy
from faults.rules import (
    BlackHole,
    Cut,
    EventFault,
    Expire,
    Garble,
    Hold,
    Kill,
    Moment,
    Refuse,
    Repeat,
    Replay,
    Request,
    RequestFault,
    Reset,
    Rule,
    Shred,
    Slow,
    Truncate,
    Withhold,
    events,
    writes,
)
from trtllm_operator.sandbox.pki import write_pki

CONFIG_MAP = "/api/v1/namespaces/n/configmaps/c"
LINES = [
    json.dumps({"type": kind, "object": {"metadata": {"name": "c", "resourceVersion": str(number)}}}).encode() + b"\n"
    for number, kind in enumerate(("ADDED", "MODIFIED", "DELETED"))
]


class Upstream:
    """Answers writes with 201 and watches with three events."""

    def __init__(self) -> None:
        self.written = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            self.written += request.method == "PATCH"
            return web.json_response({"stored": True}, status=201)
        stream = web.StreamResponse()
        await stream.prepare(request)
        for line in LINES:
            await stream.write(line)
        return stream


class Stage:
    """A client, the proxy, and what is behind it."""

    def __init__(self, upstream: Upstream, proxy: Proxy, session: aiohttp.ClientSession) -> None:
        self.upstream = upstream
        self.proxy = proxy
        self.session = session
        self.killed = 0

    def kill(self) -> None:
        self.killed += 1

    async def write(self) -> tuple[int, bytes]:
        async with self.session.patch(self.proxy.url + CONFIG_MAP, json={}) as answer:
            return answer.status, await answer.read()

    async def watch(self) -> bytes:
        async with self.session.get(f"{self.proxy.url}/api/v1/namespaces/n/configmaps?watch=1") as answer:
            return await answer.read()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    upstream = Upstream()
    write_pki(tmp_path / "upstream")
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(tmp_path / "upstream" / "server.crt", tmp_path / "upstream" / "server.key")
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", upstream.serve)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=served).start()
    trusted = ssl.create_default_context(cafile=str(tmp_path / "upstream" / "ca.crt"))
    proxy = Proxy(f"https://127.0.0.1:{runner.addresses[0][1]}", trusted, tmp_path / "proxy", user_agent="proxied")
    await proxy.start()
    ours = ssl.create_default_context(cafile=str(tmp_path / "proxy" / "ca.crt"))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=ours)) as session:
        stage = Stage(upstream, proxy, session)
        proxy.kill = stage.kill
        yield stage
    await proxy.stop()
    await runner.cleanup()


@pytest.mark.parametrize(
    ("method", "path", "query", "wanted"),
    [
        pytest.param("GET", "/api/v1/namespaces/n/pods", {}, "list pods", id="core list"),
        pytest.param("GET", "/api/v1/pods", {"watch": "true"}, "watch pods", id="cluster-wide watch"),
        pytest.param("GET", "/apis/apps/v1/namespaces/n/deployments/d", {}, "get deployments d", id="get"),
        pytest.param("PATCH", "/apis/g/v1/namespaces/n/x/a/status", {}, "patch x/status a", id="subresource"),
        pytest.param("POST", "/api/v1/namespaces/n/events", {}, "create events", id="create"),
        pytest.param("DELETE", "/api/v1/namespaces/n/services/s", {}, "delete services s", id="delete"),
        pytest.param("GET", "/apis/apps/v1", {}, "discover", id="discovery"),
    ],
)
def test_requests_are_read_as_rbac_names_them(method: str, path: str, query: dict[str, str], wanted: str) -> None:
    assert str(Request.parse(method, path, query, b"")) == wanted


async def test_without_a_rule_nothing_is_changed(stage: Stage) -> None:
    assert await stage.write() == (201, b'{"stored": true}')
    assert await stage.watch() == b"".join(LINES)
    assert [exchange.status for exchange in stage.proxy.exchanges] == [201, 200]


@pytest.mark.parametrize(
    ("fault", "status", "forwarded"),
    [
        pytest.param(Refuse(422, "Invalid"), 422, 0, id="refused"),
        pytest.param(Replay(b"{}"), 200, 0, id="replayed"),
        pytest.param(Garble(), 201, 1, id="not JSON"),
        pytest.param(Slow(0.01), 201, 1, id="slow"),
    ],
)
async def test_faults_that_answer(stage: Stage, fault: RequestFault, status: int, forwarded: int) -> None:
    stage.proxy.arm(Rule(on=writes("configmaps"), do=fault))
    answered, body = await stage.write()
    assert (answered, stage.upstream.written) == (status, forwarded)
    assert (body == b'{"stored": true}') == isinstance(fault, Slow)
    assert await stage.write() == (201, b'{"stored": true}')


@pytest.mark.parametrize(
    ("fault", "forwarded", "killed"),
    [
        pytest.param(Reset(), 0, 0, id="reset before"),
        pytest.param(Reset(forwarded=True), 1, 0, id="reset after"),
        pytest.param(Truncate(), 1, 0, id="truncated"),
        pytest.param(Kill(Moment.BEFORE), 0, 1, id="killed before"),
        pytest.param(Kill(Moment.UNANSWERED), 1, 1, id="killed unanswered"),
    ],
)
async def test_faults_that_break_the_connection(stage: Stage, fault: RequestFault, forwarded: int, killed: int) -> None:
    stage.proxy.arm(Rule(on=writes(), do=fault))
    with pytest.raises(aiohttp.ClientError):
        await stage.write()
    assert (stage.upstream.written, stage.killed) == (forwarded, killed)


async def test_nothing_passes_between_a_death_and_the_next_life(stage: Stage) -> None:
    stage.proxy.arm(Rule(on=writes(), do=Kill(Moment.AFTER)))
    with pytest.raises(aiohttp.ClientError):
        await asyncio.gather(*(stage.write() for _ in range(5)))
    assert (stage.upstream.written, stage.killed) == (1, 1)
    await stage.proxy.revive()
    assert (await stage.write())[0] == 201


async def test_a_rule_lets_pass_what_it_skips_and_ends_after_its_times(stage: Stage) -> None:
    armed = stage.proxy.arm(Rule(on=writes(), do=Refuse(500), skip=1, times=2))
    assert [(await stage.write())[0] for _ in range(5)] == [201, 500, 500, 201, 201]
    assert armed.fired == 2


async def test_a_black_hole_lasts_until_it_is_disarmed(stage: Stage) -> None:
    armed = stage.proxy.arm(Rule(on=writes(), do=BlackHole()))
    writing = asyncio.create_task(stage.write())
    done, _ = await asyncio.wait([writing], timeout=0.2)
    assert not done
    await stage.proxy.disarm(armed)
    with pytest.raises(aiohttp.ClientError):
        await writing


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        pytest.param(Withhold(), LINES[0] + LINES[2], id="withheld"),
        pytest.param(Repeat(3), LINES[0] + LINES[1] * 3 + LINES[2], id="repeated"),
        pytest.param(Shred(5), b"".join(LINES), id="in pieces"),
        pytest.param(Garble(), LINES[0] + b"<html>not JSON\n" + LINES[2], id="not JSON"),
    ],
)
async def test_what_happens_to_an_event(stage: Stage, fault: EventFault, told: bytes) -> None:
    stage.proxy.arm(Rule(on=events("configmaps", types=("MODIFIED",)), do=fault))
    assert await stage.watch() == told


@pytest.mark.parametrize("fault", [Cut(), Expire()])
async def test_a_stream_that_is_broken(stage: Stage, fault: EventFault) -> None:
    stage.proxy.arm(Rule(on=events(types=("MODIFIED",)), do=fault))
    with pytest.raises(aiohttp.ClientError):
        await stage.watch()


async def test_a_held_event_holds_what_is_behind_it(stage: Stage) -> None:
    armed = stage.proxy.arm(Rule(on=events(types=("MODIFIED",)), do=Hold()))
    watching = asyncio.create_task(stage.watch())
    done, _ = await asyncio.wait([watching], timeout=0.2)
    assert not done
    await stage.proxy.disarm(armed)
    assert await watching == b"".join(LINES)


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        pytest.param({"a": {"b": 1}}, {"a": {"b": 1}}, [], id="equal"),
        pytest.param({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b: 1 is not 2"], id="a leaf"),
        pytest.param({"a": 1}, {}, ["a: 1 is not None"], id="missing"),
        pytest.param({"a": [1]}, {"a": [1, 2]}, ["a: [1] is not [1, 2]"], id="a list"),
    ],
)
def test_differences_are_named(one: dict[str, object], other: dict[str, object], told: list[str]) -> None:
    assert differences(one, other) == told
