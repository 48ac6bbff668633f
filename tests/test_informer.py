"""The informer against a small API server that keeps versions, cuts streams and compacts on demand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from trtllm_operator.cluster import Cluster, Manifest
from trtllm_operator.connection import Connection
from trtllm_operator.informer import Informer, _pause, default_slim
from trtllm_operator.kinds import POD

DEADLINE = 5


class Api:
    """Pods with resourceVersions, a log of events, and faults to order."""

    def __init__(self) -> None:
        self.url = ""
        self.version = 100
        self.pods: dict[str, Manifest] = {}
        self.log: list[tuple[int, bytes]] = []
        self.compacted = 0
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.faults: list[tuple[str, int, dict[str, str]]] = []
        self.broken: dict[str, int] = {}
        self._news = asyncio.Condition()
        self._cut = 0
        self.watching = 0

    def touch(self, name: str, uid: str = "", **more: Any) -> Manifest:
        self.version += 1
        metadata = {
            "name": name,
            "namespace": "demo",
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(self.version),
        }
        pod = {"metadata": {**metadata, **more}}
        self._record("MODIFIED" if name in self.pods else "ADDED", pod)
        self.pods[name] = pod
        return pod

    def delete(self, name: str) -> None:
        self.version += 1
        pod = self.pods.pop(name)
        self._record("DELETED", {"metadata": {**pod["metadata"], "resourceVersion": str(self.version)}})

    def bookmark(self) -> None:
        self.version += 1
        self._record("BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}})

    def _record(self, kind: str, manifest: Manifest) -> None:
        self.log.append((self.version, json.dumps({"type": kind, "object": manifest}).encode() + b"\n"))

    async def tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def cut(self) -> None:
        self._cut += 1
        await self.tell()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        verb = "watch" if "watch" in request.query else "list"
        self.requests.append((verb, dict(request.query)))
        assert (request.method, request.path) == ("GET", "/api/v1/namespaces/demo/pods")
        if self.faults and self.faults[0][0] == verb:
            _, status, headers = self.faults.pop(0)
            return web.json_response({"message": "to order"}, status=status, headers=headers)
        if verb in self.broken:
            return web.json_response({"message": "broken"}, status=self.broken[verb])
        if verb == "list":
            items = list(self.pods.values())
            return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": items})
        return await self._watch(request)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        seen, cut = int(request.query["resourceVersion"]), self._cut
        response = web.StreamResponse()
        await response.prepare(request)
        if seen < self.compacted:
            await response.write(json.dumps({"type": "ERROR", "object": {"code": 410}}).encode() + b"\n")
            return response
        sent = sum(version <= seen for version, _ in self.log)
        self.watching += 1
        try:
            async with self._news:
                while cut == self._cut:
                    for _, line in self.log[sent:]:
                        await response.write(line)
                    sent = len(self.log)
                    await self._news.wait()
        finally:
            self.watching -= 1
        return response


class Naps:
    """Sleeps that end when told, and remember how long they should have been."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.free = True
        self._woken = asyncio.Semaphore(0)

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        if self.free:
            await asyncio.sleep(0)
        else:
            await self._woken.acquire()

    def wake(self) -> None:
        self._woken.release()


class Changes(list[tuple[str, bool]]):
    def __call__(self, manifest: Manifest, deleted: bool) -> None:
        self.append((manifest["metadata"]["name"], deleted))

    def taken(self) -> list[tuple[str, bool]]:
        """Return what came since the last time."""
        came = list(self)
        self.clear()
        return came


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - the condition belongs to other tasks
            await asyncio.sleep(0.001)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    expectations = Api()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", expectations.handle)
    server = TestServer(app)
    await server.start_server()
    expectations.url = f"http://127.0.0.1:{server.port}"
    yield expectations
    await expectations.cut()
    await server.close()


@pytest.fixture
async def cluster(api: Api) -> AsyncIterator[Cluster]:
    connection = Connection(api.url)
    yield Cluster(connection, watch_silence=DEADLINE)
    await connection.close()


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
def changes() -> Changes:
    return Changes()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def informer(cluster: Cluster, naps: Naps, changes: Changes, clock: Clock) -> Informer:
    return Informer(cluster, POD, namespace="demo", labels="a=b", on_change=changes, clock=clock, sleep=naps)


