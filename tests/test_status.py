from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from builders import a_plan, a_refusal, a_spec
from support import ROOT
from trtllm_operator.api_status import LLMDeploymentStatus
from trtllm_operator.contest import REPLICAS_CONTESTED
from trtllm_operator.download_status import ModelReason
from trtllm_operator.errors import (
    Forbidden,
    InvalidObject,
    NameConflict,
    OperatorError,
    Rejected,
    Unavailable,
)
from trtllm_operator.facts import Failure, Observed, Problem
from trtllm_operator.findings import FeatureReason
from trtllm_operator.planned import Caution
from trtllm_operator.pod_problems import ProblemReason
from trtllm_operator.refusals import Reason
from trtllm_operator.status import Outcome, StatusReason, parse_status, status, transitions

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 2, tzinfo=UTC)
READY = Observed(kind="Deployment", name="llama", wanted=1, replicas=1, ready=1, settled=True)
LOADING = Observed(kind="Deployment", name="llama", wanted=1, replicas=1, ready=0, settled=False)


def _told(
    outcome: Outcome, previous: LLMDeploymentStatus | None = None, generation: int = 1, now: datetime = NOW
) -> LLMDeploymentStatus:
    return status(previous or LLMDeploymentStatus(), "llama", generation, outcome, now)


def _conditions(told: LLMDeploymentStatus) -> dict[str, tuple[str, str]]:
    return {condition.type: (condition.status, condition.reason) for condition in told.conditions}


def test_ready() -> None:
    told = _told(Outcome(verdict=a_plan(), observed=READY))
    assert _conditions(told) == {
        "Planned": ("True", "PlanSelected"),
        "WorkloadReady": ("True", "ReplicasReady"),
        "Ready": ("True", "Ready"),
    }
    assert told.ready == "1/1"
    assert told.plan is not None
    assert told.plan.gpus_per_pod == told.plan.tensor * told.plan.pipeline


def test_loading_is_reconciling() -> None:
    told = _told(Outcome(verdict=a_plan(), observed=LOADING))
    assert _conditions(told)["Ready"] == ("False", "WaitingForPods")
    assert _conditions(told)["Reconciling"] == ("True", "WaitingForPods")
    assert "Stalled" not in _conditions(told)


def test_a_refusal_stalls_and_keeps_the_plan_in_force() -> None:
    before = _told(Outcome(verdict=a_plan(), observed=READY))
    told = _told(Outcome(verdict=a_refusal(a_spec(gpus={"count": 1})), observed=READY), before, generation=2)
    assert _conditions(told)["Ready"] == ("False", "InsufficientMemory")
    assert _conditions(told)["Stalled"] == ("True", "InsufficientMemory")
    assert "Reconciling" not in _conditions(told)
    assert told.plan == before.plan
    assert told.ready == "1/1"
    assert {condition.observed_generation for condition in told.conditions} == {2}


@pytest.mark.parametrize(
    ("error", "reason", "stalled"),
    [
        (NameConflict("x"), "NameConflict", True),
        (Rejected("x", status=422), "ChildRejected", True),
        (Forbidden("x", status=403), "Forbidden", False),
        (Unavailable("x", status=503), "APIUnavailable", False),
    ],
)
def test_errors_become_conditions(error: OperatorError, reason: str, stalled: bool) -> None:
    conditions = _conditions(_told(Outcome(verdict=a_plan(), error=error)))
    assert conditions["Ready"] == ("False", reason)
    assert ("Stalled" in conditions) == stalled
    assert ("Reconciling" in conditions) != stalled


def test_an_object_that_does_not_parse_stalls() -> None:
    conditions = _conditions(_told(Outcome(error=InvalidObject("spec.model.uri: missing"))))
    assert conditions["Planned"] == ("False", "InvalidObject")
    assert conditions["Stalled"] == ("True", "InvalidObject")


def test_an_error_before_the_plan_keeps_what_was_planned() -> None:
    before = _told(Outcome(verdict=a_plan(), observed=READY))
    told = _told(Outcome(observed=READY, error=Unavailable("etcd is away", status=503)), before)
    assert _conditions(told)["Planned"] == ("True", "PlanSelected")


