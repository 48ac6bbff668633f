"""Ownership: read from the object, proven at creation, handed over when an autoscaler comes."""

from __future__ import annotations

from typing import Any, cast

import pytest

from builders import a_plan, a_spec
from fakes import FakeCluster, FakeMemory, Manifest, as_stored
from trtllm_operator.apply import apply, compact_fields, hold_replicas, is_current, owns, prune
from trtllm_operator.cluster import Applied, Cluster
from trtllm_operator.errors import Conflict, Leftover, NameConflict, Rejected
from trtllm_operator.kinds import AUTOSCALER, DEPLOYMENT, SERVICE
from trtllm_operator.render import Owner, render
from trtllm_operator.settings import Settings

OWNER = Owner(name="llama", namespace="team-a", uid="u1")
APPLY = "apply trtllm-operator"


def _manifests(**spec: Any) -> tuple[Manifest, ...]:
    wanted = a_spec(**spec)
    return render(OWNER, wanted, a_plan(wanted), Settings())


async def _apply(
    cluster: FakeCluster, memory: FakeMemory, manifests: tuple[Manifest, ...], *, first_pass: bool = False
) -> None:
    cast_cluster = cast("Cluster", cluster)
    await apply(cast_cluster, OWNER, manifests, memory.child, memory.observe, first_pass=first_pass)


@pytest.mark.parametrize(
    ("desired", "fields", "owned"),
    [
        ({"a": 1}, {"f:a": {}}, True),
        ({"a": 1, "b": 2}, {"f:a": {}}, False),
        ({"a": {"b": 1}}, {"f:a": {"f:b": {}}}, True),
        ({"a": {"b": 1}}, {"f:a": {"f:c": {}}}, False),
        ({"a": {"b": 1}}, {"f:a": {}}, True),
        ({"a": [1, 2]}, {"f:a": {}}, True),
        ({"a": [{"name": "x", "v": 1}]}, {"f:a": {'k:{"name":"x"}': {".": {}, "f:name": {}, "f:v": {}}}}, True),
        ({"a": [{"name": "x", "v": 1}]}, {"f:a": {'k:{"name":"x"}': {".": {}, "f:name": {}}}}, False),
        ({"a": [{"name": "x"}]}, {"f:a": {'k:{"name":"y"}': {".": {}, "f:name": {}}}}, False),
        ({"a": [{"port": 1}]}, {"f:a": {'k:{"port":1,"protocol":"TCP"}': {".": {}, "f:port": {}}}}, True),
    ],
)
def test_owns(desired: Any, fields: Any, owned: bool) -> None:
    assert owns(desired, fields) == owned


def test_an_object_of_which_we_hold_nothing_is_not_current() -> None:
    (manifest, *_) = _manifests()
    for managed in ([], [{"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:data": {}}}]):
        live = {**manifest, "metadata": {**manifest["metadata"], "managedFields": managed}}
        assert not is_current(manifest, live)


def test_compact_fields_say_the_same() -> None:
    for manifest in _manifests():
        compact = compact_fields(as_stored(manifest))
        assert is_current(manifest, compact)
        foreign = {**compact["metadata"]["managedFields"][0], "fieldsV1": '{"f:data":{}}'}
        assert not is_current(manifest, {**compact, "metadata": {**compact["metadata"], "managedFields": [foreign]}})


async def test_what_is_current_costs_no_request() -> None:
    cluster, memory = FakeCluster(), FakeMemory()
    for manifest in _manifests():
        memory.objects[(manifest["kind"], manifest["metadata"]["name"])] = as_stored(manifest)
    await _apply(cluster, memory, _manifests())
    assert cluster.requests == []


async def test_a_changed_child_is_applied_by_force_and_by_its_uid() -> None:
    cluster, memory = FakeCluster(), FakeMemory()
    for manifest in _manifests():
        memory.objects[(manifest["kind"], manifest["metadata"]["name"])] = as_stored(manifest)
    await _apply(cluster, memory, _manifests(gpus={"count": 8}))
    forced = [(kind, manifest["metadata"]["uid"]) for verb, kind, manifest in cluster.requests if "force" in verb]
    assert forced == [("Deployment", "c1")]
    assert (APPLY, "ConfigMap") in cluster.said(), "another configuration is another object"


async def test_a_stranger_in_memory_is_a_conflict() -> None:
    cluster, memory = FakeCluster(), FakeMemory()
    memory.objects[("Service", "llama")] = {"kind": "Service", "metadata": {"name": "llama", "namespace": "team-a"}}
    with pytest.raises(NameConflict, match="Service team-a/llama"):
        await _apply(cluster, memory, _manifests())
    assert "Service" not in {kind for verb, kind in cluster.said() if verb.startswith("apply")}


async def test_a_stranger_that_is_not_in_memory_answers_409() -> None:
    cluster, memory = FakeCluster(), FakeMemory()
    cluster.answers[(APPLY, "Service")] = Conflict("field manager conflict", status=409, reason="Conflict")
    with pytest.raises(NameConflict):
        await _apply(cluster, memory, _manifests(), first_pass=True)


