from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from clocks import ManualClock
from trtllm_operator.cluster import Cluster, Manifest, Manifests
from trtllm_operator.errors import Forbidden
from trtllm_operator.hardware import GPU_RESOURCE
from trtllm_operator.kinds import Kind
from trtllm_operator.survey import Survey, gpu_requests


def _containers(*gpus: int) -> list[Manifest]:
    return [{"resources": {"limits": {GPU_RESOURCE: str(count), "cpu": "1"}} if count else {}} for count in gpus]


def _pod(node: str, *gpus: int) -> Manifest:
    return {"spec": {"nodeName": node, "containers": _containers(*gpus)}}


def _node(name: str, **spec: Any) -> Manifest:
    return {"metadata": {"name": name, "labels": {}}, "spec": spec, "status": {"allocatable": {GPU_RESOURCE: "8"}}}


class Api:
    """Two pages of pods and the rules of each namespace; counts what it is asked."""

    def __init__(self, *pages: Manifests) -> None:
        self._pages = pages
        self.asked: list[str] = []
        self.forbidden = False

    async def pages(self, kind: Kind, *, fields: str, limit: int) -> AsyncIterator[Manifests]:
        assert limit > 0
        assert "spec.nodeName!=" in fields
        self.asked.append(kind.plural)
        if self.forbidden:
            raise Forbidden("pods is forbidden", status=403)
        for page in self._pages:
            yield page

    async def list(self, kind: Kind, namespace: str) -> tuple[Manifests, str]:
        self.asked.append(f"{kind.plural}/{namespace}")
        metadata = {"name": "rules"}
        if kind.plural == "limitranges":
            return [{"metadata": metadata, "spec": {"limits": [{"max": {GPU_RESOURCE: "2", "cpu": "4"}}]}}], ""
        key = f"requests.{GPU_RESOURCE}"
        return [{"metadata": metadata, "status": {"hard": {key: "8", "pods": "3"}, "used": {key: "6"}}}], ""


def _survey(api: Api, clock: ManualClock, nodes: Manifests | None) -> Survey:
    return Survey(cast("Cluster", api), lambda: nodes, clock=clock.time)


async def test_what_pods_request_is_taken_off_their_nodes() -> None:
    api = Api([_pod("a", 2), _pod("b", 0)], [_pod("a", 1, 1)])
    supply = await _survey(api, ManualClock(), [_node("a"), _node("b")]).supply("x", age=10)
    assert supply.nodes is not None
    assert {room.name: room.free(GPU_RESOURCE) for room in supply.nodes} == {"a": 4, "b": 8}
    (quota,) = supply.quotas
    assert (quota.name, quota.resource, quota.hard, quota.used) == ("rules", GPU_RESOURCE, 8, 6)
    assert supply.limits == (("rules", GPU_RESOURCE, 2),)


async def test_those_who_ask_within_seconds_share_one_reading() -> None:
    api, clock = Api([]), ManualClock()
    survey = _survey(api, clock, [])
    for _ in range(5):
        await survey.supply("x", age=10)
    assert sorted(api.asked) == ["limitranges/x", "pods", "resourcequotas/x"]
    await survey.supply("y", age=10)
    assert api.asked.count("pods") == 1
    clock.advance(5)
    await survey.supply("x", age=10)
    assert api.asked.count("pods") == 1
    await survey.supply("x", age=1)
    assert api.asked.count("pods") == 2


@pytest.mark.parametrize("nodes", [None, []], ids=["nodes-unreadable", "pods-unreadable"])
async def test_without_the_right_to_read_the_rules_still_count(nodes: Manifests | None) -> None:
    api = Api([])
    api.forbidden = True
    supply = await _survey(api, ManualClock(), nodes).supply("x", age=10)
    assert supply.nodes is None
    assert supply.quotas


@pytest.mark.parametrize(
    ("init", "main", "wanted"),
    [
        pytest.param((), (2, 1), 3, id="containers-add-up"),
        pytest.param((4, 1), (2,), 4, id="init-containers-run-one-by-one"),
        pytest.param((), (0,), 0, id="none"),
    ],
)
def test_the_requests_of_a_pod(init: tuple[int, ...], main: tuple[int, ...], wanted: int) -> None:
    pod = {"initContainers": _containers(*init), "containers": _containers(*main)}
    assert gpu_requests(pod).get(GPU_RESOURCE, 0) == wanted