def test_scaled_to_zero_is_ready() -> None:
    nothing = Observed(kind="Deployment", name="llama", wanted=0, replicas=0, ready=0, settled=True)
    assert _conditions(_told(Outcome(verdict=a_plan(), observed=nothing)))["Ready"] == (
        "True",
        "ScaledToZero",
    )


def test_times_move_only_when_the_status_flips() -> None:
    before = _told(Outcome(verdict=a_plan(), observed=LOADING))
    problem = Problem(reason="Unschedulable", message="0/2 nodes are available")
    stuck = Observed(kind="Deployment", name="llama", wanted=1, replicas=1, ready=0, settled=False, problem=problem)
    same = _told(Outcome(verdict=a_plan(), observed=stuck), before, now=LATER)
    times = {condition.type: condition.last_transition_time for condition in same.conditions}
    assert set(times.values()) == {"2026-01-01T00:00:00Z"}
    ready = _told(Outcome(verdict=a_plan(), observed=READY), same, now=LATER)
    times = {condition.type: condition.last_transition_time for condition in ready.conditions}
    assert times == {
        "Planned": "2026-01-01T00:00:00Z",
        "WorkloadReady": "2026-01-02T00:00:00Z",
        "Ready": "2026-01-02T00:00:00Z",
    }


def test_the_last_failure_stays_after_recovery_and_only_a_newer_one_replaces_it() -> None:
    def failed(time: str) -> Observed:
        failure = Failure(reason="CrashLoop", message="x", pod="p", exit_code=1, hint="h", time=time)
        return replace(LOADING, failure=failure)

    first = _told(Outcome(verdict=a_plan(), observed=failed("2026-01-02T00:00:00Z")))
    recovered = _told(Outcome(verdict=a_plan(), observed=READY), first)
    older = _told(Outcome(verdict=a_plan(), observed=failed("2026-01-01T00:00:00Z")), recovered)
    newer = _told(Outcome(verdict=a_plan(), observed=failed("2026-01-03T00:00:00Z")), older)
    times = [told.last_failure and told.last_failure.time for told in (first, recovered, older, newer)]
    assert times == ["2026-01-02T00:00:00Z"] * 3 + ["2026-01-03T00:00:00Z"]


def test_nothing_new_means_an_equal_status() -> None:
    outcome = Outcome(verdict=a_plan(), observed=READY)
    before = _told(outcome)
    stored = before.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert _told(outcome, parse_status(stored), now=LATER) == before


def test_events_tell_each_change_once() -> None:
    empty = parse_status({"observedGeneration": -1})
    loading = _told(Outcome(verdict=a_plan(), observed=LOADING))
    ready = _told(Outcome(verdict=a_plan(), observed=READY), loading)
    assert [event.reason for event in transitions(empty, loading)] == []
    assert [event.reason for event in transitions(loading, ready)] == ["Ready"]
    assert list(transitions(ready, ready)) == []


def test_a_changed_plan_is_an_event() -> None:
    before = _told(Outcome(verdict=a_plan(), observed=READY))
    after = _told(Outcome(verdict=a_plan(a_spec(gpus={"count": 8})), observed=READY), before)
    assert [event.reason for event in transitions(before, after)] == ["PlanSelected"]


def test_a_refusal_is_one_warning() -> None:
    told = _told(Outcome(verdict=a_refusal(a_spec(gpus={"count": 1}))))
    events = list(transitions(LLMDeploymentStatus(), told))
    assert [(event.type, event.reason) for event in events] == [("Warning", "InsufficientMemory")]


@pytest.mark.parametrize(
    "raw", [None, {}, {"conditions": "x"}, {"plan": {"tensor": "many"}}, {"observedGeneration": "x"}]
)
def test_a_stored_status_of_which_nothing_parses_counts_as_never_written(raw: object) -> None:
    assert parse_status(raw).observed_generation == -1


def test_foreign_conditions_are_left_to_their_owners() -> None:
    foreign = {
        "type": "Audited", "status": "True", "reason": "X", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    assert parse_status({"conditions": [foreign]}).conditions == ()


@pytest.mark.parametrize(
    "reason", [*Reason, *Caution, *ProblemReason, *StatusReason, *FeatureReason, *ModelReason, REPLICAS_CONTESTED]
)
def test_every_reason_is_in_the_troubleshooting_page(reason: str) -> None:
    assert f"| `{reason}` |" in (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
