from __future__ import annotations

import time

import pytest

from trtllm_operator import lifecycle
from trtllm_operator.connection import Connection
from trtllm_operator.lifecycle import CLOCK_TOLERANCE, RESYNC_STEPS, Operator, Options, due
from trtllm_operator.settings import Settings
from trtllm_operator.workqueue import Key


def _operator() -> Operator:
    return Operator(Connection("http://127.0.0.1:1"), Settings(), Options())


@pytest.mark.parametrize(
    ("jump", "told"),
    [
        pytest.param(0, False, id="steady"),
        pytest.param(CLOCK_TOLERANCE - 10, False, id="tolerated"),
        pytest.param(CLOCK_TOLERANCE + 10, True, id="ahead"),
        pytest.param(-CLOCK_TOLERANCE - 10, True, id="behind"),
    ],
)
async def test_a_clock_that_jumped_is_not_healthy(monkeypatch: pytest.MonkeyPatch, jump: float, told: bool) -> None:
    operator, real = _operator(), time.time
    monkeypatch.setattr(lifecycle.time, "time", lambda: real() + jump)
    assert ("the clock has jumped" in " ".join(operator._problems())) == told


async def test_a_standby_is_ready_and_a_leader_once_it_has_listed_everything() -> None:
    operator = _operator()
    assert operator._unready() == ["llmdeployments.trtllm.dev is not served"]
    operator._standby = True
    assert operator._unready() == []
    operator._leading = True
    assert "pods not listed yet" in operator._unready()


def test_every_object_has_its_turn_once_in_a_period() -> None:
    keys = [Key("team", f"llama-{number}") for number in range(1000)]
    turns = [due(keys, step) for step in range(RESYNC_STEPS)]
    assert sorted(key for turn in turns for key in turn) == sorted(keys)
    assert max(map(len, turns)) < 50, "spread, so that nothing is visited in one go"
