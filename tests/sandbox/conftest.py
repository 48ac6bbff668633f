"""One sandbox for all component tests of this directory, and words to talk to it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trtllm_operator.sandbox import Sandbox


class Kubectl:
    """kubectl against one sandbox, as the administrator or with another kubeconfig."""

    def __init__(self, sandbox: Sandbox, kubeconfig: Path) -> None:
        self._command = [str(sandbox.binary("kubectl")), f"--kubeconfig={kubeconfig}"]

    def __call__(self, *arguments: str, stdin: Any = None, code: int = 0) -> str:
        answer = subprocess.run(
            [*self._command, *arguments],
            input=None if stdin is None else json.dumps(stdin),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert answer.returncode == code, answer.stdout + answer.stderr
        return answer.stdout if code == 0 else answer.stderr

    def get(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("get", *arguments, "--output=json"))
        return found

    def apply(self, *manifests: dict[str, Any]) -> None:
        self(
            "apply",
            "--server-side",
            "--filename=-",
            stdin={"apiVersion": "v1", "kind": "List", "items": list(manifests)},
        )


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox.start(audit=True) as started:
        yield started


@pytest.fixture(scope="session")
def kubectl(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    # kubectl caches what it discovers under HOME, or else in the working directory of the test run.
    os.environ["KUBECACHEDIR"] = str(tmp_path_factory.mktemp("kubectl"))
    return Kubectl(sandbox, sandbox.kubeconfig)


@pytest.fixture
def namespace(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.node.originalname.replace("_", "-")[:60].rstrip("-")
    kubectl("create", "namespace", name)
    wait_until(lambda: "default" in kubectl("get", "serviceaccounts", f"--namespace={name}"), 20)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def wait_until(condition: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.1)
    return result


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
