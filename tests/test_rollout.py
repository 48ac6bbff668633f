from __future__ import annotations

from typing import Any

import pytest

from builders import a_spec
from trtllm_operator.api_status import RolloutStatus
from trtllm_operator.rollout import RolloutPlan, rollout_plan, running_plan


def _rolling(surge: int, unavailable: int) -> dict[str, Any]:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


RECREATE = {"type": "Recreate"}


@pytest.mark.parametrize(
    ("stated", "facts", "strategy", "why"),
    [
        pytest.param(None, {}, _rolling(1, 0), "nothing is running", id="first-deployment"),
        pytest.param(None, {"replicas": 0, "headroom": 0}, _rolling(1, 0), "nothing is running", id="scaled-to-zero"),
        pytest.param(None, {"replicas": 1, "headroom": 1}, _rolling(1, 0), "are free", id="room-for-one-more"),
        pytest.param(None, {"replicas": 3, "headroom": 0}, _rolling(0, 1), "2 of 3 replicas", id="one-at-a-time"),
        pytest.param(None, {"replicas": 1, "headroom": 0}, RECREATE, "nothing serves until", id="the-only-one"),
        pytest.param(None, {"replicas": 1, "headroom": 1, "pods": 2}, RECREATE, "not free", id="half-a-group-of-room"),
        pytest.param(None, {"replicas": 1}, _rolling(1, 0), "not known", id="nobody-can-tell"),
        pytest.param(
            None, {"replicas": 1, "headroom": 0, "excluded": True}, _rolling(1, 0), "no node takes", id="no-node-at-all"
        ),
        pytest.param(
            None, {"replicas": 3, "headroom": 0, "excluded": True}, _rolling(1, 0), "goes on", id="no-node-for-many"
        ),
        pytest.param({"strategy": "Auto"}, {"replicas": 1, "headroom": 0}, RECREATE, "not free", id="auto-by-name"),
        pytest.param({"strategy": "Recreate"}, {"replicas": 3, "headroom": 9}, RECREATE, "spec.rollout", id="recreate"),
        pytest.param({"strategy": "RollingUpdate"}, {"replicas": 3}, _rolling(0, 1), "spec.rollout", id="rolling"),
        pytest.param(
            {"strategy": "RollingUpdate", "maxSurge": 2, "maxUnavailable": 0},
            {"replicas": 3},
            _rolling(2, 0),
            "spec.rollout",
            id="rolling-as-stated",
        ),
    ],
)
def test_how_replicas_are_replaced(
    stated: dict[str, Any] | None, facts: dict[str, Any], strategy: dict[str, Any], why: str
) -> None:
    spec = a_spec(**({"rollout": stated} if stated else {}))
    made = rollout_plan(spec.rollout, **facts)
    assert made.strategy == strategy
    assert why in made.why


@pytest.mark.parametrize("strategy", [_rolling(1, 0), _rolling(0, 1), RECREATE])
def test_a_running_strategy_is_read_back(strategy: dict[str, Any]) -> None:
    told = RolloutStatus(strategy="x", reason="told before")
    running = running_plan({"spec": {"strategy": strategy}}, told)
    assert (running.strategy, running.why) == (strategy, "told before")


@pytest.mark.parametrize(
    ("surge", "unavailable", "groups"),
    [
        pytest.param(1, 0, {"maxSurge": 1, "maxUnavailable": 0}, id="one-more"),
        pytest.param(0, 1, {"maxSurge": 0, "maxUnavailable": 1}, id="one-less"),
        pytest.param(None, None, {"maxSurge": 0, "maxUnavailable": "100%"}, id="all-at-once"),
    ],
)
def test_groups_of_pods_are_replaced_alike(surge: int | None, unavailable: int | None, groups: dict[str, Any]) -> None:
    told = RolloutStatus(strategy="x", reason="told before")
    made = RolloutPlan(max_surge=surge, max_unavailable=unavailable, why="told before")
    assert made.group_strategy == {"type": "RollingUpdate", "rollingUpdateConfiguration": groups}
    assert running_plan({"spec": {"rolloutStrategy": made.group_strategy}}, told) == made


def test_a_percentage_was_not_written_by_us() -> None:
    strange = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
    assert running_plan({"spec": {"strategy": strange}}, None).strategy == _rolling(1, 0)
