"""A plan that replaces the one in force may need somebody's word first: what would change, and what that does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trtllm_operator.api_plan_status import PendingPlanStatus, PlanStatus
from trtllm_operator.naming import GROUP
from trtllm_operator.plan_status import SERVED, plan_status
from trtllm_operator.planned import Plan
from trtllm_operator.rollout import RolloutPlan

APPROVAL_ANNOTATION = f"{GROUP}/approve-plan"
"""Holds the id of the plan that may replace the one in force."""


def pending_plan(
    current: PlanStatus | None, made: Plan, annotations: Mapping[str, str], rollout: RolloutPlan, replicas: int
) -> PendingPlanStatus | None:
    """Return the plan that waits, or None when it may be applied.

    It may when it is the first, when it was approved by its id, or when it changes nothing that is served.
    """
    wanted = plan_status(made)
    if current is None or wanted.id in (current.id, annotations.get(APPROVAL_ANNOTATION)):
        return None
    changes = tuple(_changes(current, wanted))
    if not changes:
        return None
    return PendingPlanStatus(
        id=wanted.id, summary=wanted.summary, changes=changes, impact=_impact(current, wanted, rollout, replicas)
    )


def _changes(current: PlanStatus, wanted: PlanStatus) -> Iterator[str]:
    names = PlanStatus.model_fields
    for field in SERVED:
        before, after = getattr(current, field), getattr(wanted, field)
        if before != after:
            yield f"{names[field].alias} {_text(before)} -> {_text(after)}"


def _text(value: object) -> str:
    if value is None or value == ():
        return "none"
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _impact(current: PlanStatus, wanted: PlanStatus, rollout: RolloutPlan, replicas: int) -> str:
    count = "1 replica" if replicas == 1 else f"{replicas} replicas"
    return (
        f"replaces {count} of {current.gpus} GPUs by as many of {wanted.gpus}, by {rollout.name.value}: {rollout.why}"
    )
