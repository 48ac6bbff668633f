"""Objects that an older or a newer release stored: they are read, and what runs keeps running."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from builders import LLAMA_70B
from fakes import FakeCluster, FakeMemory, Manifest
from trtllm_operator.cluster import Cluster
from trtllm_operator.reconcile import Reconciler
from trtllm_operator.settings import Settings
from trtllm_operator.stored import read_status
from trtllm_operator.workqueue import Key

KEY = Key("team-a", "llama")


async def _status_after(spec: dict[str, Any], status: Any = None) -> tuple[Manifest, list[tuple[str, str]]]:
    """Run passes until none asks for another; return the status they leave and what they asked of the cluster."""
    stored: Manifest = {
        "metadata": {"namespace": "team-a", "name": "llama", "uid": "u1", "generation": 2, "resourceVersion": "7"},
        "spec": spec,
        "status": {"observedGeneration": -1},
    }
    if status is not None:
        stored["status"] = status
    cluster, memory = FakeCluster(), FakeMemory(stored)
    cluster.stored[("LLMDeployment", "llama")] = stored
    reconciler = Reconciler(
        cluster=cast("Cluster", cluster),
        memory=memory,
        settings=Settings(),
        now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
    )
    while await reconciler(KEY) == 0.0:
        pass
    return memory.deployments[KEY]["status"], cluster.said()


def _reason(status: Manifest, kind: str) -> str | None:
    return next((c["reason"] for c in status["conditions"] if c["type"] == kind), None)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"model": {"uri": LLAMA_70B}, "novelty": {"a": [1]}}, id="new group"),
        pytest.param({"model": {"uri": LLAMA_70B, "novelty": None}, "gpus": {"novelty": 1}}, id="new members"),
        pytest.param({"model": {"uri": LLAMA_70B}}, id="fewest fields"),
        pytest.param(
            {"model": {"uri": LLAMA_70B}, "scaling": {"maxReplicas": 2}}, id="without what the schema would default"
        ),
    ],
)
async def test_a_spec_of_another_release_is_planned(spec: dict[str, Any]) -> None:
    status, _ = await _status_after(spec)
    assert _reason(status, "Planned") == "PlanSelected"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        pytest.param({"model": {"uri": LLAMA_70B}, "dtype": "fp2"}, "spec.dtype", id="new value"),
        pytest.param({"model": {"uri": LLAMA_70B}, "gpus": [{"count": 1}]}, "spec.gpus", id="new type"),
        pytest.param({"model": {}}, "spec.model.uri", id="no longer required"),
        pytest.param({}, "spec.model", id="empty"),
    ],
)
async def test_a_spec_that_means_nothing_here_is_told_by_field_and_changes_nothing(
    spec: dict[str, Any], field: str
) -> None:
    status, requests = await _status_after(spec)
    assert _reason(status, "Ready") == "InvalidObject"
    message = next(c["message"] for c in status["conditions"] if c["type"] == "Ready")
    assert message.startswith(f"{field}: ")
    assert not [verb for verb, kind in requests if verb.startswith("apply") or verb in {"delete", "merge"}]


TIME = "2026-01-01T00:00:00Z"
OTHERS = {"type": "Audited", "status": "True", "reason": "X", "message": "", "lastTransitionTime": TIME}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, id="as written"),
        pytest.param({"novelty": {"a": 1}}, id="new group"),
        pytest.param({"model": {"source": "Elsewhere"}}, id="new value beside the plan"),
        pytest.param({"plan": {"verdict": "Roomy", "novelty": 1}}, id="new value inside the plan"),
        pytest.param({"plan": {"rejected": [{"tensor": 1}, {"pipeline": 2}]}}, id="items that lack a value"),
        pytest.param({"conditions": [OTHERS, {"type": "Novelty", "status": "Maybe"}]}, id="conditions"),
        pytest.param({"capacity": "none", "ready": 1}, id="other types"),
    ],
)
async def test_a_status_of_another_release_keeps_its_plan(change: dict[str, Any]) -> None:
    before, _ = await _status_after({"model": {"uri": LLAMA_70B}})
    stored = {key: {**before.get(key, {}), **value} if key == "plan" else value for key, value in change.items()}
    read = read_status({**before, **stored})
    assert read.plan is not None
    assert read.plan.id == before["plan"]["id"]
    assert read.observed_generation == 2
    after, _ = await _status_after({"model": {"uri": LLAMA_70B}}, {**before, **stored})
    assert after["plan"]["id"] == before["plan"]["id"]


@pytest.mark.parametrize("raw", [None, {}, [], "x", {"plan": {"tensor": 4}}, {"plan": None}])
def test_nothing_is_read_where_nothing_is(raw: Any) -> None:
    assert read_status(raw).plan is None