async def test_a_stranger_that_let_us_in_is_left_again() -> None:
    cluster, memory = FakeCluster(), FakeMemory()

    def merged(manifest: Manifest) -> Applied:
        strange = {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:ports": {}}}}
        metadata = {**manifest["metadata"], "uid": "s1", "managedFields": [strange]}
        return Applied({**manifest, "metadata": metadata}, created=False)

    cluster.answers[(APPLY, "Service")] = merged
    with pytest.raises(NameConflict):
        await _apply(cluster, memory, _manifests(), first_pass=True)
    last = [manifest for verb, kind, manifest in cluster.requests if (verb, kind) == (APPLY, "Service")][-1]
    assert last == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "llama", "namespace": "team-a", "uid": "s1"},
    }


async def test_a_lost_answer_to_our_own_create_is_no_conflict() -> None:
    cluster, memory = FakeCluster(), FakeMemory()
    ours = {"manager": "trtllm-operator", "operation": "Apply", "fieldsV1": {"f:spec": {}}}
    status = {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status", "fieldsV1": {}}

    def existed(manifest: Manifest) -> Applied:
        metadata = {**manifest["metadata"], "uid": "c1", "managedFields": [ours, status]}
        return Applied({**manifest, "metadata": metadata}, created=False)

    cluster.answers[(APPLY, "Deployment")] = existed
    await _apply(cluster, memory, _manifests(), first_pass=True)
    assert memory.objects[("Deployment", "llama")]["metadata"]["uid"] == "c1"


async def test_a_child_of_a_deleted_predecessor_is_waited_for() -> None:
    cluster, memory = FakeCluster(), FakeMemory()
    predecessor = render(Owner(name="llama", namespace="team-a", uid="u0"), a_spec(), a_plan(), Settings())
    for manifest in predecessor:
        memory.objects[(manifest["kind"], manifest["metadata"]["name"])] = as_stored(manifest)
    with pytest.raises(Leftover):
        await _apply(cluster, memory, _manifests())
    assert cluster.requests == []


async def test_replicas_are_handed_over_before_they_are_left_to_an_autoscaler() -> None:
    cluster, memory = FakeCluster(), FakeMemory()
    for manifest in _manifests(replicas=3):
        memory.objects[(manifest["kind"], manifest["metadata"]["name"])] = as_stored(manifest)
    await _apply(cluster, memory, _manifests(scaling={"maxReplicas": 5}))
    deployments = [
        (verb, manifest["spec"].get("replicas")) for verb, kind, manifest in cluster.requests if kind == "Deployment"
    ]
    assert deployments == [("apply trtllm-operator-replicas force", 3), (f"{APPLY} force", None)]


@pytest.mark.parametrize(
    ("replicas", "told"),
    [
        pytest.param(1, [("apply trtllm-operator-replicas force", 3)], id="too-few"),
        pytest.param(3, [], id="enough"),
        pytest.param(5, [], id="more-stay"),
    ],
)
async def test_replicas_that_nobody_scales_are_held(replicas: int, told: list[tuple[str, int]]) -> None:
    cluster, memory = FakeCluster(), FakeMemory()
    (deployment,) = (m for m in _manifests(scaling={"maxReplicas": 5}) if m["kind"] == "Deployment")
    live = as_stored({**deployment, "spec": {**deployment["spec"], "replicas": replicas}})
    await hold_replicas(cast("Cluster", cluster), {DEPLOYMENT: [live]}, 3, memory.observe)
    assert [(verb, manifest["spec"]["replicas"]) for verb, _, manifest in cluster.requests] == told


async def test_what_others_added_is_replaced_where_the_child_would_be_invalid() -> None:
    cluster, memory = FakeCluster(), FakeMemory()
    memory.objects[("Service", "llama")] = {**as_stored(_manifests()[1]), "spec": {}}
    memory.objects[("Service", "llama")]["metadata"]["managedFields"] = []
    answers = iter([Rejected("Duplicate value: http", status=422), None])

    def refuse_once(_: Manifest) -> None:
        if (error := next(answers)) is not None:
            raise error

    cluster.answers[(f"{APPLY} force", "Service")] = refuse_once
    await _apply(cluster, memory, (_manifests()[1],))
    assert cluster.said() == [
        (f"{APPLY} force", "Service"),
        ("merge trtllm-operator-repair", "Service"),
        (f"{APPLY} force", "Service"),
    ]


async def test_prune_deletes_what_is_ours_and_no_longer_wanted() -> None:
    cluster = FakeCluster()
    wanted = _manifests()
    scaler = next(m for m in _manifests(scaling={"maxReplicas": 2}) if m["kind"] == AUTOSCALER.kind)
    owned = {SERVICE: [as_stored(wanted[1])], AUTOSCALER: [as_stored(scaler, uid="h1")]}
    await prune(cast("Cluster", cluster), OWNER, wanted, owned)
    assert [(kind, manifest["metadata"]["uid"]) for _, kind, manifest in cluster.requests] == [(AUTOSCALER.kind, "h1")]
