"""Which LLMDeployments a change of the cluster concerns."""

from __future__ import annotations

from typing import Any, cast

import pytest

from trtllm_operator.cluster import Cluster
from trtllm_operator.errors import NotFound
from trtllm_operator.kinds import GATEWAY, HTTP_ROUTE, KINDS
from trtllm_operator.watches import Watches
from trtllm_operator.workqueue import Key


class Queue(list[str]):
    def __call__(self, key: Key, *, urgent: bool = False) -> None:  # noqa: ARG002 - the queue's signature
        self.append(key.name)


def _deployment(name: str, **expose: Any) -> dict[str, Any]:
    metadata = {"namespace": "team-a", "name": name, "uid": name, "generation": 1, "resourceVersion": "1"}
    return {"metadata": metadata, "spec": {"model": {}, "expose": expose}}


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def watches(queue: Queue) -> Watches:
    made = Watches(cast("Cluster", None), queue)
    made.seen("ADDED", _deployment("inside"))
    made.seen("ADDED", _deployment("here", gateway={"name": "g"}))
    made.seen("ADDED", _deployment("there", gateway={"name": "g", "namespace": "gateways"}))
    queue.clear()
    return made


@pytest.mark.parametrize(
    ("namespace", "told"),
    [
        pytest.param("gateways", ["there"], id="of-another-namespace"),
        pytest.param("team-a", ["here"], id="of-the-same"),
        pytest.param("team-b", [], id="nobody-s"),
    ],
)
def test_a_gateway_concerns_who_attaches_to_it(watches: Watches, queue: Queue, namespace: str, told: list[str]) -> None:
    (gateways,) = (informer for informer in watches.informers if informer.kind == GATEWAY)
    manifest = {"metadata": {"namespace": namespace, "name": "g", "uid": "1", "resourceVersion": "1"}}
    gateways._take_list([manifest], "1")
    assert queue == told
    assert watches.gateway(namespace, "g") == manifest


def test_an_api_that_comes_concerns_everybody(watches: Watches, queue: Queue) -> None:
    (routes,) = (informer for informer in watches.informers if informer.kind == HTTP_ROUTE)
    routes._note(NotFound("404", status=404))
    assert (isinstance(watches.absence(HTTP_ROUTE), NotFound), queue) == (True, []), "the first answer is no news"
    routes._become(None)
    assert (watches.absence(HTTP_ROUTE), sorted(queue)) == (None, ["here", "inside", "there"])


def test_every_kind_is_watched(watches: Watches) -> None:
    assert set(KINDS) <= {informer.kind for informer in watches.informers}
