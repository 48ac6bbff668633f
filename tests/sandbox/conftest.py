"""Words to talk to a sandbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane import Kubectl, fresh_namespace, wait_until
from trtllm_operator.sandbox import Sandbox


@pytest.fixture(scope="session")
def kubectl(sandbox: Sandbox) -> Kubectl:
    return Kubectl(sandbox, sandbox.kubeconfig)


@pytest.fixture
def namespace(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.node.originalname.replace("_", "-")[:60].rstrip("-")
    with fresh_namespace(kubectl, name):
        yield name


def processes_of(directory: Path) -> dict[int, str]:
    """Every process whose command line or environment names the directory."""
    mark, found = str(directory).encode(), {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        if mark in command or mark in environment:
            found[int(process.name)] = command.replace(b"\0", b" ").decode()
    return found


@pytest.fixture(scope="session")
def wait() -> Callable[[Callable[[], Any], float], Any]:
    return wait_until


@pytest.fixture(scope="session")
def processes() -> Callable[[Path], dict[int, str]]:
    return processes_of
