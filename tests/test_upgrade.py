"""What another release of the operator leaves alone."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from builders import LLAMA_70B, a_plan, a_spec
from fakes import FakeCluster, FakeMemory, Manifest, as_stored, scaled_by
from trtllm_operator import upgrade
from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.cluster import Cluster
from trtllm_operator.kinds import DEPLOYMENT
from trtllm_operator.naming import INPUTS_ANNOTATION, RELEASE_ANNOTATION
from trtllm_operator.planned import Infeasible
from trtllm_operator.reconcile import Reconciler
from trtllm_operator.render import Owner, render
from trtllm_operator.settings import Settings
from trtllm_operator.upgrade import NOT_OF_WORKLOADS, inputs_digest
from trtllm_operator.workqueue import Key

KEY = Key("team-a", "llama")
CURRENT = Settings()
NEXT = Settings(drain_seconds=77)
"""Stands for a release that renders pods otherwise."""


@pytest.mark.parametrize(
    ("spec", "tag", "same"),
    [
        pytest.param({}, "1.0", True, id="equal"),
        pytest.param({"replicas": 3}, "1.0", True, id="replicas"),
        pytest.param({"schedulerName": None}, "1.0", True, id="a-default-that-is-said"),
        pytest.param({}, "1.1", False, id="image"),
        pytest.param({"gpus": {"count": 8}}, "1.0", False, id="plan"),
        pytest.param({"podMetadata": {"labels": {"a": "b"}}}, "1.0", False, id="pod"),
        pytest.param({"scaling": {"maxReplicas": 3}}, "1.0", False, id="autoscaling"),
    ],
)
def test_the_inputs_of_a_pod(spec: dict[str, Any], tag: str, same: bool) -> None:
    first = inputs_digest(a_spec(), a_plan(), "1.0")
    parsed = a_spec(**spec)
    assert (inputs_digest(parsed, a_plan(parsed), tag) == first) is same


@pytest.mark.parametrize(
    "stated",
    [
        {"cost": {"perGpuHour": "2.50", "currency": "USD"}},
        {"disruption": {"minAvailable": 1}},
        {"expose": {"service": {"port": 80}, "ingress": {"host": "a.example.com"}}},
        {"monitoring": {"podMonitor": True}},
        {"networkPolicy": {"enabled": True}},
        {"paused": True},
        {"planChangePolicy": "RequireApproval"},
        {"replicas": 3},
    ],
    ids=lambda stated: next(iter(stated)),
)
def test_a_field_that_does_not_count_changes_no_workload(stated: dict[str, Any]) -> None:
    (field,) = stated
    names = {alias: name for name, known in LLMDeploymentSpec.model_fields.items() if (alias := known.alias or name)}
    assert names[field] in NOT_OF_WORKLOADS
    plain, other = _workload(), _workload(**stated)
    assert other["metadata"]["annotations"][INPUTS_ANNOTATION] == plain["metadata"]["annotations"][INPUTS_ANNOTATION]
    for workload in (plain, other):
        workload["spec"].pop("replicas")
    assert other["spec"] == plain["spec"]


def _workload(**spec: Any) -> Manifest:
    parsed = a_spec(**spec)
    rendered = render(Owner(name="llama", namespace="team-a"), parsed, a_plan(parsed), Settings())
    assert not isinstance(rendered, Infeasible)
    return copy.deepcopy(next(manifest for manifest in rendered if manifest["kind"] == "Deployment"))


async def _pass(cluster: FakeCluster, memory: FakeMemory, settings: Settings = CURRENT) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    reconciler = Reconciler(cluster=cast("Cluster", cluster), memory=memory, settings=settings, now=lambda: now)
    while await reconciler(KEY) == 0.0:
        pass


async def _served(**spec: Any) -> tuple[FakeCluster, FakeMemory]:
    """Return what a pass of an earlier release left, rolled out."""
    metadata = {"namespace": "team-a", "name": "llama", "uid": "u1", "generation": 1, "resourceVersion": "7"}
    stored = {"metadata": metadata, "spec": {"model": {"uri": LLAMA_70B}, **spec}, "status": {"observedGeneration": -1}}
    cluster, memory = FakeCluster(), FakeMemory(stored)
    await _pass(cluster, memory)
    workload = memory.objects[("Deployment", "llama")]
    counts = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas"), 1)
    memory.observe(DEPLOYMENT, {**workload, "status": counts})
    cluster.stored[("LLMDeployment", "llama")] = memory.deployments[KEY]
    cluster.requests.clear()
    return cluster, memory


def _edit(cluster: FakeCluster, memory: FakeMemory, **spec: Any) -> None:
    memory.deployments[KEY] = {**memory.deployments[KEY], "spec": {**memory.deployments[KEY]["spec"], **spec}}
    cluster.stored[("LLMDeployment", "llama")] = memory.deployments[KEY]


def _written(cluster: FakeCluster) -> list[tuple[str, Manifest]]:
    return [(verb, manifest) for verb, kind, manifest in cluster.requests if kind in ("Deployment", "ConfigMap")]


async def test_the_same_release_rolls_out_what_it_renders_otherwise() -> None:
    cluster, memory = await _served()
    await _pass(cluster, memory, NEXT)
    assert [verb for verb, _ in _written(cluster)] == ["apply trtllm-operator force"]


async def test_another_release_leaves_pods_and_their_files_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, memory = await _served()
    monkeypatch.setattr(upgrade, "__version__", "9.9.9")
    await _pass(cluster, memory, NEXT)
    assert _written(cluster) == []
    (warning,) = memory.deployments[KEY]["status"]["engine"]["warnings"]
    assert "9.9.9" not in memory.objects[("Deployment", "llama")]["metadata"]["annotations"].values()
    assert "with the next edit" in warning


async def test_a_held_workload_is_scaled_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, memory = await _served()
    monkeypatch.setattr(upgrade, "__version__", "9.9.9")
    _edit(cluster, memory, replicas=3)
    await _pass(cluster, memory, NEXT)
    ((verb, manifest),) = _written(cluster)
    assert verb == "apply trtllm-operator-replicas force"
    assert manifest["spec"] == {"replicas": 3}


async def test_a_held_workload_that_somebody_else_scales_is_set_back_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, memory = await _served()
    monkeypatch.setattr(upgrade, "__version__", "9.9.9")
    memory.observe(DEPLOYMENT, scaled_by("kubectl", memory.objects[("Deployment", "llama")], 3))
    await _pass(cluster, memory, NEXT)
    ((_, manifest),) = _written(cluster)
    assert manifest["spec"] == {"replicas": 1}
    told = [manifest["message"] for _, kind, manifest in cluster.requests if kind == "Event"]
    assert [message.split(";")[0] for message in told] == ["kubectl set the replicas of Deployment llama to 3"]


async def test_the_next_edit_brings_the_new_release(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, memory = await _served()
    monkeypatch.setattr(upgrade, "__version__", "9.9.9")
    _edit(cluster, memory, podMetadata={"annotations": {"a": "b"}})
    await _pass(cluster, memory, NEXT)
    (applied,) = [manifest for _, manifest in _written(cluster) if manifest["kind"] == "Deployment"]
    assert applied["metadata"]["annotations"][RELEASE_ANNOTATION] == "9.9.9"
    assert "warnings" not in memory.deployments[KEY]["status"]["engine"]


async def test_what_no_pod_is_made_of_follows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, memory = await _served()
    monkeypatch.setattr(upgrade, "__version__", "9.9.9")
    service = memory.objects[("Service", "llama")]
    older = {**service, "metadata": {**service["metadata"], "annotations": {"trtllm.dev/digest": "older"}}}
    memory.objects[("Service", "llama")] = as_stored(older)
    await _pass(cluster, memory)
    assert ("apply trtllm-operator force", "Service") in cluster.said()