@pytest.fixture
async def started(informer: Informer) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(informer.run())
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def following(api: Api) -> None:
    await until(lambda: api.watching == 1)


@pytest.mark.usefixtures("started")
async def test_lists_then_follows(api: Api, informer: Informer, changes: Changes) -> None:
    api.touch("a")
    await asyncio.wait_for(informer.synced.wait(), DEADLINE)
    await following(api)
    assert changes.taken() == [("a", False)]
    assert api.requests[0] == ("list", {"limit": "500", "labelSelector": "a=b"})
    assert api.requests[1][1]["resourceVersion"] == "101"
    assert api.requests[1][1]["labelSelector"] == "a=b"
    api.touch("b")
    api.touch("a")
    api.delete("b")
    await api.tell()
    await until(lambda: len(changes) == 3)
    assert changes.taken() == [("b", False), ("a", False), ("b", True)]
    pod = informer.get("demo", "a")
    assert pod is not None
    assert pod["metadata"]["resourceVersion"] == "103"
    assert list(informer.items()) == [pod]
    assert informer.get("demo", "b") is None


@pytest.mark.usefixtures("started")
async def test_reconnects_where_it_was_after_a_cut(api: Api, informer: Informer, changes: Changes, naps: Naps) -> None:
    api.touch("a")
    await following(api)
    api.bookmark()
    await api.tell()
    await until(lambda: informer._position == "102")
    await api.cut()
    await until(lambda: api.requests[-1][1].get("resourceVersion") == "102")
    await following(api)
    api.touch("b")
    await api.tell()
    await until(lambda: len(changes) == 2)
    assert [verb for verb, _ in api.requests] == ["list", "watch", "watch"]
    assert naps.asked == [], "a stream that brought something is followed by the next at once"


@pytest.mark.usefixtures("started")
async def test_what_happened_in_a_gap_is_found_by_the_next_list(api: Api, changes: Changes) -> None:
    for name in ("kept", "edited", "deleted", "replaced"):
        api.touch(name)
    await following(api)
    changes.taken()
    api.touch("edited")
    api.touch("created")
    api.delete("deleted")
    api.delete("replaced")
    api.touch("replaced", uid="another")
    api.compacted = api.version
    await api.cut()
    await until(lambda: len(changes) >= 4)
    await following(api)
    assert sorted(changes.taken()) == [("created", False), ("deleted", True), ("edited", False), ("replaced", False)]


async def test_compaction_again_and_again_is_slowed_down(api: Api, informer: Informer, naps: Naps) -> None:
    api.compacted = 10**9
    task = asyncio.create_task(informer.run())
    await until(lambda: len(naps.asked) >= 8)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert 0.8 <= naps.asked[0] <= 1.2
    assert naps.asked[7] >= 12


async def test_streams_that_end_at_once_do_not_spin(api: Api, informer: Informer, naps: Naps) -> None:
    async def cut_always() -> None:
        while True:
            await api.cut()
            await asyncio.sleep(0.001)

    tasks = [asyncio.create_task(informer.run()), asyncio.create_task(cut_always())]
    await until(lambda: len(naps.asked) >= 7)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert 0.4 <= naps.asked[0] <= 0.6
    assert naps.asked[6] >= 12


@pytest.mark.usefixtures("started")
async def test_outage_is_waited_out_with_growing_pauses(api: Api, informer: Informer, naps: Naps) -> None:
    await following(api)
    api.faults = [("watch", 503, {})] * 4 + [("watch", 429, {"Retry-After": "7"}), ("watch", 500, {})]
    await api.cut()
    await until(lambda: len(naps.asked) >= 6)
    await following(api)
    for asked, middle in zip(naps.asked[:5], (0.5, 1, 2, 4, 8), strict=True):
        assert middle * 0.8 <= asked <= middle * 1.2
    assert 7 <= naps.asked[5] <= 8.4
    assert informer.problem is None


@pytest.mark.usefixtures("started")
async def test_kind_that_is_not_served_is_empty_and_asked_for_again(
    api: Api, informer: Informer, changes: Changes, naps: Naps
) -> None:
    naps.free = False
    api.broken = {"list": 404}
    api.touch("a")
    await asyncio.wait_for(informer.synced.wait(), DEADLINE)
    await until(lambda: naps.asked)
    assert informer.problem is None
    assert 30 <= naps.asked[0] <= 36
    api.broken = {}
    naps.wake()
    await following(api)
    assert changes.taken() == [("a", False)]


