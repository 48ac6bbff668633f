"""Recording the outcomes."""

from __future__ import annotations

import pytest

from scenarios.record import Record


@pytest.fixture(scope="session")
def record(request: pytest.FixtureRequest) -> Record:
    return Record(kept=request.config.getoption("--record"))
