"""Words to talk to a sandbox."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane import wait_until
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
def kubectl(sandbox: Sandbox) -> Kubectl:
    return Kubectl(sandbox, sandbox.kubeconfig)


@pytest.fixture
def namespace(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.node.originalname.replace("_", "-")[:60].rstrip("-")
    kubectl("create", "namespace", name)
    wait_until(lambda: "default" in kubectl("get", "serviceaccounts", f"--namespace={name}"), 20)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


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