@pytest.mark.usefixtures("started")
async def test_kind_that_goes_away_takes_its_objects_along(api: Api, informer: Informer, changes: Changes) -> None:
    api.touch("a")
    await following(api)
    api.broken = {"list": 404, "watch": 404}
    await api.cut()
    await until(lambda: changes == [("a", False), ("a", True)])
    assert list(informer.items()) == []


@pytest.mark.usefixtures("started")
async def test_missing_right_is_a_problem_until_it_is_granted(
    api: Api, informer: Informer, naps: Naps, caplog: pytest.LogCaptureFixture
) -> None:
    naps.free = False
    api.broken = {"list": 403}
    await until(lambda: naps.asked)
    assert informer.problem == "list pods demo: 403 Forbidden: broken"
    assert not informer.synced.is_set()
    naps.wake()
    await until(lambda: len(naps.asked) == 2)
    for asked, middle in zip(naps.asked, (1, 2), strict=True):
        assert middle * 0.8 <= asked <= middle * 1.2
    assert caplog.text.count("cannot watch pods") == 1
    api.broken = {}
    naps.wake()
    await following(api)
    assert informer.problem is None


@pytest.mark.parametrize("status", [pytest.param(404, id="not-served"), pytest.param(403, id="not-allowed")])
async def test_an_optional_kind_may_be_absent_and_come_and_go(
    status: int, api: Api, cluster: Cluster, changes: Changes, naps: Naps
) -> None:
    came_or_went: list[bool] = []
    informer = Informer(
        cluster,
        replace(POD, optional=True),
        namespace="demo",
        on_change=changes,
        on_availability=lambda: came_or_went.append(informer.absence is None),
        sleep=naps,
    )
    api.broken = {"list": status}
    naps.free = False
    task = asyncio.create_task(informer.run())
    try:
        await asyncio.wait_for(informer.synced.wait(), DEADLINE)
        assert (getattr(informer.absence, "status", None), came_or_went) == (status, [])
        api.broken = {}
        await until(lambda: naps.asked)
        naps.wake()
        await following(api)
        assert (informer.absence, came_or_went) == (None, [True])
        naps.free = True
        api.broken = {"list": status, "watch": status}
        await api.cut()
        await until(lambda: came_or_went == [True, False])
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_unexpected_errors_end_it(api: Api, cluster: Cluster) -> None:
    def bug(_: Manifest, _deleted: bool) -> None:
        raise KeyError("bug")

    informer = Informer(cluster, POD, namespace="demo", on_change=bug)
    task = asyncio.create_task(informer.run())
    await following(api)
    api.touch("a")
    await api.tell()
    with pytest.raises(KeyError, match="bug"):
        await asyncio.wait_for(task, DEADLINE)


@pytest.mark.usefixtures("started")
async def test_age_counts_from_the_last_sign_of_life(api: Api, informer: Informer, clock: Clock) -> None:
    await following(api)
    clock.now = 70
    assert informer.age(clock.now) == 70
    api.bookmark()
    await api.tell()
    await until(lambda: informer.age(clock.now) == 0)


def pod(name: str, version: int | str, uid: str = "u", **metadata: Any) -> Manifest:
    return {"metadata": {"name": name, "namespace": "demo", "uid": uid, "resourceVersion": str(version), **metadata}}


def owned(name: str, version: int, owner: str) -> Manifest:
    references = [{"uid": "bystander"}, {"uid": owner, "controller": True}]
    return pod(name, version, uid=f"uid-{name}", ownerReferences=references)


def versions(informer: Informer) -> list[str]:
    return [item["metadata"]["resourceVersion"] for item in informer.items()]


async def test_observe_never_goes_back(informer: Informer, changes: Changes) -> None:
    informer.observe(pod("a", 10))
    informer.observe(pod("a", 9))
    assert versions(informer) == ["10"]
    informer.observe(pod("a", 11))
    assert versions(informer) == ["11"]
    informer.observe(pod("a", 12, uid="another"))
    assert versions(informer) == ["12"]
    informer.observe(pod("a", "v-opaque", uid="another"))
    assert versions(informer) == ["v-opaque"]
    assert changes == []


