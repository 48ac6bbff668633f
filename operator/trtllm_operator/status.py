"""From what was decided and observed to the status users read, and the events that tell how it changed.

``Ready`` is only a summary of the other conditions. ``Reconciling`` and ``Stalled`` are present only while True, so
that kubectl wait, Helm, Flux and Argo CD agree on what is going on (kstatus).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from trtllm_operator.api_status import (
    Condition,
    ConditionType,
    EngineStatus,
    LLMDeploymentStatus,
    PendingPlanStatus,
    WorkloadStatus,
)
from trtllm_operator.approval import APPROVAL_ANNOTATION
from trtllm_operator.capacity import Assessment
from trtllm_operator.download_status import ModelReason
from trtllm_operator.errors import Forbidden, InvalidObject, Leftover, NameConflict, OperatorError
from trtllm_operator.errors import Rejected as RejectedManifest
from trtllm_operator.facts import Observed, Problem
from trtllm_operator.features import FEATURE_CONDITIONS, Features
from trtllm_operator.findings import FeatureReason, Finding, Truth
from trtllm_operator.naming import NAME_LABEL
from trtllm_operator.plan_status import model_status, plan_status
from trtllm_operator.planned import Infeasible, Plan
from trtllm_operator.rollout import RolloutPlan
from trtllm_operator.run_status import capacity_status, last_failure, rollout_status
from trtllm_operator.stored import read_status

_OWN_TYPES = frozenset(kind.value for kind in ConditionType)
_TOLD_BY_EVENTS = (
    ConditionType.PLANNED,
    ConditionType.CAPACITY_AVAILABLE,
    ConditionType.WORKLOAD_READY,
    *FEATURE_CONDITIONS,
    ConditionType.PAUSED,
    ConditionType.READY,
)


class StatusReason(StrEnum):
    """Reasons that are neither the planner's nor a pod's."""

    API_UNAVAILABLE = "APIUnavailable"
    AWAITING_APPROVAL = "AwaitingApproval"
    CHILD_REJECTED = "ChildRejected"
    CREATING = "Creating"
    FORBIDDEN = "Forbidden"
    INVALID_OBJECT = "InvalidObject"
    LEFTOVER = "Leftover"
    NAME_CONFLICT = "NameConflict"
    NOT_APPLIED = "NotApplied"
    PAUSED = "Paused"
    PLAN_SELECTED = "PlanSelected"
    READY = "Ready"
    REPLICAS_READY = "ReplicasReady"
    SCALED_TO_ZERO = "ScaledToZero"
    WAITING_FOR_MODEL = "WaitingForModel"
    WAITING_FOR_PODS = "WaitingForPods"


_PASSING = (
    StatusReason.WAITING_FOR_PODS,
    StatusReason.WAITING_FOR_MODEL,
    StatusReason.CREATING,
    StatusReason.LEFTOVER,
    ModelReason.DOWNLOADING,
)
"""Reasons that are part of a normal start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one pass led to: the verdict when it came that far, what runs, and the error that ended it.

    ``features`` is None when it is not known what the spec asks for; then what was told of them stays.
    ``engine`` goes with a plan that is applied. ``pending`` waits for approval in place of a verdict. ``paused`` passes
    write nothing but this; ``withheld`` says that they would have. ``capacity`` is None when nobody asked, or nobody
    answered, and ``rollout`` when nothing was decided. ``revisit`` is the seconds until more may be
    known of pods that do not start.
    """

    verdict: Plan | Infeasible | None = None
    engine: EngineStatus | None = None
    observed: Observed | None = None
    features: Features | None = None
    pending: PendingPlanStatus | None = None
    capacity: Assessment | None = None
    rollout: RolloutPlan | None = None
    revisit: float | None = None
    paused: bool = False
    withheld: bool = False
    error: OperatorError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A change worth a Kubernetes event.

    ``topic``: what makes it the same as another one of its reason, where the message has numbers that go on changing.
    """

    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    topic: str | None = None


def parse_status(raw: Any) -> LLMDeploymentStatus:
    """Read a stored status; conditions of others are left out."""
    stored = read_status(raw)
    own = tuple(sorted((c for c in stored.conditions if c.type in _OWN_TYPES), key=lambda c: c.type))
    return stored.model_copy(update={"conditions": own})


