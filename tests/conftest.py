"""What every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from support import Golden
from trtllm_operator.sandbox import Sandbox


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite the goldens; then read the diff")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.config.getoption("--update"))


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One control plane for all component tests, with the operator under the rights it has in a cluster."""
    # kubectl caches what it discovers under HOME, or else in the working directory of the test run.
    os.environ["KUBECACHEDIR"] = str(tmp_path_factory.mktemp("kubectl"))
    with Sandbox.start(operator=True, audit=True) as started:
        yield started
        log = started.log("operator").read_text(encoding="utf-8")
    assert "Traceback" not in log, log