async def test_index_follows_the_owner(informer: Informer) -> None:
    informer.observe(owned("a", 1, "one"))
    informer.observe(owned("b", 2, "one"))
    informer.observe(pod("c", 3, uid="c"))
    assert [item["metadata"]["name"] for item in informer.by_owner("one")] == ["a", "b"]
    informer.observe(owned("a", 4, "two"))
    assert [item["metadata"]["name"] for item in informer.by_owner("one")] == ["b"]
    assert [item["metadata"]["name"] for item in informer.by_owner("two")] == ["a"]
    assert list(informer.by_owner("bystander")) == []
    informer._remove(("demo", "b"))
    assert "one" not in informer._groups


async def test_other_index(cluster: Cluster, changes: Changes) -> None:
    informer = Informer(cluster, POD, on_change=changes, index=lambda found: found["metadata"]["name"][0])
    informer.observe(pod("abc", 1))
    assert len(list(informer.by_owner("a"))) == 1


@pytest.mark.usefixtures("started")
async def test_echo_of_our_own_write_is_not_news(api: Api, informer: Informer, changes: Changes) -> None:
    await following(api)
    informer.observe({**api.touch("a")})
    await api.tell()
    api.touch("b")
    await api.tell()
    await until(lambda: changes == [("b", False)])


@pytest.mark.usefixtures("started")
async def test_change_that_our_own_write_overtook_is_news_but_not_newer(
    api: Api, informer: Informer, changes: Changes
) -> None:
    await following(api)
    api.touch("a")
    api.touch("a")
    informer.observe(pod("a", 110, uid="uid-a"))
    await api.tell()
    await until(lambda: changes == [("a", False), ("a", False)])
    assert versions(informer) == ["110"]


@pytest.mark.usefixtures("started")
async def test_late_answer_does_not_bring_a_deleted_object_back(api: Api, informer: Informer, changes: Changes) -> None:
    await following(api)
    written = api.touch("a")
    api.delete("a")
    await api.tell()
    await until(lambda: ("a", True) in changes)
    informer.observe(written)
    assert list(informer.items()) == []


@pytest.mark.usefixtures("started")
async def test_deletion_of_the_one_before_leaves_the_new_one(api: Api, informer: Informer, changes: Changes) -> None:
    api.touch("a")
    await following(api)
    api.delete("a")
    informer.observe(pod("a", 110, uid="another"))
    await api.tell()
    await until(lambda: ("a", True) in changes)
    assert versions(informer) == ["110"]


async def test_list_older_than_our_write_takes_nothing_back(informer: Informer, changes: Changes) -> None:
    informer._take_list([pod("a", 5, uid="a")], "10")
    changes.taken()
    informer.observe(pod("a", 21, uid="a"))
    informer.observe(pod("b", 22, uid="b"))
    informer._take_list([pod("a", 15, uid="a")], "20")
    assert versions(informer) == ["21", "22"]
    assert changes == []


async def test_list_of_another_history_replaces_memory(informer: Informer, changes: Changes) -> None:
    informer._take_list([pod("a", 1000, uid="a"), pod("b", 1001, uid="b")], "1002")
    changes.taken()
    informer._take_list([pod("a", 5, uid="a")], "7")
    assert versions(informer) == ["5"]
    assert changes == [("a", False), ("b", True)]


def test_default_slim_drops_what_nobody_reads_and_changes_nothing_in_place() -> None:
    managers = [{"manager": "trtllm-operator", "n": 1}, {"manager": "kubectl"}, {"manager": "trtllm-operator", "n": 2}]
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "kept": "yes"}
    full = {**pod("a", 1, managedFields=managers, annotations=annotations), "spec": {"x": 1}}
    before = json.dumps(full)
    slim = default_slim(full)
    assert json.dumps(full) == before
    assert slim["metadata"]["managedFields"] == [managers[0], managers[2]]
    assert slim["metadata"]["annotations"] == {"kept": "yes"}
    assert slim["spec"] is full["spec"]
    assert default_slim(pod("a", 1)) == pod("a", 1)


def test_pauses_grow_to_a_quarter_of_a_minute() -> None:
    for failures, middle in ((1, 0.5), (2, 1), (5, 8), (6, 15), (10_000, 15)):
        pauses = [_pause(failures) for _ in range(200)]
        assert middle * 0.8 <= min(pauses) < max(pauses) <= middle * 1.2
