"""One pass, with a cluster that answers as told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from builders import LLAMA_70B
from fakes import FakeCluster, FakeMemory, FakeSurvey, Manifest, scaled_by
from trtllm_operator.approval import APPROVAL_ANNOTATION
from trtllm_operator.cluster import Cluster
from trtllm_operator.errors import ClusterError, Conflict, Forbidden, NotFound, OperatorError, Rejected, Unavailable
from trtllm_operator.forecast import DECISION_AGE, FORECAST_AGE
from trtllm_operator.kinds import DEPLOYMENT, HTTP_ROUTE, SCALED_OBJECT, Kind
from trtllm_operator.naming import DOWNLOAD_ANNOTATION
from trtllm_operator.pod_events import EVENTS_POLL, STUCK_AFTER
from trtllm_operator.reconcile import CAPACITY_POLL, CHANGED_MEANWHILE, STRANGER_POLL, Reconciler
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


def _reconciler(cluster: FakeCluster, memory: FakeMemory, survey: FakeSurvey | None = None) -> Reconciler:
    return Reconciler(
        cluster=cast("Cluster", cluster),
        memory=memory,
        settings=Settings(),
        now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        survey=survey,
    )


async def _settle(cluster: FakeCluster, memory: FakeMemory, survey: FakeSurvey | None = None) -> float | None:
    """Run passes until none asks for another one at once, and return what the last one asked for."""
    reconciler = _reconciler(cluster, memory, survey)
    while (pause := await reconciler(KEY)) == 0.0:
        pass
    return pause


def _annotated(stored: Manifest, **annotations: str) -> Manifest:
    return {**stored, "metadata": {**stored["metadata"], "annotations": annotations}}


async def _served(**spec: Any) -> FakeMemory:
    """Return a memory in which the first passes have run and their answers have arrived."""
    memory = FakeMemory(_stored(**spec))
    await _settle(FakeCluster(), memory)
    return memory


def _edit(memory: FakeMemory, **spec: Any) -> None:
    memory.deployments[KEY] = {**memory.deployments[KEY], "spec": {"model": {"uri": LLAMA_70B}, **spec}}


def _pending(memory: FakeMemory) -> Manifest | None:
    found: Manifest | None = memory.deployments[KEY]["status"].get("pendingPlan")
    return found


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


def _rolled_out(memory: FakeMemory, *, done: bool) -> None:
    """Report the rollout of the Deployment as the deployment controller does, ended or with an old pod left."""
    workload = memory.objects[("Deployment", "llama")]
    workload["metadata"]["generation"] = 2
    workload["status"] = {"observedGeneration": 2, "replicas": 1 if done else 2, "updatedReplicas": 1}


@pytest.mark.parametrize(
    ("done", "deleted"),
    [
        pytest.param(False, [], id="an old pod may start once more"),
        pytest.param(True, ["ConfigMap"], id="every pod is new"),
    ],
)
async def test_an_old_configuration_stays_until_no_pod_can_read_it(done: bool, deleted: list[str]) -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored())
    await _settle(cluster, memory)
    old = {name for kind, name in memory.objects if kind == "ConfigMap"}
    memory.deployments[KEY] = {
        **memory.deployments[KEY],
        "spec": {"model": {"uri": LLAMA_70B}, "engine": {"maxBatchSize": 8}},
    }
    cluster.stored[("LLMDeployment", "llama")] = memory.deployments[KEY]
    await _reconciler(cluster, memory)(KEY)
    assert {name for kind, name in memory.objects if kind == "ConfigMap"} > old
    _rolled_out(memory, done=done)
    cluster.requests.clear()
    await _reconciler(cluster, memory)(KEY)
    gone = [(kind, manifest["metadata"]["name"]) for verb, kind, manifest in cluster.requests if verb == "delete"]
    assert gone == [(kind, name) for kind in deleted for name in old]


def _image(memory: FakeMemory) -> str:
    (container,) = memory.objects[("Deployment", "llama")]["spec"]["template"]["spec"]["containers"]
    return str(container["image"].rpartition(":")[2])


@pytest.mark.parametrize(
    ("told", "engine", "tag", "kept"),
    [
        pytest.param(None, {}, "1.3.0rc25", "1.3.0rc25", id="a new object takes this release's"),
        pytest.param(
            {"release": "1.3.0rc18", "imageTag": "1.3.0rc24"},
            {},
            "1.3.0rc24",
            "1.3.0rc24",
            id="an older object keeps its own",
        ),
        pytest.param(
            {"release": "1.3.0rc18", "imageTag": "1.3.0rc24"},
            {"image": {"tag": "1.3.0rc22"}},
            "1.3.0rc22",
            None,
            id="a named tag wins",
        ),
    ],
)
async def test_the_tag_that_was_chosen_stays(told: Any, engine: Any, tag: str, kept: str | None) -> None:
    stored = _stored({"observedGeneration": 1, **({} if told is None else {"engine": told})}, engine=engine)
    cluster, memory = FakeCluster(), FakeMemory(stored)
    cluster.stored[("LLMDeployment", "llama")] = stored
    later = replace(_reconciler(cluster, memory), settings=Settings(image_tag="1.3.0rc25"))
    await later(KEY)
    assert _image(memory) == tag
    engine_told = memory.deployments[KEY]["status"]["engine"]
    assert engine_told.get("imageTag") == kept
    assert engine_told, "an empty map would be null after server-side apply has taken its last field out"


async def test_what_a_release_warns_of_is_in_the_status() -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored(engine={"image": {"tag": "latest"}}))
    await _settle(cluster, memory)
    (warning,) = memory.deployments[KEY]["status"]["engine"]["warnings"]
    assert "'latest' does not name a TensorRT-LLM version" in warning


async def test_what_the_engine_cannot_be_told_refuses_the_spec() -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored(engine={"args": ["--log_levl", "debug"]}))
    await _reconciler(cluster, memory)(KEY)
    assert (_reason(memory, "Planned"), _reason(memory)) == ("UnknownFlag", "UnknownFlag")
    assert not [verb for verb, _ in cluster.said() if verb.startswith("apply")]


async def test_a_strange_object_is_looked_at_again_soon_and_not_as_a_failure() -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored())
    cluster.answers[(APPLY, "Service")] = Conflict("held by another", status=409)
    assert await _reconciler(cluster, memory)(KEY) == STRANGER_POLL
    assert _reason(memory) == "NameConflict"


async def test_a_replica_that_waits_for_gpus_is_forecast_and_visited_again() -> None:
    memory, survey = FakeMemory(_stored()), FakeSurvey(free=2)
    assert await _settle(FakeCluster(), memory, survey) == CAPACITY_POLL
    assert _reason(memory, "CapacityAvailable") == "GPUsBusy"
    assert survey.asked == [FORECAST_AGE]


async def test_a_pod_without_a_node_is_counted_for_again_where_gpus_seemed_free() -> None:
    memory = FakeMemory(_stored())
    assert await _settle(FakeCluster(), memory, FakeSurvey(free=8)) == CAPACITY_POLL
    assert _reason(memory, "CapacityAvailable") == "GPUsAvailable"


async def test_an_unknown_supply_is_no_error() -> None:
    memory = FakeMemory(_stored())
    survey = FakeSurvey(free=0, error=Unavailable("no", status=503))
    assert await _settle(FakeCluster(), memory, survey) is None
    assert _reason(memory, "Planned") == "PlanSelected"


async def test_nothing_is_surveyed_for_replicas_that_have_their_nodes() -> None:
    memory, survey = await _served(), FakeSurvey(free=0)
    placed = {"type": "PodScheduled", "status": "True"}
    memory.found_pods = [{"metadata": {"name": "llama-1"}, "status": {"conditions": [placed]}}]
    assert await _settle(FakeCluster(), memory, survey) is None
    assert survey.asked == []


def _stuck(name: str, since: str) -> Manifest:
    conditions = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": since}]
    waiting = [{"name": "trtllm-serve", "state": {"waiting": {"reason": "ContainerCreating"}}}]
    metadata = {"name": name, "namespace": "team-a", "uid": f"uid of {name}"}
    return {"metadata": metadata, "status": {"conditions": conditions, "containerStatuses": waiting}}


def _not_found(_: Manifest) -> list[Manifest]:
    message = 'MountVolume.SetUp failed for volume "authorities" : configmap "corp-ca" not found'
    return [{"reason": "FailedMount", "message": message, "lastTimestamp": "2025-12-31T23:59:59Z"}]


async def test_a_pod_that_does_not_start_is_told_of_and_looked_at_again() -> None:
    memory, cluster = await _served(), FakeCluster()
    cluster.answers[("list", "Event")] = _not_found
    memory.found_pods = [_stuck("llama-1", "2025-12-31T23:59:00Z")]
    assert await _settle(cluster, memory) == EVENTS_POLL.total_seconds()
    assert _reason(memory) == _reason(memory, "WorkloadReady") == "ConfigMapMissing"


async def test_a_download_pod_that_does_not_start_is_told_of() -> None:
    memory, cluster = await _served(modelCache={"pvc": {"size": "200Gi"}}), FakeCluster()
    cluster.answers[("list", "Event")] = _not_found
    (job,) = [found for (kind, _), found in memory.objects.items() if kind == "Job"]
    pod = _stuck("llama-download-1", "2025-12-31T23:59:00Z")
    pod["metadata"]["ownerReferences"] = [{"uid": job["metadata"]["uid"]}]
    memory.downloading = [pod]
    assert await _settle(cluster, memory) == EVENTS_POLL.total_seconds()
    assert _reason(memory) == _reason(memory, "ModelReady") == "ConfigMapMissing"


async def test_a_pod_that_starts_costs_no_request_and_one_more_visit() -> None:
    memory, cluster = await _served(), FakeCluster()
    memory.found_pods = [_stuck("llama-1", "2025-12-31T23:59:50Z")]
    assert await _settle(cluster, memory) == (STUCK_AFTER - timedelta(seconds=10)).total_seconds()
    assert ("list", "Event") not in cluster.said()


async def test_the_sooner_of_two_reasons_to_look_again_counts() -> None:
    memory = FakeMemory(_stored(replicas=2))
    memory.found_pods = [_stuck("llama-1", "2025-12-31T23:59:50Z")]
    assert await _settle(FakeCluster(), memory, FakeSurvey(free=0)) == 20.0


async def test_an_edit_is_rolled_out_by_what_is_free_now() -> None:
    memory, survey = await _served(), FakeSurvey(free=0)
    cluster = FakeCluster()
    cluster.stored[("LLMDeployment", "llama")] = memory.deployments[KEY]
    _edit(memory, podMetadata={"labels": {"a": "b"}})
    await _reconciler(cluster, memory, survey)(KEY)
    (deployment,) = [manifest for _, kind, manifest in cluster.requests if kind == "Deployment"]
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert survey.asked[0] == DECISION_AGE
    assert memory.deployments[KEY]["status"]["rollout"]["strategy"] == "Recreate"


async def test_an_edit_that_no_node_can_take_stops_nothing() -> None:
    memory, survey = await _served(), FakeSurvey(free=0)
    cluster = FakeCluster()
    cluster.stored[("LLMDeployment", "llama")] = memory.deployments[KEY]
    _edit(memory, nodeSelector={"pool": "none"})
    await _reconciler(cluster, memory, survey)(KEY)
    (deployment,) = [manifest for _, kind, manifest in cluster.requests if kind == "Deployment"]
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert "no node takes" in memory.deployments[KEY]["status"]["rollout"]["reason"]


async def test_what_was_decided_for_a_rollout_stays_until_the_next_edit() -> None:
    memory = await _served()
    cluster = FakeCluster()
    cluster.stored[("LLMDeployment", "llama")] = memory.deployments[KEY]
    _edit(memory, podMetadata={"labels": {"a": "b"}})
    await _reconciler(cluster, memory, FakeSurvey(free=0))(KEY)
    before = len(cluster.requests)
    await _reconciler(cluster, memory, FakeSurvey(free=8))(KEY)
    assert "Deployment" not in [kind for _, kind, _ in cluster.requests[before:]]
    assert memory.deployments[KEY]["status"]["rollout"]["strategy"] == "Recreate"


async def test_a_paused_object_costs_no_write_but_its_status() -> None:
    memory = await _served()
    _edit(memory, paused=True, gpus={"count": 8})
    cluster, before = FakeCluster(), memory.deployments[KEY]["status"]["plan"]["id"]
    await _reconciler(cluster, memory)(KEY)
    assert {verb for verb, _ in cluster.said()} == {STATUS[0], "create"}
    assert (_reason(memory), _reason(memory, "Paused")) == ("Paused", "Paused")
    assert memory.deployments[KEY]["status"]["plan"]["id"] == before


def _scale(memory: FakeMemory, replicas: int) -> None:
    """Do what an autoscaler does that points at our Deployment."""
    applied = memory.objects[("Deployment", "llama")]
    memory.observe(DEPLOYMENT, scaled_by("kube-controller-manager", applied, replicas))


def _told(cluster: FakeCluster) -> list[str]:
    """Return the messages of the events about replicas that somebody else sets."""
    events = [manifest for _, kind, manifest in cluster.requests if kind == "Event"]
    return [event["message"] for event in events if event["reason"] == "ReplicasContested"]


async def test_replicas_that_somebody_else_sets_are_set_back_and_told_once() -> None:
    memory, cluster = await _served(replicas=2), FakeCluster()
    reconciler, before = _reconciler(cluster, memory), memory.deployments[KEY]["status"]["conditions"]
    for replicas in (5, 6, 5):
        _scale(memory, replicas)
        await reconciler(KEY)
        assert memory.objects[("Deployment", "llama")]["spec"]["replicas"] == 2
    assert cluster.said().count((f"{APPLY} force", "Deployment")) == 3
    (message,) = _told(cluster)
    assert message.startswith("kube-controller-manager set the replicas of Deployment llama to 5; set back to 2; ")
    assert memory.deployments[KEY]["status"]["conditions"] == before


async def test_replicas_that_could_not_be_set_back_are_not_told_of() -> None:
    memory, cluster = await _served(replicas=2), FakeCluster()
    _scale(memory, 5)
    cluster.answers[(f"{APPLY} force", "Deployment")] = Unavailable("no", status=503)
    with pytest.raises(Unavailable):
        await _reconciler(cluster, memory)(KEY)
    assert _told(cluster) == []
    cluster.answers.clear()
    await _settle(cluster, memory)
    assert len(_told(cluster)) == 1


@pytest.mark.parametrize("spec", [{"paused": True}, {"scaling": {"maxReplicas": 8}}], ids=["paused", "autoscaled"])
async def test_replicas_that_are_left_alone_are_not_told_of(spec: dict[str, Any]) -> None:
    memory, cluster = await _served(**{**spec, "paused": False}), FakeCluster()
    _edit(memory, **spec)
    _scale(memory, 5)
    await _settle(cluster, memory)
    assert memory.objects[("Deployment", "llama")]["spec"]["replicas"] == 5
    assert _told(cluster) == []


async def test_another_plan_is_applied_once_it_is_approved() -> None:
    memory = await _served()
    _edit(memory, gpus={"count": 8}, planChangePolicy="RequireApproval")
    cluster = FakeCluster()
    await _reconciler(cluster, memory)(KEY)
    pending = _pending(memory)
    assert pending is not None
    assert (_reason(memory), _reason(memory, "Stalled")) == ("AwaitingApproval", "AwaitingApproval")
    assert "Deployment" not in [kind for _, kind in cluster.said()]

    memory.deployments[KEY] = _annotated(memory.deployments[KEY], **{APPROVAL_ANNOTATION: pending["id"]})
    cluster.stored[("LLMDeployment", "llama")] = memory.deployments[KEY]
    await _reconciler(cluster, memory)(KEY)
    assert "Deployment" in [kind for _, kind in cluster.said()]
    assert _pending(memory) is None
    assert memory.deployments[KEY]["status"]["plan"]["id"] == pending["id"]


@pytest.mark.parametrize(("nodes", "text"), [(None, "may not read nodes"), ([], "0 nodes carry the label")])
async def test_without_gpus_the_message_says_whether_nodes_were_read(nodes: list[Manifest] | None, text: str) -> None:
    memory = FakeMemory(_stored())
    memory.offers, memory.nodes = (), nodes
    await _settle(FakeCluster(), memory)
    assert _reason(memory) == "NoGPUs"
    assert text in memory.deployments[KEY]["status"]["conditions"][0]["message"]
    assert "spec.gpus.product" in memory.deployments[KEY]["status"]["conditions"][0]["message"]


CACHE = {"pvc": {"size": "200Gi"}}


def _change(cluster: FakeCluster, memory: FakeMemory, **spec: Any) -> None:
    memory.deployments[KEY] = {**memory.deployments[KEY], "spec": {**memory.deployments[KEY]["spec"], **spec}}
    cluster.stored[("LLMDeployment", "llama")] = memory.deployments[KEY]


def _end(memory: FakeMemory, condition: str) -> None:
    """Report every Job as the Job controller does."""
    for (kind, _), manifest in memory.objects.items():
        if kind == "Job":
            manifest["status"] = {"conditions": [{"type": condition, "status": "True"}]}


def _applied(cluster: FakeCluster) -> list[str]:
    return [kind for verb, kind in cluster.said() if verb.startswith(APPLY)]


async def test_no_pod_takes_a_gpu_before_its_model_is_there() -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored(modelCache=CACHE, scaling={"maxReplicas": 2}))
    await _settle(cluster, memory)
    assert _applied(cluster) == ["ConfigMap", "PersistentVolumeClaim", "Service", "Job"]
    assert (_reason(memory), _reason(memory, "WorkloadReady")) == ("Downloading", "WaitingForModel")
    _end(memory, "Complete")
    cluster.stored[("LLMDeployment", "llama")] = memory.deployments[KEY]
    cluster.requests.clear()
    await _settle(cluster, memory)
    assert _applied(cluster) == ["Deployment", "HorizontalPodAutoscaler"]
    assert _reason(memory, "ModelReady") == "Downloaded"


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        pytest.param("", "Downloading", id="under way"),
        pytest.param("Failed", "DownloadFailed", id="given up"),
    ],
)
async def test_what_serves_is_left_alone_until_another_model_is_there(condition: str, reason: str) -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored(modelCache=CACHE, expose={"service": {"port": 8001}}))
    await _settle(cluster, memory)
    _end(memory, "Complete")
    cluster.stored[("LLMDeployment", "llama")] = memory.deployments[KEY]
    await _settle(cluster, memory)
    _rolled_out(memory, done=True)
    before = dict(memory.objects)
    _change(cluster, memory, model={"uri": "hf://meta-llama/Llama-3.1-8B-Instruct"}, expose=None)
    cluster.requests.clear()
    await _settle(cluster, memory)
    if condition:
        (new,) = memory.objects.keys() - before.keys()
        memory.objects[new]["status"] = {"conditions": [{"type": condition, "status": "True"}]}
        await _settle(cluster, memory)
    assert _applied(cluster) == ["Job"]
    assert "delete" not in [verb for verb, _ in cluster.said()]
    assert (_reason(memory), _reason(memory, "WorkloadReady")) == (reason, "WaitingForModel")


async def test_replicas_of_what_waits_for_a_download_are_neither_set_back_nor_told_of() -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored(modelCache=CACHE))
    await _settle(cluster, memory)
    _end(memory, "Complete")
    cluster.stored[("LLMDeployment", "llama")] = memory.deployments[KEY]
    await _settle(cluster, memory)
    (job,) = (place for place in memory.objects if place[0] == "Job")
    del memory.objects[job]
    workload = memory.objects[("Deployment", "llama")]
    workload["metadata"]["annotations"][DOWNLOAD_ANNOTATION] = "llama-download-as-another-release-names-it"
    _scale(memory, 5)
    await _settle(cluster, memory)
    assert memory.objects[("Deployment", "llama")]["spec"]["replicas"] == 5
    assert _told(cluster) == []


async def test_a_job_that_an_edit_changes_is_made_anew() -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored(modelCache=CACHE))
    await _settle(cluster, memory)
    _end(memory, "Failed")
    (name,) = (name for kind, name in memory.objects if kind == "Job")
    _change(cluster, memory, model={"uri": LLAMA_70B, "secretRef": {"name": "hf-token"}})
    cluster.requests.clear()
    await _settle(cluster, memory)
    assert [said for said in cluster.said() if "Job" in said] == [("delete", "Job")]
    del memory.objects[("Job", name)]
    await _settle(cluster, memory)
    assert ("Job", name) in memory.objects
    assert _reason(memory, "ModelReady") == "Downloading"


@pytest.mark.parametrize(
    ("done", "left"),
    [
        pytest.param(False, 2, id="an old pod still serves"),
        pytest.param(True, 1, id="every pod is new"),
    ],
)
async def test_a_download_is_remembered_until_no_pod_serves_it(done: bool, left: int) -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored(modelCache=CACHE))
    for model in (LLAMA_70B, "hf://meta-llama/Llama-3.1-8B-Instruct"):
        _change(cluster, memory, model={"uri": model})
        await _settle(cluster, memory)
        _end(memory, "Complete")
        await _settle(cluster, memory)
    _rolled_out(memory, done=done)
    cluster.requests.clear()
    await _settle(cluster, memory)
    gone = [
        manifest["metadata"]["name"] for verb, kind, manifest in cluster.requests if (verb, kind) == ("delete", "Job")
    ]
    assert 2 - len(gone) == left