def status(
    previous: LLMDeploymentStatus, name: str, generation: int, outcome: Outcome, now: datetime
) -> LLMDeploymentStatus:
    """Return the status after one pass. ``now`` is UTC and only dates conditions whose status flipped."""
    planned = _planned(previous, outcome)
    around = _around(previous, outcome)
    workload = (outcome.features and outcome.features.workload) or _held(outcome, around) or _workload(outcome)
    findings = [planned, workload, *around, *_beside(previous, outcome), *_summary(planned, workload, around, outcome)]
    observed = outcome.observed
    verdict = outcome.verdict
    return LLMDeploymentStatus(
        observed_generation=generation,
        conditions=sorted(
            (_dated(finding, previous, generation, now) for finding in findings),
            key=lambda condition: condition.type,
        ),
        url=outcome.features.url if outcome.features else previous.url,
        replicas=observed.replicas if observed else 0,
        ready_replicas=observed.ready if observed else 0,
        selector=f"{NAME_LABEL}={name}",
        ready=f"{observed.ready}/{observed.wanted}" if observed else "0/0",
        model=model_status(verdict.model) if verdict is not None and verdict.model is not None else previous.model,
        plan=plan_status(verdict) if isinstance(verdict, Plan) and not outcome.withheld else previous.plan,
        pending_plan=outcome.pending,
        capacity=capacity_status(previous, outcome.capacity),
        rollout=previous.rollout if outcome.rollout is None else rollout_status(outcome.rollout),
        last_failure=last_failure(previous.last_failure, observed),
        cost=outcome.features.cost if outcome.features else previous.cost,
        engine=outcome.engine or previous.engine,
        workloads=(WorkloadStatus(kind=observed.kind, name=observed.name, ready=observed.settled),) if observed else (),
    )


def transitions(before: LLMDeploymentStatus, after: LLMDeploymentStatus) -> Iterator[Transition]:
    """Yield one event for each change that somebody should hear of: a new plan in place of another, trouble, Ready.

    A first plan and a normal start are told by the status alone: an event is one more write for each object.
    """
    known = {condition.type: condition for condition in before.conditions}
    told = {condition.type: condition for condition in after.conditions}
    for condition in (told[kind] for kind in _TOLD_BY_EVENTS if kind in told):
        old = known.get(condition.type)
        changed = old is None or (old.status, old.reason) != (condition.status, condition.reason)
        if condition.type == ConditionType.PLANNED and before.plan and after.plan:
            changed = changed or before.plan.id != after.plan.id
        if not changed or _goes_without_saying(condition, old):
            continue
        kind: Literal["Normal", "Warning"] = "Warning" if condition.status == "False" else "Normal"
        yield Transition(type=kind, reason=condition.reason, message=condition.message)


def _goes_without_saying(condition: Condition, old: Condition | None) -> bool:
    """Whether it is part of a normal start, or another condition tells the same.

    Ready=False copies its cause, Ready=True covers the workload's, and an unknown feature is only on its way.
    """
    if condition.type == ConditionType.READY:
        return condition.status != "True"
    if condition.type == ConditionType.CAPACITY_AVAILABLE:
        return condition.status != "False"
    if condition.type == ConditionType.WORKLOAD_READY:
        return condition.status == "True" or condition.reason in (*_PASSING, StatusReason.NOT_APPLIED)
    if condition.type in FEATURE_CONDITIONS and (condition.status == "Unknown" or condition.reason in _PASSING):
        return True
    return condition.status == "True" and old is None and condition.type != ConditionType.PAUSED


def _planned(previous: LLMDeploymentStatus, outcome: Outcome) -> Finding:
    verdict = outcome.verdict
    if outcome.pending is not None:
        return Finding(
            type=ConditionType.PLANNED,
            status="False",
            reason=StatusReason.AWAITING_APPROVAL,
            message=f"plan {outcome.pending.id} waits for approval, and what runs keeps running: "
            f"{'; '.join(outcome.pending.changes)}; to apply it, annotate the object with "
            f"{APPROVAL_ANNOTATION}={outcome.pending.id}",
        )
    if isinstance(verdict, Plan):
        return Finding(
            type=ConditionType.PLANNED,
            status="True",
            reason=StatusReason.PLAN_SELECTED,
            message=verdict.summary,
        )
    if isinstance(verdict, Infeasible):
        return Finding(type=ConditionType.PLANNED, status="False", reason=verdict.reason, message=verdict.message)
    if isinstance(outcome.error, InvalidObject):
        return Finding(
            type=ConditionType.PLANNED,
            status="False",
            reason=StatusReason.INVALID_OBJECT,
            message=str(outcome.error),
        )
    old = next((c for c in previous.conditions if c.type == ConditionType.PLANNED), None)
    if old is not None:
        return Finding(type=ConditionType.PLANNED, status=old.status, reason=old.reason, message=old.message)
    return Finding(
        type=ConditionType.PLANNED,
        status="Unknown",
        reason=StatusReason.API_UNAVAILABLE,
        message=str(outcome.error),
    )


def _held(outcome: Outcome, around: tuple[Finding, ...]) -> Finding | None:
    """Return that the workload waits for the model, where nothing else keeps it from being applied."""
    if outcome.error is not None or outcome.withheld or not isinstance(outcome.verdict, Plan):
        return None
    if all(finding.status == "True" for finding in around if finding.type == ConditionType.MODEL_READY):
        return None
    return Finding(
        type=ConditionType.WORKLOAD_READY,
        status="False",
        reason=StatusReason.WAITING_FOR_MODEL,
        message=f"the spec is applied when the model is there, and holds no GPU until then; {_running(outcome)}",
    )


def _running(outcome: Outcome) -> str:
    observed = outcome.observed
    return f"{observed.ready}/{observed.wanted} replicas ready" if observed else "nothing runs"


