"""Plays the registry."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faults.stand import Stand
from scenarios.record import Record
from scenarios.registry import Scenario, load, plays
from trtllm_operator.sandbox import ADDONS, Sandbox

load()


def _parameters() -> Iterator[object]:
    for one, variant in plays():
        name = f"{one.number:03}-{one.play.__name__}" + (f"-{variant}" if variant else "")
        yield pytest.param(
            one, variant, id=name, marks=pytest.mark.gate if variant in one.gate else pytest.mark.scenario
        )


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    nodes = ("8x8xNVIDIA-H100-80GB-HBM3",)
    with Sandbox.start(operator=True, audit=True, nodes=nodes, addons=ADDONS) as sandbox:
        made = Stand(sandbox, tmp_path_factory.mktemp("stand"))
        yield made
        made.close()


@pytest.mark.component
@pytest.mark.parametrize(("one", "variant"), list(_parameters()))
def test_scenario(stand: Stand, record: Record, one: Scenario, variant: str) -> None:
    with record.outcome(one.number, variant):
        one.run(stand, variant)
