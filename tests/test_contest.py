"""From who holds which field of a workload to what is told of it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from builders import a_plan, a_spec
from fakes import FakeMemory, Manifest, as_stored, scaled_by
from trtllm_operator.cluster import Cluster
from trtllm_operator.contest import contest, strange_holder
from trtllm_operator.kinds import CHILD_KINDS
from trtllm_operator.naming import REPAIR_MANAGER, REPLICAS_MANAGER
from trtllm_operator.render import Owner, render
from trtllm_operator.settings import Settings
from trtllm_operator.watched import Memory
from trtllm_operator.watches import Watches
from trtllm_operator.workload import WORKLOADS

OWNER = Owner(name="llama", namespace="team-a", uid="u1")
AUTOSCALERS = "kube-controller-manager"
HELD = {"f:spec": {"f:replicas": {}}}


def _workload(**spec: Any) -> Manifest:
    wanted = a_spec(**{"replicas": 2, **spec})
    rendered = render(OWNER, wanted, a_plan(wanted), Settings())
    return next(manifest for manifest in rendered if manifest["kind"] in WORKLOADS)


def _watched(live: Manifest) -> Memory:
    """Return the memory of the watches, which keep little of an object."""
    watches = Watches(cast("Cluster", None), lambda *_, **__: None)
    metadata = {**live["metadata"], "resourceVersion": "1"}
    watches.observe(CHILD_KINDS[live["kind"]], {**live, "metadata": metadata})
    return watches


def _whole(live: Manifest) -> Memory:
    memory = FakeMemory()
    memory.observe(CHILD_KINDS[live["kind"]], live)
    return memory


def _shared(live: Manifest) -> Manifest:
    """Return a workload of which somebody else holds the replicas too, because both asked for the same number."""
    also = {"manager": AUTOSCALERS, "operation": "Update", "subresource": "scale", "fieldsV1": HELD}
    return {**live, "metadata": {**live["metadata"], "managedFields": [*live["metadata"]["managedFields"], also]}}


TWO = as_stored(_workload())
TOLD = "the LLMDeployment, which has a scale subresource"


@pytest.mark.parametrize("memory", [_whole, _watched])
@pytest.mark.parametrize(
    ("wanted", "live", "told"),
    [
        pytest.param(_workload(), scaled_by(AUTOSCALERS, TWO, 5), f"{AUTOSCALERS} set DEPLOYMENT to 5", id="hpa"),
        pytest.param(_workload(), scaled_by("kubectl", TWO, 0), "kubectl set DEPLOYMENT to 0", id="kubectl"),
        pytest.param(_workload(), scaled_by("edit", TWO, 3, subresource=""), "edit set DEPLOYMENT to 3", id="no-scale"),
        pytest.param(_workload(), scaled_by("", TWO, 3), "a client without a name set DEPLOYMENT to 3", id="no-name"),
        pytest.param(
            _workload(gpus={"count": 16}),
            scaled_by("kubectl", as_stored(_workload(gpus={"count": 16})), 3),
            "kubectl set the replicas of LeaderWorkerSet llama to 3",
            id="several-nodes",
        ),
        pytest.param(
            _workload(replicas=4), scaled_by("kubectl", TWO, 3), "kubectl set DEPLOYMENT to 3", id="edited-meanwhile"
        ),
        pytest.param(_workload(), TWO, None, id="at-rest"),
        pytest.param(_workload(replicas=4), TWO, None, id="edited"),
        pytest.param(_workload(replicas=4), _shared(TWO), None, id="edited-after-the-same-number-of-another"),
        pytest.param(_workload(), scaled_by("kubectl", TWO, 2), None, id="the-stated-number"),
        pytest.param(_workload(), scaled_by(REPLICAS_MANAGER, TWO, 5), None, id="by-ourselves"),
        pytest.param(_workload(), scaled_by(REPAIR_MANAGER, TWO, 5), None, id="by-our-repair"),
        pytest.param(
            _workload(replicas=None, scaling={"maxReplicas": 8}),
            scaled_by(AUTOSCALERS, as_stored(_workload(replicas=None, scaling={"maxReplicas": 8})), 5),
            None,
            id="the-autoscaler-s",
        ),
        pytest.param(
            _workload(),
            scaled_by(AUTOSCALERS, as_stored(_workload(replicas=None, scaling={"maxReplicas": 8})), 7),
            None,
            id="the-autoscaler-s-until-now",
        ),
    ],
)
def test_what_is_told(memory: Any, wanted: Manifest, live: Manifest, told: str | None) -> None:
    found = contest([wanted], memory(live).child)
    if told is None:
        assert found is None
        return
    assert found is not None
    start = told.replace("DEPLOYMENT", "the replicas of Deployment llama")
    assert found.message.startswith(f"{start}; set back to {wanted['spec']['replicas']}; set spec.replicas or ")
    assert found.message.endswith(TOLD)
    assert (found.type, found.reason) == ("Warning", "ReplicasContested")


def test_a_workload_that_is_not_there_is_not_contested() -> None:
    assert contest([_workload()], FakeMemory().child) is None


def test_numbers_do_not_make_another_matter_of_it() -> None:
    found = [contest([_workload()], _whole(scaled_by("kubectl", TWO, replicas)).child) for replicas in (3, 4)]
    assert [each.topic if each else None for each in found] == ["kubectl", "kubectl"]


def test_the_last_of_several_is_named() -> None:
    holders = [
        {"manager": manager, "time": f"2026-01-01T00:00:0{second}Z", "fieldsV1": HELD}
        for manager, second in (("first", 1), ("last", 3), ("second", 2))
    ]
    live = {"metadata": {"managedFields": holders}}
    assert strange_holder(live) == {"manager": "last", "fieldsV1": HELD}


def test_of_others_the_watches_keep_no_more_than_who_holds_the_replicas() -> None:
    live = scaled_by(AUTOSCALERS, TWO, 5)
    status = {"manager": AUTOSCALERS, "operation": "Update", "subresource": "status", "fieldsV1": {"f:status": {}}}
    live["metadata"]["managedFields"].append(status)
    kept = _watched(live).child(CHILD_KINDS["Deployment"], "team-a", "llama")
    assert kept is not None
    ours, other = kept["metadata"]["managedFields"]
    assert ours["manager"] == "trtllm-operator"
    assert other == {"manager": AUTOSCALERS, "fieldsV1": '{"f:spec":{"f:replicas":{}}}'}
