"""The registry is complete, and the page says what it holds."""

from __future__ import annotations

import pytest

from scenarios import record
from scenarios.page import page
from scenarios.registry import COUNT, SCENARIOS, load, plays, waiting
from support import ROOT

load()
PAGE = ROOT / "docs" / "reliability.md"


def test_every_scenario_is_played_or_says_what_it_waits_for() -> None:
    numbers = [one.number for one in SCENARIOS] + [one.number for one in waiting()]
    assert sorted(numbers) == list(range(1, COUNT + 1))


def test_what_is_recorded_is_what_is_played() -> None:
    played = {f"{one.number}/{variant}" if variant else str(one.number) for one, variant in plays()}
    assert set(record.load()) <= played


def test_gates_name_variants() -> None:
    wrong = [one.number for one in SCENARIOS if not set(one.gate) <= set(one.variants or ("",))]
    assert wrong == []


def test_the_page_is_what_the_registry_says(request: pytest.FixtureRequest) -> None:
    text = page(record.load())
    if request.config.getoption("--update"):
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text, "run `make update` and read the diff"
