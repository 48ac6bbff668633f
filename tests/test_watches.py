"""Which LLMDeployments a change of the cluster concerns, and what is kept of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from builders import H100
from trtllm_operator.approval import APPROVAL_ANNOTATION
from trtllm_operator.cluster import Cluster, Manifest, WatchEvent
from trtllm_operator.errors import Forbidden, NotFound
from trtllm_operator.hardware import GPU_RESOURCE, PRODUCT_LABEL
from trtllm_operator.kinds import CONFIG_MAP, GATEWAY, HTTP_ROUTE, KINDS, NODE, POD
from trtllm_operator.naming import downloader_labels, selector_labels
from trtllm_operator.watches import Watches, slim_pod
from trtllm_operator.workqueue import Key

KEY = Key("team-a", "llama")


def _watches(**options: Any) -> tuple[Watches, list[tuple[Key, bool]]]:
    added: list[tuple[Key, bool]] = []

    def add(key: Key, *, urgent: bool = False) -> None:
        added.append((key, urgent))

    return Watches(cast("Cluster", None), add, **options), added


def _stored(version: int = 1, *, generation: int = 1, reason: str | None = None, **annotations: str) -> Manifest:
    conditions = [{"type": "Ready", "status": "False", "reason": reason}] if reason else []
    return {
        "metadata": {
            "namespace": KEY.namespace,
            "name": KEY.name,
            "uid": "u1",
            "generation": generation,
            "resourceVersion": str(version),
            "annotations": annotations,
        },
        "status": {"conditions": conditions},
    }


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        pytest.param(_stored(2), [], id="nothing-new"),
        pytest.param(_stored(2, generation=2), [(KEY, True)], id="edited"),
        pytest.param(_stored(2, **{APPROVAL_ANNOTATION: "abc"}), [(KEY, True)], id="approved"),
        pytest.param(_stored(2, note="x"), [], id="annotated-by-others"),
        pytest.param(_stored(2, reason="Forged"), [(KEY, False)], id="status-of-others"),
    ],
)
def test_what_is_worth_a_pass(manifest: Manifest, expected: list[tuple[Key, bool]]) -> None:
    watches, added = _watches()
    watches.seen("ADDED", _stored(1))
    added.clear()
    watches.seen("MODIFIED", manifest)
    assert added == expected


@pytest.mark.parametrize(
    ("events", "there"),
    [
        pytest.param(["MODIFIED", "MODIFIED"], False, id="from-before-its-deletion"),
        pytest.param(["MODIFIED", "DELETED"], False, id="until-the-deletion-is-told"),
        pytest.param([None], True, id="in-a-list"),
    ],
)
def test_an_object_that_was_found_deleted_is_not_brought_back_by_a_late_event(
    events: list[str | None], there: bool
) -> None:
    watches, added = _watches()
    watches.seen("ADDED", _stored(1))
    watches.forget(KEY, "u1")
    added.clear()
    for version, change in enumerate(events, 2):
        watches.seen(change, _stored(version, generation=version))
    assert bool(added) == (watches.deployment(KEY) is not None) == there


def test_another_object_of_a_name_that_was_found_deleted_is_served() -> None:
    watches, added = _watches()
    watches.seen("ADDED", _stored(1))
    watches.forget(KEY, "u1")
    added.clear()
    anew = _stored(2)
    watches.seen("ADDED", {**anew, "metadata": {**anew["metadata"], "uid": "u2"}})
    assert added == [(KEY, True)]


def test_who_holds_which_field_of_an_object_is_not_kept() -> None:
    watches, _ = _watches()
    fields = {"managedFields": [{"manager": "kubectl"}]}
    for take in (lambda manifest: watches.seen("ADDED", manifest), watches.remember):
        stored = _stored()
        take({**stored, "metadata": {**stored["metadata"], **fields}})
        assert watches.deployment(KEY) == stored


def test_objects_are_counted_by_the_reason_of_ready() -> None:
    watches, _ = _watches()
    watches.seen("ADDED", _stored(reason="Unschedulable"))
    pending = _stored()
    watches.seen("ADDED", {**pending, "metadata": {**pending["metadata"], "name": "other"}})
    assert watches.reasons() == {"Unschedulable": 1, "Pending": 1}
    assert set(watches.known()) == {KEY, Key("team-a", "other")}


@pytest.mark.parametrize(
    ("options", "watched"),
    [
        pytest.param({}, [(kind.plural, None) for kind in (*KINDS, POD, GATEWAY, NODE)], id="all-namespaces"),
        pytest.param(
            {"namespaces": ("a", "b"), "read_nodes": False},
            [(kind.plural, namespace) for kind in (*KINDS, POD, GATEWAY) for namespace in ("a", "b")],
            id="two-namespaces-without-nodes",
        ),
    ],
)
def test_what_is_watched(options: dict[str, Any], watched: list[tuple[str, str | None]]) -> None:
    watches, _ = _watches(**options)
    assert [(informer.kind.plural, informer._namespace) for informer in watches.informers] == watched


def test_a_child_is_found_in_its_namespace() -> None:
    watches, _ = _watches(namespaces=("a", "b"))
    for namespace in ("a", "b"):
        metadata = {
            "namespace": namespace,
            "name": "x",
            "uid": f"uid-{namespace}",
            "resourceVersion": "1",
            "ownerReferences": [{"controller": True, "uid": f"owner-{namespace}", "kind": "LLMDeployment"}],
        }
        watches.observe(CONFIG_MAP, {"metadata": metadata})
    assert [informer.count for informer in watches.informers if informer.kind == CONFIG_MAP] == [1, 1]
    found = watches.child(CONFIG_MAP, "b", "x")
    assert found is not None
    assert found["metadata"]["uid"] == "uid-b"
    assert [child["metadata"]["uid"] for child in watches.children(CONFIG_MAP, "owner-a")] == ["uid-a"]


class Forbidding:
    """An API server that lets everything be listed but nodes."""

    async def list(self, kind: Any, _: Any, *, labels: str) -> tuple[list[Manifest], str]:
        del labels
        if kind == NODE:
            raise Forbidden("nodes is forbidden", status=403)
        return [], "1"

    def watch(self, *_: Any, **__: Any) -> Iterator[None]:
        raise Forbidden("no more", status=403)


async def test_nodes_that_may_not_be_read_are_done_without() -> None:
    watches = Watches(cast("Cluster", Forbidding()), lambda *_, **__: None)
    assert watches.readable_nodes() is None
    for informer in watches.informers:
        try:
            await informer._relist()
        except Forbidden as error:
            for _ in range(3):
                informer._note(error)
    await watches.wait_until_synced()
    assert watches.unsynced() == []
    assert watches.readable_nodes() is None
    assert watches.gpu_offers() == ()


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


def _node(name: str, version: str, product: str = H100, gpus: str = "8") -> dict[str, Any]:
    metadata = {"name": name, "uid": name, "resourceVersion": version, "labels": {PRODUCT_LABEL: product}}
    return {"metadata": metadata, "status": {"capacity": {GPU_RESOURCE: gpus}}}


def test_what_nodes_offer_is_counted_anew_when_a_node_changes(watches: Watches) -> None:
    nodes = next(informer for informer in watches.informers if informer.kind == NODE)
    nodes._take_list([_node("one", "1"), _node("empty", "1", gpus="0")], "1")
    first = watches.gpu_offers()
    assert [offer.product for offer in first] == [H100]
    assert watches.gpu_offers() is first
    nodes._take_event(WatchEvent("ADDED", _node("two", "2", "NVIDIA-L40S")))
    assert [offer.product for offer in watches.gpu_offers()] == [H100, "NVIDIA-L40S"]
    nodes._take_event(WatchEvent("DELETED", _node("one", "3")))
    assert [offer.product for offer in watches.gpu_offers()] == ["NVIDIA-L40S"]


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


def test_pods_that_download_concern_their_deployment_and_are_not_counted_among_those_that_serve(
    watches: Watches, queue: Queue
) -> None:
    (pods,) = (informer for informer in watches.informers if informer.kind == POD)
    served = {"namespace": "team-a", "name": "s", "uid": "1", "resourceVersion": "1", "labels": selector_labels("here")}
    fetched = {**served, "name": "f", "uid": "2", "labels": downloader_labels("here")}
    pods._take_list([{"metadata": served}, {"metadata": fetched}], "1")
    assert queue == ["here", "here"]
    key = Key("team-a", "here")
    assert [pod["metadata"]["name"] for pod in watches.pods(key)] == ["s"]
    assert [pod["metadata"]["name"] for pod in watches.download_pods(key)] == ["f"]


@pytest.mark.parametrize(
    ("spec", "kept"),
    [
        pytest.param({"containers": [{"name": "a", "image": "x"}], "volumes": [{"emptyDir": {}}]}, None, id="nothing"),
        pytest.param(
            {"containers": [{"name": "a", "image": "x", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]},
            {"containers": [{"name": "a", "resources": {"limits": {"memory": "1Gi"}}}]},
            id="memory-limit",
        ),
        pytest.param(
            {"volumes": [{"name": "m", "persistentVolumeClaim": {"claimName": "w"}}, {"name": "x", "emptyDir": {}}]},
            {"volumes": [{"name": "m", "persistentVolumeClaim": {"claimName": "w"}}]},
            id="claim",
        ),
    ],
)
def test_of_a_pod_s_spec_only_what_explains_failures_is_kept(spec: Manifest, kept: Manifest | None) -> None:
    assert slim_pod({"metadata": {"name": "llama-1"}, "spec": spec}).get("spec") == kept
