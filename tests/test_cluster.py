"""The client against a small server that takes exactly the request it expects, and over TLS."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import ipaddress
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import RawTestServer, TestServer, unused_port
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from yarl import URL

from trtllm_operator.cluster import Cluster, WatchEvent
from trtllm_operator.connection import Connection, _proxy_for
from trtllm_operator.credentials import Credentials, static_credentials, token_file_credentials
from trtllm_operator.errors import (
    ClusterError,
    Conflict,
    Forbidden,
    Gone,
    NotFound,
    NotLeader,
    OperatorError,
    Rejected,
    Unavailable,
)
from trtllm_operator.kinds import CONFIG_MAP, DEPLOYMENT, EVENT, LEASE, LLM_DEPLOYMENT, NODE, POD

RELEASED = web.AppKey("released", asyncio.Event)

Reply = Callable[[web.Request], Any]


@dataclass
class Expected:
    method: str
    path: str
    query: dict[str, str]
    reply: Reply
    content_type: str | None = None
    body: Any = None
    token: str | None = None


def answer(body: Any, status: int = 200, **headers: str) -> Reply:
    async def reply(_: web.Request) -> web.Response:
        return web.json_response(body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return reply


def refusal(status: int, message: str = "no", reason: str = "", **headers: str) -> Reply:
    body = {"kind": "Status", "status": "Failure", "message": message, "reason": reason, "code": status}
    return answer(body, status, **headers)


def stream(*pieces: bytes, hold: bool = False, abort: bool = False) -> Reply:
    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        if hold:
            await request.app[RELEASED].wait()
        if abort and request.transport is not None:
            request.transport.abort()
        return response

    return reply


@dataclass
class Api:
    """Answers one scripted request after the other and remembers the first one that was not as expected."""

    script: list[Expected] = field(default_factory=list)
    surprise: str | None = None
    url: str = ""

    def expect(self, method: str, path: str, reply: Reply, query: dict[str, str] | None = None, **more: Any) -> None:
        self.script.append(Expected(method, path, query or {}, reply, **more))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        got = (request.method, request.rel_url.raw_path, dict(request.query))
        if not self.script:
            return self.refuse(f"nothing expected, got {got}")
        due = self.script.pop(0)
        if got != (due.method, due.path, due.query):
            return self.refuse(f"expected {due.method} {due.path} {due.query}, got {got}")
        if request.headers.get("Content-Type") != due.content_type:
            return self.refuse(f"expected {due.content_type}, got {request.headers.get('Content-Type')}")
        body = await request.read()
        if due.body is not None and json.loads(body) != due.body:
            return self.refuse(f"expected {due.body}, got {body!r}")
        bearer = None if due.token is None else f"Bearer {due.token}"
        if request.headers.get("Authorization") != bearer:
            return self.refuse(f"expected {bearer}, got {request.headers.get('Authorization')}")
        reply: web.StreamResponse = await due.reply(request)
        return reply

    def refuse(self, surprise: str) -> web.Response:
        self.surprise = self.surprise or surprise
        return web.json_response({"message": surprise}, status=400)


async def serve(api: Api, tls: ssl.SSLContext | None = None) -> TestServer:
    import asyncio

    app = web.Application(client_max_size=1 << 26)
    app[RELEASED] = asyncio.Event()
    app.router.add_route("*", "/{tail:.*}", api.handle)
    server = TestServer(app, scheme="https" if tls else "http")
    await server.start_server(ssl=tls)
    api.url = f"{server.scheme}://127.0.0.1:{server.port}"
    return server


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    expectations = Api()
    server = await serve(expectations)
    yield expectations
    server.app[RELEASED].set()
    await server.close()
    assert expectations.surprise is None
    assert expectations.script == []


@pytest.fixture
async def cluster(api: Api) -> AsyncIterator[Cluster]:
    connection = Connection(api.url)
    yield Cluster(connection, request_timeout=5, watch_silence=0.3)
    await connection.close()


PODS = "/api/v1/namespaces/demo/pods"
MANIFEST: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "llama", "namespace": "demo"},
}
STORED = {**MANIFEST, "metadata": {**MANIFEST["metadata"], "uid": "u1", "resourceVersion": "7"}}
LLAMA = "/apis/apps/v1/namespaces/demo/deployments/llama"
APPLY = "application/apply-patch+yaml"


# Requests


async def test_get(api: Api, cluster: Cluster) -> None:
    api.expect("GET", LLAMA, answer(STORED))
    api.expect("GET", "/api/v1/nodes/n1", refusal(404))
    assert await cluster.get(DEPLOYMENT, "demo", "llama") == STORED
    assert await cluster.get(NODE, None, "n1") is None


async def test_list_follows_pages_and_names_the_items(api: Api, cluster: Cluster) -> None:
    query = {"limit": "2", "labelSelector": "app in (a,b),x=y"}
    pages = [
        {"metadata": {"continue": "c/1=="}, "items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]},
        {"metadata": {"resourceVersion": "9"}, "items": [{"metadata": {"name": "c"}}]},
    ]
    api.expect("GET", PODS, answer(pages[0]), query)
    api.expect("GET", PODS, answer(pages[1]), {**query, "continue": "c/1=="})
    items, version = await cluster.list(POD, "demo", labels=query["labelSelector"], limit=2)
    assert version == "9"
    assert items == [{"metadata": {"name": name}, "apiVersion": "v1", "kind": "Pod"} for name in "abc"]


async def test_list_starts_again_once_when_its_pages_expire(api: Api, cluster: Cluster) -> None:
    begin, rest = {"limit": "500"}, {"limit": "500", "continue": "c"}
    first = {"metadata": {"continue": "c"}, "items": [{"metadata": {"name": "a"}}]}
    for second in (refusal(410), answer({"metadata": {"resourceVersion": "9"}, "items": None})):
        api.expect("GET", "/api/v1/pods", answer(first), begin)
        api.expect("GET", "/api/v1/pods", second, rest)
    items, version = await cluster.list(POD)
    assert (len(items), version) == (1, "9")

    for _ in range(2):
        api.expect("GET", "/api/v1/pods", answer(first), begin)
        api.expect("GET", "/api/v1/pods", refusal(410), rest)
    with pytest.raises(Gone):
        await cluster.list(POD)


@pytest.mark.parametrize(("force", "status", "created"), [(False, 201, True), (True, 200, False)])
async def test_apply(api: Api, cluster: Cluster, *, force: bool, status: int, created: bool) -> None:
    query = {"fieldManager": "me", "force": "true" if force else "false"}
    api.expect("PATCH", LLAMA, answer(STORED, status), query, content_type=APPLY, body=MANIFEST)
    applied = await cluster.apply(DEPLOYMENT, MANIFEST, manager="me", force=force)
    assert (applied.manifest, applied.created) == (STORED, created)


async def test_apply_body_is_compact_and_survives_a_yaml_reader(api: Api, cluster: Cluster) -> None:
    bodies: list[bytes] = []

    async def reply(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.json_response(STORED)

    text = "a\u0085b\u2028c\x7fd\U0001f680\x00\ufeff é\n: #"
    manifest = {**MANIFEST, "data": {"text": text}}
    api.expect("PATCH", LLAMA, reply, {"fieldManager": "me", "force": "true"}, content_type=APPLY)
    await cluster.apply(DEPLOYMENT, manifest, manager="me", force=True)
    assert b": " not in bodies[0].replace(b"\\n: #", b"")
    assert yaml.safe_load(bodies[0]) == json.loads(bodies[0]) == manifest
    assert "\U0001f680".encode() in bodies[0], "go-yaml refuses escaped surrogate pairs"


async def test_apply_status(api: Api, cluster: Cluster) -> None:
    path = "/apis/trtllm.dev/v1alpha1/namespaces/demo/llmdeployments/llama/status"
    query = {"fieldManager": "me", "force": "true"}
    api.expect("PATCH", path, answer(STORED), query, content_type=APPLY, body=MANIFEST)
    assert await cluster.apply_status(LLM_DEPLOYMENT, MANIFEST, manager="me") == STORED


async def test_a_namespace_on_its_way_out_counts_as_gone(api: Api, cluster: Cluster) -> None:
    causes = {"causes": [{"reason": "NamespaceTerminating", "message": "namespace demo is being terminated"}]}
    refused = {"kind": "Status", "reason": "Forbidden", "message": "is being terminated", "details": causes}
    api.expect("PATCH", LLAMA, answer(refused, 403), {"fieldManager": "me", "force": "false"}, content_type=APPLY)
    with pytest.raises(NotFound) as caught:
        await cluster.apply(DEPLOYMENT, MANIFEST, manager="me", force=False)
    assert caught.value.reason == "NamespaceTerminating"


async def test_merge(api: Api, cluster: Cluster) -> None:
    for reply in (answer(STORED), refusal(409, reason="Conflict")):
        query, content_type = {"fieldManager": "me"}, "application/merge-patch+json"
        api.expect("PATCH", LLAMA, reply, query, content_type=content_type, body=MANIFEST)
    assert await cluster.merge(DEPLOYMENT, MANIFEST, manager="me") == STORED
    with pytest.raises(Conflict):
        await cluster.merge(DEPLOYMENT, MANIFEST, manager="me")


async def test_delete(api: Api, cluster: Cluster) -> None:
    def options(propagation: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": "u1"},
            "propagationPolicy": propagation,
        }

    json_type = "application/json"
    api.expect("DELETE", LLAMA, answer({}), content_type=json_type, body=options("Background"))
    api.expect("DELETE", LLAMA, answer({}, 202), content_type=json_type, body=options("Foreground"))
    api.expect("DELETE", LLAMA, refusal(404), content_type=json_type)
    api.expect("DELETE", LLAMA, refusal(409, reason="Conflict"), content_type=json_type)
    assert await cluster.delete(DEPLOYMENT, "demo", "llama", uid="u1")
    assert await cluster.delete(DEPLOYMENT, "demo", "llama", uid="u1", propagation="Foreground")
    assert not await cluster.delete(DEPLOYMENT, "demo", "llama", uid="u1")
    with pytest.raises(Conflict):
        await cluster.delete(DEPLOYMENT, "demo", "llama", uid="u1")


async def test_create(api: Api, cluster: Cluster) -> None:
    event = {"metadata": {"name": "e", "namespace": "demo"}}
    path = "/api/v1/namespaces/demo/events"
    api.expect("POST", path, answer(event, 201), content_type="application/json", body=event)
    api.expect("POST", path, refusal(409, reason="AlreadyExists"), content_type="application/json")
    assert await cluster.create(EVENT, event) == event
    with pytest.raises(Conflict) as caught:
        await cluster.create(EVENT, event)
    assert caught.value.reason == "AlreadyExists"


async def test_kinds_served(api: Api, cluster: Cluster) -> None:
    resources = [{"name": "deployments"}, {"name": "deployments/status"}]
    api.expect("GET", "/apis/apps/v1", answer({"resources": resources}))
    api.expect("GET", "/apis/keda.sh/v1alpha1", refusal(404))
    api.expect("GET", "/api/v1", answer({"resources": [{"name": "pods"}]}))
    assert await cluster.kinds_served("apps", "v1") == {"deployments"}
    assert await cluster.kinds_served("keda.sh", "v1alpha1") == frozenset()
    assert await cluster.kinds_served("", "v1") == {"pods"}
    api.expect("GET", "/apis/apps/v1", refusal(503, "starting"))
    with pytest.raises(Unavailable, match=r"get APIResourceList\.apps: 503 Service Unavailable: starting"):
        await cluster.kinds_served("apps", "v1")


async def test_server_below_a_path(api: Api) -> None:
    connection = Connection(f"{api.url}/k8s/clusters/c-1/")
    api.expect("GET", "/k8s/clusters/c-1/api/v1/nodes/n1", answer({}))
    await Cluster(connection).get(NODE, None, "n1")
    await connection.close()


# Errors


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Rejected),
        (401, Forbidden),
        (403, Forbidden),
        (404, NotFound),
        (405, Rejected),
        (408, Unavailable),
        (409, Conflict),
        (410, Gone),
        (413, Rejected),
        (415, Rejected),
        (422, Rejected),
        (429, Unavailable),
        (302, Unavailable),
        (500, Unavailable),
        (504, Unavailable),
    ],
)
async def test_refusals_are_typed_and_quote_the_server(
    api: Api, cluster: Cluster, status: int, error: type[ClusterError]
) -> None:
    api.expect(
        "POST",
        "/api/v1/namespaces/demo/configmaps",
        refusal(status, "so it is", "Why"),
        content_type="application/json",
    )
    with pytest.raises(error) as caught:
        await cluster.create(CONFIG_MAP, {"metadata": {"namespace": "demo", "name": "x"}})
    assert type(caught.value) is error
    assert str(caught.value) == f"create configmaps demo: {status} Why: so it is"
    assert (caught.value.status, caught.value.reason) == (status, "Why")


async def test_message_names_resource_and_group_and_is_bounded(api: Api, cluster: Cluster) -> None:
    api.expect(
        "PATCH", f"{LLAMA}/status", refusal(403, "x" * 5000), {"fieldManager": "m", "force": "true"}, content_type=APPLY
    )
    with pytest.raises(Forbidden) as caught:
        await cluster.apply_status(DEPLOYMENT, MANIFEST, manager="m")
    assert str(caught.value).startswith("patch deployments/status.apps demo/llama: 403 Forbidden: xxx")
    assert str(caught.value).count("x") == 1024


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("soon", None), (None, None)])
async def test_retry_after(api: Api, cluster: Cluster, header: str | None, seconds: float | None) -> None:
    api.expect("GET", LLAMA, refusal(429, **({} if header is None else {"Retry_After": header})))
    with pytest.raises(Unavailable) as caught:
        await cluster.get(DEPLOYMENT, "demo", "llama")
    assert caught.value.retry_after == seconds


async def test_an_answer_that_is_not_json(api: Api, cluster: Cluster) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>", status=200)

    async def gateway(_: web.Request) -> web.Response:
        return web.Response(text="<html>bad gateway", status=502)

    api.expect("GET", LLAMA, page)
    api.expect("GET", LLAMA, gateway)
    with pytest.raises(Unavailable, match="not JSON"):
        await cluster.get(DEPLOYMENT, "demo", "llama")
    with pytest.raises(Unavailable, match="502 Bad Gateway: <html>bad gateway"):
        await cluster.get(DEPLOYMENT, "demo", "llama")


async def test_no_server_and_no_answer(api: Api) -> None:
    counted: list[tuple[str, str, int]] = []
    absent = Connection(f"http://127.0.0.1:{unused_port()}")
    silent = Connection(api.url)
    with pytest.raises(Unavailable) as refused:
        await Cluster(absent, on_request=lambda *call: counted.append(call)).get(NODE, None, "n")
    api.expect("GET", "/api/v1/nodes/n", stream(hold=True))
    with pytest.raises(Unavailable) as late:
        await Cluster(silent, request_timeout=0.1).get(NODE, None, "n")
    api.expect("GET", "/api/v1/nodes/n", stream(b'{"a":', abort=True))
    with pytest.raises(Unavailable):
        await Cluster(silent).get(NODE, None, "n")
    assert (refused.value.status, refused.value.retry_after) == (0, None)
    assert "get nodes n: no answer in time" in str(late.value)
    assert counted == [("get", "nodes", 0)]
    await absent.close()
    await silent.close()


async def test_update_replaces_and_says_when_it_came_too_late(api: Api, cluster: Cluster) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/system/leases/operator"
    lease = {"metadata": {"name": "operator", "namespace": "system", "resourceVersion": "7"}, "spec": {}}
    stored = {**lease, "metadata": {**lease["metadata"], "resourceVersion": "8"}}
    api.expect("PUT", path, answer(stored), body=lease, content_type="application/json")
    assert await cluster.update(LEASE, lease) == stored
    api.expect("PUT", path, refusal(409, "changed", "Conflict"), body=lease, content_type="application/json")
    with pytest.raises(Conflict):
        await cluster.update(LEASE, lease)


@pytest.mark.parametrize(("namespace", "path"), [(None, "/api/v1/pods"), ("demo", PODS)])
async def test_pages_come_one_by_one(api: Api, cluster: Cluster, namespace: str | None, path: str) -> None:
    selector = {"limit": "2", "fieldSelector": "spec.nodeName!="}
    first = {"metadata": {"continue": "more"}, "items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]}
    api.expect("GET", path, answer(first), selector)
    api.expect("GET", path, answer({"items": [{"metadata": {"name": "c"}}]}), {**selector, "continue": "more"})
    pages = [
        [pod["metadata"]["name"] for pod in page]
        async for page in cluster.pages(POD, namespace, fields="spec.nodeName!=", limit=2)
    ]
    assert pages == [["a", "b"], ["c"]]


async def test_the_fence_stops_every_write_and_no_read(api: Api) -> None:
    def fence() -> None:
        raise NotLeader("somebody else leads")

    connection = Connection(api.url)
    fenced = Cluster(connection, fence=fence)
    lease = {"metadata": {"name": "x", "namespace": "y"}}
    writes = [
        lambda: fenced.create(LEASE, lease),
        lambda: fenced.update(LEASE, lease),
        lambda: fenced.apply(LEASE, lease, manager="m", force=True),
        lambda: fenced.apply_status(LEASE, lease, manager="m"),
        lambda: fenced.merge(LEASE, lease, manager="m"),
        lambda: fenced.delete(LEASE, "y", "x", uid="u"),
    ]
    for write in writes:
        with pytest.raises(NotLeader):
            await write()
    api.expect("GET", "/apis/coordination.k8s.io/v1/namespaces/y/leases/x", answer(lease))
    assert await fenced.get(LEASE, "y", "x") == lease
    await connection.close()


async def test_a_lease_lost_while_a_connection_is_made_stops_the_write(api: Api) -> None:
    lease = {"metadata": {"name": "x", "namespace": "y"}}
    held = iter([True, False])

    def fence() -> None:
        if not next(held):
            raise NotLeader("somebody else leads")

    connection = Connection(api.url)
    fenced = Cluster(connection, fence=fence)
    for write in (fenced.update(LEASE, lease), fenced.delete(LEASE, "y", "x", uid="u")):
        held = iter([True, False])
        with pytest.raises(Unavailable, match="somebody else leads"):
            await write
    held = iter([True, True])
    api.expect(
        "POST",
        "/apis/coordination.k8s.io/v1/namespaces/y/leases",
        answer(lease),
        body=lease,
        content_type="application/json",
    )
    assert await fenced.create(LEASE, lease) == lease
    assert api.surprise is None
    await connection.close()


async def test_requests_are_counted(api: Api) -> None:
    counted: list[tuple[str, str, int]] = []
    connection = Connection(api.url)
    cluster = Cluster(connection, on_request=lambda *call: counted.append(call))
    api.expect("GET", "/api/v1/nodes/n", refusal(404))
    api.expect("PATCH", f"{LLAMA}/status", answer(STORED), {"fieldManager": "m", "force": "true"}, content_type=APPLY)
    await cluster.get(NODE, None, "n")
    await cluster.apply_status(DEPLOYMENT, MANIFEST, manager="m")
    await connection.close()
    assert counted == [("get", "nodes", 404), ("patch", "deployments/status", 200)]


# Watch

WATCH = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": "600", "resourceVersion": "5"}


def line(kind: str, **manifest: Any) -> bytes:
    return json.dumps({"type": kind, "object": manifest}).encode() + b"\n"


async def watched(cluster: Cluster, events: list[WatchEvent] | None = None) -> list[WatchEvent]:
    events = [] if events is None else events
    async with aclosing(cluster.watch(POD, resource_version="5")) as source:
        async for event in source:
            events.append(event)
    return events


async def test_watch_yields_events_however_they_are_cut(api: Api, cluster: Cluster) -> None:
    big = "x" * 3_000_000
    data = line("ADDED", n=1) + line("MODIFIED", big=big) + b"\n" + line("BOOKMARK", n=3) + line("DELETED", n=4)
    pieces = [data[:5], data[5:70], *[data[at : at + 65_537] for at in range(70, len(data), 65_537)]]
    api.expect("GET", "/api/v1/namespaces/demo/pods", stream(*pieces), {**WATCH, "labelSelector": "a=b"})
    source = cluster.watch(POD, namespace="demo", labels="a=b", resource_version="5")
    async with aclosing(source) as events:
        got = [event async for event in events]
    assert [event.type for event in got] == ["ADDED", "MODIFIED", "BOOKMARK", "DELETED"]
    assert got[1].manifest == {"big": big}


async def test_watch_takes_a_last_line_without_its_end(api: Api, cluster: Cluster) -> None:
    api.expect("GET", "/api/v1/pods", stream(line("ADDED", n=1).rstrip()), WATCH)
    assert await watched(cluster) == [WatchEvent("ADDED", {"n": 1})]


@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        pytest.param(refusal(410), Gone, "410", id="too-old"),
        pytest.param(refusal(404), NotFound, "404", id="not-served"),
        pytest.param(refusal(403), Forbidden, "watch pods", id="forbidden"),
        pytest.param(stream(line("ERROR", code=410, message="too old")), Gone, "too old", id="compacted"),
        pytest.param(stream(line("ERROR", code=500, message="etcd")), Unavailable, "etcd", id="error"),
        pytest.param(stream(line("ERROR")), Unavailable, "watch pods", id="empty-error"),
        pytest.param(stream(b"{oops\n"), Unavailable, "not a watch event", id="not-json"),
        pytest.param(stream(b"[1]\n"), Unavailable, "not a watch event", id="not-an-event"),
        pytest.param(stream(b'{"type":"ADDED"'), Unavailable, "not a watch event", id="cut-line"),
        pytest.param(stream(hold=True), Unavailable, "no answer in time", id="silent"),
    ],
)
async def test_watch_failures(
    api: Api, cluster: Cluster, reply: Reply, error: type[ClusterError], message: str
) -> None:
    api.expect("GET", "/api/v1/pods", reply, WATCH)
    with pytest.raises(error, match=message):
        await watched(cluster)


@pytest.mark.parametrize("how", [{"hold": True}, {"abort": True}])
async def test_watch_keeps_what_came_before_it_broke(api: Api, cluster: Cluster, how: dict[str, bool]) -> None:
    api.expect("GET", "/api/v1/pods", stream(line("ADDED", n=1), **how), WATCH)
    events: list[WatchEvent] = []
    with pytest.raises(Unavailable):
        await watched(cluster, events)
    assert events == [WatchEvent("ADDED", {"n": 1})]


# Sessions and credentials


async def test_sessions_are_fresh_or_reopened(api: Api) -> None:
    connection = Connection(api.url)
    own, given = connection.session, connection.new_session()
    assert connection.session is own
    assert given is not own
    assert own.connector is not None
    assert own.connector.limit == 48
    await own.close()
    assert connection.session is not own
    await connection.close()
    assert not given.closed
    await given.close()


async def test_token_file_is_read_again_after_401_and_only_once(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    connection = Connection(api.url, credentials=token_file_credentials(file))
    cluster = Cluster(connection)
    api.expect("GET", "/api/v1/nodes/n", answer({"n": 1}), token="old")
    await cluster.get(NODE, None, "n")
    file.write_text("new\n")
    api.expect("GET", "/api/v1/nodes/n", refusal(401), token="old")
    api.expect("GET", "/api/v1/nodes/n", answer({"n": 2}), token="new")
    assert await cluster.get(NODE, None, "n") == {"n": 2}
    api.expect("GET", "/api/v1/nodes/n", refusal(401), token="new")
    api.expect("GET", "/api/v1/nodes/n", refusal(401, "who?"), token="new")
    with pytest.raises(Forbidden, match=r"who\?"):
        await cluster.get(NODE, None, "n")
    await connection.close()


async def test_retried_request_carries_its_body(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("t")
    connection = Connection(api.url, credentials=token_file_credentials(file))
    query = {"fieldManager": "m", "force": "true"}
    for reply in (refusal(401), answer(STORED)):
        api.expect("PATCH", LLAMA, reply, query, content_type=APPLY, body=MANIFEST, token="t")
    await Cluster(connection).apply(DEPLOYMENT, MANIFEST, manager="m", force=True)
    await connection.close()


async def test_token_file_is_read_again_after_a_minute_and_kept_when_it_vanishes(tmp_path: Path) -> None:
    now, file = [0.0], tmp_path / "token"
    file.write_text("one")
    credentials = token_file_credentials(file, clock=lambda: now[0])
    assert (await credentials.current()).token == "one"
    file.write_text("two")
    now[0] = 59
    assert (await credentials.current()).token == "one"
    now[0] = 61
    assert (await credentials.current()).token == "two"
    file.unlink()
    now[0] = 200
    assert (await credentials.current()).token == "two"
    file.write_text("three")
    now[0] = 211
    assert (await credentials.current()).token == "three"


async def test_other_sessions_carry_the_token_too(api: Api, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    connection = Connection(api.url, credentials=token_file_credentials(tmp_path / "token"))
    api.expect("GET", "/version", answer({}), token="t")
    async with connection.new_session() as session, session.get(f"{api.url}/version") as response:
        assert response.status == 200


# Kubeconfig


def write(path: Path, *, cluster: Any = None, user: Any = None, context: Any = None, **top: Any) -> Path:
    config = {
        "current-context": "main",
        "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u", **(context or {})}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        **top,
    }
    path.write_text(yaml.safe_dump(config))
    return path


async def get_node(connection: Connection) -> None:
    try:
        await Cluster(connection).get(NODE, None, "n")
    finally:
        await connection.close()


async def test_kubeconfig_with_a_token_and_a_namespace(api: Api, tmp_path: Path) -> None:
    path = write(tmp_path / "config", cluster={"server": api.url}, user={"token": "t"}, context={"namespace": "team"})
    connection = Connection.from_kubeconfig(path)
    assert (connection.server, connection.default_namespace) == (api.url, "team")
    api.expect("GET", "/api/v1/nodes/n", answer({}), token="t")
    await get_node(connection)


async def test_kubeconfig_with_a_static_token_is_not_retried(api: Api, tmp_path: Path) -> None:
    path = write(tmp_path / "config", cluster={"server": api.url}, user={"token": "t"})
    api.expect("GET", "/api/v1/nodes/n", refusal(401), token="t")
    with pytest.raises(Forbidden):
        await get_node(Connection.from_kubeconfig(path))


async def test_kubeconfig_with_a_token_file_beside_it(api: Api, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-file")
    path = write(tmp_path / "config", cluster={"server": api.url}, user={"tokenFile": "secret", "token": "not-this"})
    api.expect("GET", "/api/v1/nodes/n", answer({}), token="from-file")
    await get_node(Connection.from_kubeconfig(path))


async def test_context_by_name(tmp_path: Path) -> None:
    contexts = [{"name": "other", "context": {"cluster": "c", "namespace": "there"}}]
    path = write(tmp_path / "config", contexts=contexts)
    assert Connection.from_kubeconfig(path, "other").default_namespace == "there"


async def test_first_existing_file_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "config", context={"namespace": "found"})
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(["", str(tmp_path / "absent"), str(path)]))
    assert Connection.from_kubeconfig().default_namespace == "found"
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    with pytest.raises(OperatorError, match="absent does not exist"):
        Connection.from_kubeconfig()
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(OperatorError, match=r"\.kube/config does not exist"):
        Connection.from_kubeconfig()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"current-context": "gone"}, "no context 'gone'; there are: main"),
        ({"current-context": None}, "no context None; there are: main"),
        ({"clusters": []}, "no cluster 'c'; there are: none"),
        ({"users": None}, "no user 'u'; there are: none"),
        ({"cluster": {"server": None}}, "cluster 'c' has no http or https server"),
        (
            {"cluster": {"server": "https://h", "certificate-authority": "ca.pem"}},
            "ca.pem: cannot read certificate-auth",
        ),
        (
            {"cluster": {"server": "https://h", "certificate-authority-data": "%"}},
            "certificate-authority-data is not base64",
        ),
        ({"cluster": {"server": "https://h", "certificate-authority-data": "QQ=="}}, "not a PEM certificate"),
        ({"cluster": {"server": "https://h"}, "user": {"client-key-data": "QQ=="}}, "need each other"),
        (
            {
                "cluster": {"server": "https://h"},
                "user": {"client-key-data": "QQ==", "client-certificate-data": "QQ=="},
            },
            "not a PEM pair",
        ),
        ({"user": {"tokenFile": "absent"}}, "absent: cannot read the token"),
        ({"user": {"auth-provider": {"name": "gcp"}}}, "auth-provider was removed"),
        ({"user": {"exec": {"args": []}}}, "the exec plugin has no command"),
        ({"cluster": {"proxy-url": "socks5://p:1"}}, "only http and https proxies"),
    ],
)
def test_broken_kubeconfigs_say_what_is_wrong(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "config", **change)
    with pytest.raises(OperatorError, match=message) as caught:
        Connection.from_kubeconfig(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "not YAML"), ("- a", "not a kubeconfig"), (None, "cannot read")]
)
def test_files_that_are_no_kubeconfig(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(OperatorError, match=f"{path}: {message}"):
        Connection.from_kubeconfig(path)


PLUGIN = """#!{python}
import json, os, pathlib, sys
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
runs = pathlib.Path({folder!r}) / "runs"
runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
assert info["spec"]["interactive"] is False and info["spec"]["cluster"]["server"], info
status = {{"token": f"{{sys.argv[1]}}-{{os.environ['EXTRA']}}-{{len(runs.read_text())}}"}}
status.update(json.loads(os.environ.get("STATUS", "{{}}")))
print(json.dumps({{"apiVersion": info["apiVersion"], "kind": "ExecCredential", "status": status}}))
sys.exit(int(os.environ.get("EXIT", "0")))
"""


def exec_user(tmp_path: Path, **env: str) -> dict[str, Any]:
    (tmp_path / "bin").mkdir()
    plugin = tmp_path / "bin" / "plugin"
    plugin.write_text(PLUGIN.format(python=sys.executable, folder=str(tmp_path)))
    plugin.chmod(0o755)
    variables = [{"name": name, "value": value} for name, value in {"EXTRA": "e", **env}.items()]
    api_version = "client.authentication.k8s.io/v1"
    command = {"apiVersion": api_version, "command": "./bin/plugin", "args": ["a"], "env": variables}
    return {"exec": {**command, "provideClusterInfo": True, "installHint": "install it"}}


async def test_exec_plugin_runs_once_until_401(api: Api, tmp_path: Path) -> None:
    path = write(tmp_path / "config", cluster={"server": api.url}, user=exec_user(tmp_path))
    connection = Connection.from_kubeconfig(path)
    cluster = Cluster(connection)
    for reply, token in ((answer({}), "a-e-1"), (answer({}), "a-e-1"), (refusal(401), "a-e-1"), (answer({}), "a-e-2")):
        api.expect("GET", "/api/v1/nodes/n", reply, token=token)
    for _ in range(3):
        await cluster.get(NODE, None, "n")
    await connection.close()


async def test_exec_plugin_runs_again_when_its_token_expires(api: Api, tmp_path: Path) -> None:
    status = json.dumps({"expirationTimestamp": "2020-01-01T00:00:00Z"})
    path = write(tmp_path / "config", cluster={"server": api.url}, user=exec_user(tmp_path, STATUS=status))
    connection = Connection.from_kubeconfig(path)
    for token in ("a-e-1", "a-e-2"):
        api.expect("GET", "/api/v1/nodes/n", answer({}), token=token)
        await Cluster(connection).get(NODE, None, "n")
    await connection.close()


@pytest.mark.parametrize(
    ("env", "change", "message"),
    [
        ({"EXIT": "3"}, {}, "ended with status 3"),
        ({"STATUS": '{"token": ""}'}, {}, "neither a token nor a client certificate"),
        ({"STATUS": '{"expirationTimestamp": "soon"}'}, {}, "no usable ExecCredential"),
        ({}, {"command": "./bin/absent"}, r"cannot run './bin/absent': No such file or directory\. install it"),
    ],
)
async def test_exec_plugin_failures(tmp_path: Path, env: dict[str, str], change: dict[str, str], message: str) -> None:
    user = exec_user(tmp_path, **env)
    user["exec"].update(change)
    path = write(tmp_path / "config", user=user)
    with pytest.raises(Unavailable, match=message):
        await get_node(Connection.from_kubeconfig(path))


async def test_failure_in_the_middleware_is_an_aiohttp_error_for_other_users() -> None:
    async def load() -> Any:
        raise OperatorError("no credential")

    connection = Connection("http://127.0.0.1:1", credentials=Credentials(load))
    async with connection.new_session() as session:
        with pytest.raises(aiohttp.ClientConnectionError, match="no credential"):
            await session.get("http://127.0.0.1:1/version")


# TLS


@dataclass
class Certificate:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def certificate(name: str, issuer: Certificate | None = None) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("kubernetes"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Certificate(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


AUTHORITY = certificate("authority")
SERVER = certificate("server", AUTHORITY)
CLIENT = certificate("client", AUTHORITY)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
async def tls_api(tmp_path: Path) -> AsyncIterator[Api]:
    pem = tmp_path / "server.pem"
    pem.write_bytes(SERVER.pem + SERVER.key_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=AUTHORITY.pem.decode())
    context.load_cert_chain(pem)
    context.verify_mode = ssl.CERT_OPTIONAL
    expectations = Api()
    server = await serve(expectations, context)
    yield expectations
    await server.close()
    assert expectations.surprise is None
    assert expectations.script == []


async def who(request: web.Request) -> web.Response:
    peer = request.transport.get_extra_info("peercert") if request.transport else None
    return web.json_response({"client": peer["subject"][0][0][1] if peer else None})


CLIENT_DATA = {"client-certificate-data": text(CLIENT.pem), "client-key-data": text(CLIENT.key_pem)}
CLIENT_FILES = {"client-certificate": "client.crt", "client-key": "client.key"}


@pytest.mark.parametrize(
    ("cluster", "user", "name"),
    [
        pytest.param({"certificate-authority-data": text(AUTHORITY.pem)}, CLIENT_DATA, "client", id="data"),
        pytest.param({"certificate-authority": "ca.crt"}, CLIENT_FILES, "client", id="files"),
        pytest.param({"insecure-skip-tls-verify": True}, {}, None, id="insecure"),
        pytest.param({"certificate-authority": "ca.crt", "tls-server-name": "kubernetes"}, {}, None, id="server-name"),
    ],
)
async def test_tls(
    tls_api: Api, tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any], name: str | None
) -> None:
    for file, data in (("ca.crt", AUTHORITY.pem), ("client.crt", CLIENT.pem), ("client.key", CLIENT.key_pem)):
        (tmp_path / file).write_bytes(data)
    path = write(tmp_path / "config", cluster={"server": tls_api.url, **cluster}, user=user)
    connection = Connection.from_kubeconfig(path)
    tls_api.expect("GET", "/api/v1/nodes/n", who)
    assert await Cluster(connection).get(NODE, None, "n") == {"client": name}
    await connection.close()


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ({}, "certificate verify failed"),
        ({"certificate-authority-data": text(AUTHORITY.pem), "tls-server-name": "elsewhere"}, "elsewhere"),
    ],
)
async def test_tls_refuses_strangers(tls_api: Api, tmp_path: Path, cluster: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "config", cluster={"server": tls_api.url, **cluster})
    with pytest.raises(Unavailable, match=message):
        await get_node(Connection.from_kubeconfig(path))


async def test_exec_plugin_with_a_client_certificate(tls_api: Api, tmp_path: Path) -> None:
    status = {"token": None, "clientCertificateData": CLIENT.pem.decode(), "clientKeyData": CLIENT.key_pem.decode()}
    cluster = {"server": tls_api.url, "certificate-authority-data": text(AUTHORITY.pem)}
    path = write(tmp_path / "config", cluster=cluster, user=exec_user(tmp_path, STATUS=json.dumps(status)))
    connection = Connection.from_kubeconfig(path)
    tls_api.expect("GET", "/api/v1/nodes/n", who)
    assert await Cluster(connection).get(NODE, None, "n") == {"client": "client"}
    await connection.close()


async def test_in_cluster(tls_api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert not Connection.is_in_cluster(tmp_path)
    with pytest.raises(OperatorError, match="KUBERNETES_SERVICE_HOST is not set"):
        Connection.in_cluster(tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", tls_api.url.rpartition(":")[2])
    with pytest.raises(OperatorError, match=r"ca\.crt: cannot read the certificate authority"):
        Connection.in_cluster(tmp_path)
    for file, content in (("ca.crt", AUTHORITY.pem.decode()), ("token", "t\n"), ("namespace", "ops\n")):
        (tmp_path / file).write_text(content)
    assert Connection.is_in_cluster(tmp_path)
    connection = Connection.in_cluster(tmp_path)
    assert (connection.server, connection.default_namespace) == (tls_api.url, "ops")
    tls_api.expect("GET", "/api/v1/nodes/n", answer({}), token="t")
    await get_node(connection)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    assert Connection.in_cluster(tmp_path).server == "https://[fd00::1]:443"
    (tmp_path / "token").write_text(" ")
    with pytest.raises(OperatorError, match="token file is empty"):
        Connection.in_cluster(tmp_path)


# Proxies


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("server", "no_proxy", "configured", "proxy"),
    [
        ("https://k8s.example:6443", "", None, "http://p:1"),
        ("https://k8s.example:6443", ".example", None, None),
        ("https://10.1.2.3", "localhost, 10.0.0.0/8", None, None),
        ("https://11.1.2.3", "localhost,10.0.0.0/8", None, "http://p:1"),
        ("https://10.1.2.3", "10.0.0.0/8", "http://q:2", "http://q:2"),
        ("http://k8s.example", "", None, None),
    ],
)
def test_proxy_from_the_environment(
    no_proxies: pytest.MonkeyPatch, server: str, no_proxy: str, configured: str | None, proxy: str | None
) -> None:
    no_proxies.setenv("https_proxy", "p:1")
    no_proxies.setenv("no_proxy", no_proxy)
    found = _proxy_for(URL(server), configured)
    assert (None if found is None else str(found)) == proxy


async def test_requests_go_through_the_proxy(api: Api) -> None:
    async def reply(request: web.Request) -> web.Response:
        return web.json_response({"host": request.headers["Host"]})

    connection = Connection("http://k8s.example", proxy=api.url)
    api.expect("GET", "/api/v1/nodes/n", reply)
    assert await Cluster(connection).get(NODE, None, "n") == {"host": "k8s.example"}
    await connection.close()


async def test_the_proxy_gets_its_password_and_never_our_token() -> None:
    seen: list[tuple[str | None, str | None]] = []

    async def proxy(request: web.BaseRequest) -> web.Response:
        seen.append((request.headers.get("Proxy-Authorization"), request.headers.get("Authorization")))
        return web.Response(status=407)

    async with RawTestServer(proxy) as server:
        url = f"http://me:secret@127.0.0.1:{server.port}"
        connection = Connection("https://k8s.example", proxy=url, credentials=static_credentials("token"))
        with pytest.raises(Unavailable, match="407") as caught:
            await get_node(connection)
    assert seen == [(aiohttp.encode_basic_auth("me", "secret"), None)]
    assert "secret" not in str(caught.value)
