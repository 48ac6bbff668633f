"""Nothing outlives a sandbox, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trtllm_operator.sandbox import Sandbox, SandboxError

pytestmark = pytest.mark.component

Wait = Callable[[Callable[[], Any], float], Any]
Processes = Callable[[Path], dict[int, str]]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def run(state: Path, processes: Processes) -> Iterator[Run]:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "trtllm_operator.sandbox", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    yield command
    for pid in processes(state):  # only after a failed test
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def files(state: Path) -> list[Path]:
    return [path for path in state.rglob("*") if not path.is_dir()] if state.exists() else []


def one_error(answer: subprocess.CompletedProcess[str], code: int = 1) -> str:
    assert answer.returncode == code, answer.stdout + answer.stderr
    lines = answer.stderr.splitlines()
    assert "Traceback" not in answer.stderr
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], answer.stderr
    return lines[-1].removeprefix("error: ")


def gone(state: Path, processes: Processes) -> bool:
    return not processes(state) and not files(state)


@pytest.fixture
def start_script() -> list[str]:
    code = (
        "import sys, time\n"
        "from trtllm_operator.sandbox import Sandbox\n"
        "sandbox = Sandbox.start(name='tied')\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    return [sys.executable, "-c", code]


def test_detached_life(run: Run, state: Path, processes: Processes, wait: Wait) -> None:
    directory = state / "trtllm-operator" / "sandboxes" / "default"

    answer = run(
        "up", "--nodes", "1x4xNVIDIA-H200", "--nodes", "2x8xNVIDIA-H100-80GB-HBM3", "--audit", "--with", "inference"
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == [
        f'export KUBECONFIG="{directory}/kubeconfig"',
        f'export PATH="{directory}/bin:$PATH"',
        "kubectl get nodes",
    ]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [path for path in directory.rglob("*.key") if stat.S_IMODE(path.stat().st_mode) != 0o600] == []
    assert run("kubeconfig", "--path").stdout.strip() == f"{directory}/kubeconfig"
    assert run("kubeconfig", "--bin").stdout.strip() == f"{directory}/bin"
    assert run("kubeconfig").stdout == (directory / "kubeconfig").read_text()
    assert "system:serviceaccount" not in run("kubeconfig", "--service-account", "default/default").stdout
    assert one_error(run("kubeconfig", "--service-account", "default/nobody"))
    assert "default  up" in run("list").stdout
    assert one_error(run("up")) == "sandbox 'default' is running already"

    assert run("install", "keda").returncode == 0
    kubectl = [f"{directory}/bin/kubectl", f"--kubeconfig={directory}/kubeconfig", "get", "crds", "--output=name"]
    assert subprocess.check_output(kubectl, text=True).splitlines() == [
        f"customresourcedefinition.apiextensions.k8s.io/{name}"
        for name in (
            "clustertriggerauthentications.keda.sh",
            "inferencepools.inference.networking.k8s.io",
            "scaledobjects.keda.sh",
            "triggerauthentications.keda.sh",
        )
    ]

    status = run("status")
    assert (status.returncode, status.stdout.count("running")) == (0, 5)
    (scheduler,) = [pid for pid, line in processes(state).items() if "/bin/kube-scheduler" in line]
    os.kill(scheduler, signal.SIGKILL)
    wait(lambda: "exited by signal 9" in run("status").stdout, 10)
    assert run("status").returncode == 1

    again = run("up")
    assert again.returncode == 0, again.stderr
    assert "sandbox 'default' has lost kube-scheduler: starting anew" in again.stderr
    assert run("status").returncode == 0

    (supervisor,) = [pid for pid, line in processes(state).items() if "sandbox.supervisor" in line]
    os.kill(supervisor, signal.SIGKILL)
    wait(lambda: not processes(state), 5)
    assert run("status").returncode == 1
    assert "default  dead" in run("list").stdout
    assert run("down").returncode == 0
    assert gone(state, processes)
    assert one_error(run("down")) == "there is no sandbox 'default'"


def test_two_coexist_and_down_leaves_nothing_even_of_the_operator(
    sandbox: Sandbox, kubectl: Any, state: Path, processes: Processes
) -> None:
    with Sandbox.start(name="second", nodes=["1x2xNVIDIA-A100-SXM4-80GB"], audit=True, operator=True) as second:
        assert second.server != sandbox.server
        other = type(kubectl)(second, second.kubeconfig)
        assert len(other.get("nodes")["items"]) == 1
        assert len(kubectl.get("nodes")["items"]) == 2
        assert len(processes(state)) >= 6
        assert [found.name for found in Sandbox.list()] == ["second"]
        assert Sandbox.find("second").server == second.server
        assert [c.name for c in second.status() if c.healthy][-1] == "operator"
        assert '"system:serviceaccount:trtllm-operator-system:trtllm-operator"' in second.audit_log.read_text()
        with pytest.raises(SandboxError, match="'second' is running already"):
            Sandbox.start(name="second")
    assert gone(state, processes)
    assert not (state / "trtllm-operator").exists()
    with pytest.raises(SandboxError, match="there is no sandbox 'second'"):
        Sandbox.find("second")


def test_killed_parent_leaves_nothing(start_script: list[str], state: Path, processes: Processes, wait: Wait) -> None:
    with subprocess.Popen(start_script, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        assert files(state)
        parent.kill()
    wait(lambda: gone(state, processes), 10)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill", "interrupt"])
def test_up_that_dies_half_way_leaves_nothing(
    state: Path, processes: Processes, wait: Wait, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "trtllm_operator.sandbox", "up"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as up:
        wait(lambda: any("kube-apiserver --" in line for line in processes(state).values()), 20)
        up.send_signal(number)
        assert up.stderr is not None
        assert "Traceback" not in up.stderr.read()
    assert up.returncode != 0
    wait(lambda: gone(state, processes), 10)


def test_taken_port_is_one_clear_error(run: Run, state: Path, processes: Processes) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert one_error(run("up", "--port", str(port))) == f"port {port} of 127.0.0.1 is taken"
    assert gone(state, processes)


def test_unwritable_state_directory_is_one_clear_error(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(blocked))
    message = one_error(run("up"))
    assert message == f"cannot create {blocked}/trtllm-operator/sandboxes/default: Not a directory"


def test_component_that_cannot_start_is_one_clear_error(
    run: Run, state: Path, processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    (assets / "etcd").write_text("#!/bin/sh\necho 'panic: disk is on fire'; exit 3\n")
    (assets / "etcd").chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    assert one_error(run("up")) == "etcd exited with 3: panic: disk is on fire"
    assert gone(state, processes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--nodes", "1x8xNVIDIA-H1000"], "not in the catalogue", id="product"),
        pytest.param(["--nodes", "eight"], "is not NODESxGPUSxPRODUCT", id="shape"),
        pytest.param(["--port", "70000"], "70000 is not in the range", id="port"),
        pytest.param(["--with", "keda,istio"], "no add-on 'istio'; there are: lws, keda", id="addon"),
    ],
)
def test_bad_command_line_exits_with_two(run: Run, arguments: list[str], message: str) -> None:
    answer = run("up", *arguments)
    assert answer.returncode == 2
    assert message in answer.stderr


def test_bad_names_are_one_clear_error(run: Run) -> None:
    assert "'../x' is no name for a sandbox" in one_error(run("up", "--name", "../x"))
    assert "'1.36' is no Kubernetes version X.Y.Z" in one_error(run("up", "--kubernetes-version", "1.36"))


def test_bad_nodes_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="not in the catalogue"):
        Sandbox.start(nodes=["1x1xVOODOO"])


def test_record_is_readable_by_other_processes(sandbox: Sandbox) -> None:
    facts = json.loads((sandbox.kubeconfig.parent / "sandbox.json").read_text())
    assert facts["server"] == sandbox.server
    assert facts["nodes"] == ["2x8xNVIDIA-H100-80GB-HBM3"]
    assert set(facts["components"]) == {component.name for component in sandbox.status()}
