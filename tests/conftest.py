"""What every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import truth
from support import TOLD, Golden
from trtllm_operator.sandbox import ADDONS, Sandbox


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite the goldens; then read the diff")
    parser.addoption("--fuzz", type=int, metavar="COUNT", help="try that many new generated objects")
    parser.addoption("--truth", type=Path, help="a CSV of sourced rows to hold the planner against")
    parser.addoption("--record", action="store_true", help="write the outcomes of the scenarios down")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    agreements = config.stash.get(truth.AGREEMENTS, [])
    if agreements:
        terminalreporter.section("the planner against sourced rows")
        for line in truth.summary(agreements):
            terminalreporter.write_line(line)
    for line in config.stash.get(TOLD, []):
        terminalreporter.write_line(line)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.config.getoption("--update"))


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One control plane for all component tests, with every add-on, and the operator under the rights of a cluster."""
    # kubectl caches what it discovers under HOME, or else in the working directory of the test run.
    os.environ["KUBECACHEDIR"] = str(tmp_path_factory.mktemp("kubectl"))
    with Sandbox.start(operator=True, audit=True, addons=ADDONS) as started:
        yield started
        log = started.log("operator").read_text(encoding="utf-8")
    assert "Traceback" not in log, log
