"""What runs and what it waits for, as users read it in the status: capacity, rollout and the last failure."""

from __future__ import annotations

from dataclasses import asdict

from trtllm_operator.api_status import (
    CapacityStatus,
    ConditionType,
    FailureStatus,
    LLMDeploymentStatus,
    RolloutStatus,
)
from trtllm_operator.capacity import Assessment
from trtllm_operator.facts import Observed
from trtllm_operator.rollout import RolloutPlan


def capacity_status(previous: LLMDeploymentStatus, assessment: Assessment | None) -> CapacityStatus | None:
    """Return the GPUs there were when it last mattered: while there are enough, pods of others change nothing here."""
    enough = any(c.type == ConditionType.CAPACITY_AVAILABLE and c.status == "True" for c in previous.conditions)
    if assessment is None or assessment.matching_nodes is None:
        return previous.capacity
    if assessment.available and enough and previous.capacity is not None:
        return previous.capacity
    return CapacityStatus(
        matching_nodes=assessment.matching_nodes,
        free_gpus=assessment.free,
        largest_free_block=assessment.largest_block,
        quota=assessment.quota,
    )


def rollout_status(rollout: RolloutPlan) -> RolloutStatus:
    """Return how replicas are replaced, and why so."""
    return RolloutStatus(
        strategy=rollout.name,
        max_surge=rollout.max_surge,
        max_unavailable=rollout.max_unavailable,
        reason=rollout.why,
    )


def last_failure(previous: FailureStatus | None, observed: Observed | None) -> FailureStatus | None:
    """Return the newest failure known: pods come and go, and what ended one stays told."""
    if observed is None or observed.failure is None:
        return previous
    if previous is not None and (previous.time or "") > (observed.failure.time or ""):
        return previous
    return FailureStatus(**asdict(observed.failure))
