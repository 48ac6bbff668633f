from __future__ import annotations

from dataclasses import replace

import pytest

from builders import a_plan, a_spec
from trtllm_operator.approval import APPROVAL_ANNOTATION, pending_plan
from trtllm_operator.plan_status import plan_status
from trtllm_operator.rollout import rollout_plan

FOUR, EIGHT = a_plan(a_spec(gpus={"count": 4})), a_plan(a_spec(gpus={"count": 8}))
ROLLOUT = rollout_plan(None, replicas=1, headroom=0)


def test_a_plan_that_waits_says_what_changes_and_what_that_does() -> None:
    pending = pending_plan(plan_status(FOUR), EIGHT, {}, ROLLOUT, 1)
    assert pending is not None
    assert (pending.id, pending.summary) == (EIGHT.id, EIGHT.summary)
    assert pending.changes[:2] == ("gpus 4 -> 8", "tensor 4 -> 8")
    assert pending.impact == (
        "replaces 1 replica of 4 GPUs by as many of 8, by Recreate: the GPUs of a further replica are not free: "
        "nothing serves until the new replica has loaded"
    )


@pytest.mark.parametrize(
    "annotations",
    [
        pytest.param({}, id="none"),
        pytest.param({APPROVAL_ANNOTATION: FOUR.id}, id="of-the-plan-in-force"),
        pytest.param({APPROVAL_ANNOTATION: ""}, id="empty"),
        pytest.param({APPROVAL_ANNOTATION: "true"}, id="no-id"),
    ],
)
def test_nothing_but_its_own_id_approves_a_plan(annotations: dict[str, str]) -> None:
    assert pending_plan(plan_status(FOUR), EIGHT, annotations, ROLLOUT, 1) is not None


def test_an_approved_plan_does_not_wait() -> None:
    assert pending_plan(plan_status(FOUR), EIGHT, {APPROVAL_ANNOTATION: EIGHT.id}, ROLLOUT, 1) is None


def test_the_first_plan_and_the_plan_in_force_do_not_wait() -> None:
    assert pending_plan(None, FOUR, {}, ROLLOUT, 0) is None
    assert pending_plan(plan_status(FOUR), FOUR, {}, ROLLOUT, 1) is None


def test_an_id_that_changes_nothing_served_does_not_wait() -> None:
    assert pending_plan(plan_status(FOUR), replace(FOUR, id="deadbeef"), {}, ROLLOUT, 1) is None
