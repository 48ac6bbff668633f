"""The planner against every sourced row in tests/data/planner, or in the file given by --truth."""

from __future__ import annotations

from pathlib import Path

import pytest

import truth


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    given: Path | None = metafunc.config.getoption("--truth")
    files = [given] if given else sorted(truth.DIRECTORY.glob("*.csv"))
    if "row" in metafunc.fixturenames:
        known = [row for file in files for row in truth.rows(file)]
        metafunc.parametrize("row", known, ids=[row.id for row in known])


def test_the_planner_agrees(row: truth.Row, pytestconfig: pytest.Config) -> None:
    agreement = truth.compare(row)
    pytestconfig.stash.setdefault(truth.AGREEMENTS, []).append(agreement)
    assert agreement.agrees, f"{row.text}\n-> {agreement.answer}"