def _workload(outcome: Outcome) -> Finding:
    def finding(truth: Truth, reason: str, message: str) -> Finding:
        return Finding(type=ConditionType.WORKLOAD_READY, status=truth, reason=reason, message=message)

    observed = outcome.observed
    if outcome.error is not None and not isinstance(outcome.error, InvalidObject):
        return finding("False", _error_reason(outcome.error), str(outcome.error))
    running = _running(outcome)
    if outcome.withheld or not isinstance(outcome.verdict, Plan):
        reason = StatusReason.PAUSED if outcome.withheld else StatusReason.NOT_APPLIED
        return finding("False", reason, f"the spec is not applied; {running}")
    if observed is None:
        return finding("False", StatusReason.CREATING, "the objects are being created")
    if observed.settled:
        return finding("True", StatusReason.REPLICAS_READY if observed.wanted else StatusReason.SCALED_TO_ZERO, running)
    if observed.problem is not None:
        return finding("False", observed.problem.reason, f"{running}; {_explained(observed.problem, outcome)}"[:4096])
    return finding("False", StatusReason.WAITING_FOR_PODS, running)


def _explained(problem: Problem, outcome: Outcome) -> str:
    """Add the arithmetic to the scheduler's words."""
    short = outcome.capacity is not None and outcome.capacity.available is False
    return f"{problem.message}; {outcome.capacity.message}" if short and outcome.capacity else problem.message


def _beside(previous: LLMDeploymentStatus, outcome: Outcome) -> Iterator[Finding]:
    """Yield what is told beside the plan and the workload and does not decide about Ready."""
    known = next((c for c in previous.conditions if c.type == ConditionType.CAPACITY_AVAILABLE), None)
    if outcome.capacity is not None:
        answers: dict[bool | None, Truth] = {True: "True", False: "False", None: "Unknown"}
        yield Finding(
            type=ConditionType.CAPACITY_AVAILABLE,
            status=answers[outcome.capacity.available],
            reason=outcome.capacity.reason,
            message=outcome.capacity.message,
        )
    elif known is not None:
        yield Finding(
            type=ConditionType.CAPACITY_AVAILABLE, status=known.status, reason=known.reason, message=known.message
        )
    if outcome.paused:
        yield Finding(
            type=ConditionType.PAUSED,
            status="True",
            reason=StatusReason.PAUSED,
            message="spec.paused is true: nothing but this status is changed",
        )


def _around(previous: LLMDeploymentStatus, outcome: Outcome) -> tuple[Finding, ...]:
    if outcome.features is not None:
        return outcome.features.findings
    return tuple(
        Finding(type=ConditionType(old.type), status=old.status, reason=old.reason, message=old.message)
        for old in previous.conditions
        if old.type in FEATURE_CONDITIONS
    )


def _error_reason(error: OperatorError) -> StatusReason:
    for kind, reason in (
        (NameConflict, StatusReason.NAME_CONFLICT),
        (Leftover, StatusReason.LEFTOVER),
        (Forbidden, StatusReason.FORBIDDEN),
        (RejectedManifest, StatusReason.CHILD_REJECTED),
    ):
        if isinstance(error, kind):
            return reason
    return StatusReason.API_UNAVAILABLE


def _summary(planned: Finding, workload: Finding, around: tuple[Finding, ...], outcome: Outcome) -> Iterator[Finding]:
    model = tuple(finding for finding in around if finding.type == ConditionType.MODEL_READY)
    deciding = (planned, workload, *model) if outcome.error else (planned, *model, workload)
    failed = next((finding for finding in deciding if finding.status != "True"), None)
    if failed is None:
        reason = StatusReason.SCALED_TO_ZERO if workload.reason == StatusReason.SCALED_TO_ZERO else StatusReason.READY
        unmet = [f"{finding.type} is False ({finding.reason})" for finding in around if finding.status == "False"]
        message = "; ".join([workload.message, *unmet])
        yield Finding(type=ConditionType.READY, status="True", reason=reason, message=message)
        return
    yield Finding(type=ConditionType.READY, status="False", reason=failed.reason, message=failed.message)
    needs_human = (
        planned.status == "False"
        or outcome.withheld
        or workload.reason == FeatureReason.API_MISSING
        or failed.reason == ModelReason.DOWNLOAD_FAILED
        or isinstance(outcome.error, (NameConflict, RejectedManifest))
    )
    kind = ConditionType.STALLED if needs_human else ConditionType.RECONCILING
    yield Finding(type=kind, status="True", reason=failed.reason, message=failed.message)


def _dated(finding: Finding, previous: LLMDeploymentStatus, generation: int, now: datetime) -> Condition:
    old = next((c for c in previous.conditions if c.type == finding.type), None)
    flipped = old is None or old.status != finding.status
    return Condition(
        type=finding.type,
        status=finding.status,
        reason=finding.reason,
        message=finding.message[:4096],
        last_transition_time=now.strftime("%Y-%m-%dT%H:%M:%SZ") if flipped or old is None else old.last_transition_time,
        observed_generation=generation,
    )
