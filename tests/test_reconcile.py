"""One pass, with a cluster that answers as told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from builders import LLAMA_70B
from fakes import FakeCluster, FakeMemory, Manifest
from trtllm_operator.cluster import Cluster
from trtllm_operator.errors import ClusterError, Conflict, Forbidden, NotFound, OperatorError, Rejected, Unavailable
from trtllm_operator.kinds import HTTP_ROUTE, SCALED_OBJECT, Kind
from trtllm_operator.reconcile import CHANGED_MEANWHILE, Reconciler
from trtllm_operator.settings import Settings
from trtllm_operator.workqueue import Key

KEY = Key("team-a", "llama")
APPLY = "apply trtllm-operator"
STATUS = ("status trtllm-operator", "LLMDeployment")


def _stored(status: Any = None, **spec: Any) -> Manifest:
    return {
        "metadata": {"namespace": "team-a", "name": "llama", "uid": "u1", "generation": 1, "resourceVersion": "7"},
        "spec": {"model": {"uri": LLAMA_70B}, **spec},
        "status": status or {"observedGeneration": -1},
    }


def _reconciler(cluster: FakeCluster, memory: FakeMemory) -> Reconciler:
    return Reconciler(
        cluster=cast("Cluster", cluster),
        memory=memory,
        settings=Settings(),
        now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
    )


async def _settle(cluster: FakeCluster, memory: FakeMemory) -> None:
    """Run passes until none asks for another one at once."""
    while await _reconciler(cluster, memory)(KEY) == 0.0:
        pass


def _reason(memory: FakeMemory, kind: str = "Ready") -> str:
    conditions = memory.deployments[KEY]["status"]["conditions"]
    return str(next(condition["reason"] for condition in conditions if condition["type"] == kind))


def _refused() -> Manifest:
    return {**_stored(), "spec": {"model": {"uri": "hf://acme/secret"}}}


async def test_the_first_pass_writes_each_child_and_the_next_one_the_status_and_neither_reads() -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored())
    assert await _reconciler(cluster, memory)(KEY) == 0.0
    assert await _reconciler(cluster, memory)(KEY) is None
    assert cluster.said() == [
        (APPLY, "ConfigMap"),
        (APPLY, "Service"),
        (APPLY, "Deployment"),
        STATUS,
    ]
    assert _reason(memory, "Planned") == "PlanSelected"


@pytest.mark.parametrize("stored", [None, {"deletionTimestamp": "2026-01-01T00:00:00Z"}])
async def test_nothing_is_done_for_what_is_gone_or_going(stored: Any) -> None:
    cluster, memory = FakeCluster(), FakeMemory()
    if stored is not None:
        going = _stored()
        going["metadata"].update(stored)
        memory = FakeMemory(going)
    assert await _reconciler(cluster, memory)(KEY) is None
    assert cluster.requests == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Forbidden("no", status=403), "Forbidden"),
        (Rejected("no", status=422), "ChildRejected"),
        (Unavailable("no", status=503), "APIUnavailable"),
    ],
)
async def test_an_error_of_a_child_becomes_a_condition_and_comes_back(error: OperatorError, reason: str) -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored())
    cluster.answers[(APPLY, "Service")] = error
    with pytest.raises(type(error)):
        await _settle(cluster, memory)
    assert _reason(memory) == reason
    assert (APPLY, "Deployment") in cluster.said(), "the other children are tried all the same"


async def test_a_namespace_that_went_away_is_dropped_in_silence() -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored())
    cluster.answers[(APPLY, "Service")] = NotFound("no such namespace", status=404)
    assert await _reconciler(cluster, memory)(KEY) is None
    assert STATUS not in cluster.said()


@pytest.mark.parametrize("error", [Forbidden("no", status=403), Unavailable("no", status=0)])
async def test_an_error_of_the_status_leaves_the_pass(error: OperatorError) -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored())
    cluster.answers[STATUS] = error
    with pytest.raises(type(error)):
        await _settle(cluster, memory)


@pytest.mark.parametrize(
    ("error", "revisit"),
    [
        pytest.param(NotFound("gone", status=404), None, id="deleted"),
        pytest.param(Conflict("another version", status=409), CHANGED_MEANWHILE, id="changed meanwhile"),
    ],
)
async def test_a_status_of_an_object_that_is_gone_is_no_error(error: OperatorError, revisit: float | None) -> None:
    cluster, memory = FakeCluster(), FakeMemory(_refused())
    cluster.answers[STATUS] = error
    assert await _reconciler(cluster, memory)(KEY) == revisit
    assert ("create", "Event") not in cluster.said()


async def test_a_lost_event_is_no_error() -> None:
    cluster, memory = FakeCluster(), FakeMemory(_refused())
    cluster.answers[("create", "Event")] = Unavailable("no", status=503)
    assert await _reconciler(cluster, memory)(KEY) is None
    assert ("create", "Event") in cluster.said()


async def test_an_object_whose_deletion_the_watch_missed_is_forgotten() -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored({"observedGeneration": 1}))
    assert await _reconciler(cluster, memory)(KEY) is None
    assert cluster.said() == [("get", "LLMDeployment")]
    assert memory.deployments == {}


async def test_a_lost_child_is_made_again_for_an_object_that_still_exists() -> None:
    stored = _stored({"observedGeneration": 1})
    cluster, memory = FakeCluster(), FakeMemory(stored)
    cluster.stored[("LLMDeployment", "llama")] = stored
    await _reconciler(cluster, memory)(KEY)
    children = [("get", kind) for kind in ("ConfigMap", "Service", "Deployment")]
    assert [said for said in cluster.said() if said[0] == "get"] == [("get", "LLMDeployment"), *children]
    assert (APPLY, "Deployment") in cluster.said()


async def test_an_object_that_does_not_parse_is_told_and_not_tried_again() -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored(gpus={"count": "many"}))
    assert await _reconciler(cluster, memory)(KEY) is None
    assert _reason(memory) == "InvalidObject"
    message = memory.deployments[KEY]["status"]["conditions"][0]["message"]
    assert message.startswith("spec.gpus.count: ")


async def test_a_refused_spec_changes_nothing_that_runs() -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored(gpus={"count": 1}))
    await _reconciler(cluster, memory)(KEY)
    assert [verb for verb, _ in cluster.said()] == [STATUS[0], "create"]
    assert _reason(memory) == "InsufficientMemory"


KEDA = {"minReplicas": 2, "maxReplicas": 4, "keda": {"prometheusAddress": "http://prometheus:9090"}}


async def test_an_object_whose_api_is_missing_is_not_applied_and_the_rest_is() -> None:
    cluster = FakeCluster()
    memory = FakeMemory(_stored(expose={"gateway": {"name": "g"}}, monitoring={"podMonitor": True}))
    memory.absent = {HTTP_ROUTE: NotFound("404", status=404)}
    await _settle(cluster, memory)
    applied = [kind for verb, kind in cluster.said() if verb == APPLY]
    assert applied == ["ConfigMap", "Service", "Deployment", "PodMonitor"]
    assert _reason(memory, "ExposureReady") == "APIMissing"
    assert ("create", "Event") in cluster.said()


@pytest.mark.parametrize(
    ("absent", "held"),
    [
        pytest.param({SCALED_OBJECT: NotFound("404", status=404)}, 1, id="keda-missing"),
        pytest.param({}, 0, id="keda-there"),
    ],
)
async def test_replicas_are_held_while_their_autoscaler_has_no_api(absent: dict[Kind, ClusterError], held: int) -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored(scaling=KEDA))
    memory.absent = absent
    await _reconciler(cluster, memory)(KEY)
    assert cluster.said().count(("apply trtllm-operator-replicas force", "Deployment")) == held


async def test_the_old_autoscaler_is_gone_before_the_new_one_comes() -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored(scaling={"maxReplicas": 4}))
    reconciler = _reconciler(cluster, memory)
    await reconciler(KEY)
    memory.deployments[KEY]["spec"] = {**memory.deployments[KEY]["spec"], "scaling": KEDA}
    cluster.stored[("LLMDeployment", "llama")] = memory.deployments[KEY]
    cluster.requests.clear()
    await reconciler(KEY)
    said = cluster.said()
    assert said.index(("delete", "HorizontalPodAutoscaler")) < said.index((APPLY, "ScaledObject"))


async def test_the_address_is_that_of_the_gateway() -> None:
    stored = _stored(expose={"gateway": {"name": "g", "namespace": "gateways", "hostnames": ["a.example.com"]}})
    cluster, memory = FakeCluster(), FakeMemory(stored)
    memory.gateways[("gateways", "g")] = {"spec": {"listeners": [{"name": "w", "protocol": "HTTPS", "port": 443}]}}
    await _settle(cluster, memory)
    assert memory.deployments[KEY]["status"]["url"] == "https://a.example.com/v1"


async def test_a_status_names_the_version_it_was_computed_from() -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored())
    await _settle(cluster, memory)
    (told,) = [manifest for verb, _, manifest in cluster.requests if verb == STATUS[0]]
    assert told["metadata"]["resourceVersion"] == "7"
