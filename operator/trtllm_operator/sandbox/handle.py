"""``Sandbox``: starts a sandbox, finds one, talks to it, ends it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from trtllm_operator.hardware import NodeGroup, feature_labels
from trtllm_operator.sandbox import binaries, claim, control, kubeconfig, paths
from trtllm_operator.sandbox.apiserver import Client
from trtllm_operator.sandbox.components import Layout
from trtllm_operator.sandbox.errors import SandboxError
from trtllm_operator.sandbox.spec import SandboxSpec
from trtllm_operator.sandbox.toolsets import KUBERNETES_VERSION

_LOG = logging.getLogger(__name__)

DEFAULT_NODES = ("2x8xNVIDIA-H100-80GB-HBM3",)
# The package may run from a source tree that the caller alone has put on its path.
_SOURCE = str(Path(__file__).parents[2])
_DOWN_SECONDS = 30.0
_START_SECONDS = 60.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentStatus:
    """What is known of one component; ``state`` is running, paused, stopped, or how it exited."""

    name: str
    pid: int
    state: str
    endpoint: str
    healthy: bool
    log: tuple[str, ...]


class Sandbox:
    """One sandbox, started here or found; as a context manager it is taken down at the end of the block."""

    def __init__(self, name: str, process: subprocess.Popen[bytes] | None = None) -> None:
        self.name = name
        self._layout = Layout(paths.state_directory(name))
        self._process = process

    @classmethod
    def start(
        cls,
        *,
        name: str | None = None,
        nodes: Sequence[str] = DEFAULT_NODES,
        port: int | None = None,
        kubernetes_version: str = KUBERNETES_VERSION,
        audit: bool = False,
        operator: bool = False,
        detach: bool = False,
    ) -> Sandbox:
        """Start a sandbox and return when its nodes are Ready.

        It ends with this process, however this process ends, unless ``detach``. Raises ValueError for nodes
        that cannot be, SandboxError for everything else a user can put right. Progress goes to the log.
        """
        for text in nodes:
            feature_labels(NodeGroup.parse(text))
        name = name or f"sandbox-{secrets.token_hex(4)}"
        layout = Layout(paths.state_directory(name))
        _refuse_or_clear(name, layout)
        version = binaries.checked_kubernetes_version(kubernetes_version)
        spec = SandboxSpec(
            name=name,
            directory=str(layout.root),
            nodes=tuple(nodes),
            port=port,
            kubernetes_version=version,
            audit=audit,
            operator=operator,
            detach=detach,
            binaries={tool: str(path) for tool, path in binaries.resolve(version).items()},
        )
        return cls(name, _launch(spec))

    @classmethod
    def find(cls, name: str) -> Sandbox:
        """Return the sandbox of this name, running or dead; raises SandboxError when there is none."""
        found = cls(name)
        if not found._layout.root.is_dir():
            raise SandboxError(f"there is no sandbox {name!r}")
        return found

    @classmethod
    def list(cls) -> tuple[Sandbox, ...]:
        """Return every sandbox that has a state directory, by name."""
        try:
            names = sorted(path.name for path in paths.state_root().iterdir() if path.is_dir())
        except OSError:
            return ()
        return tuple(cls(name) for name in names)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self._layout.kubeconfig

    @property
    def audit_log(self) -> Path:
        """The audit log: lines of JSON, only with ``audit=True``."""
        return self._layout.audit_log

    @property
    def bin(self) -> Path:
        """The directory of the binaries in use, kubectl among them."""
        return self._layout.bin

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return str(claim.read_record(self._layout).get("server", ""))

    @property
    def alive(self) -> bool:
        """Whether its supervisor lives."""
        return claim.is_owned(self._layout)

    def binary(self, name: str) -> Path:
        """Return the binary of one tool: ``kubectl``, ``etcd``, ..."""
        path = self._layout.bin / name
        if not path.exists():
            raise SandboxError(f"sandbox {self.name!r} has no binary {name!r}")
        return path

    def log(self, component: str) -> Path:
        """Return the log of one component."""
        return self._layout.log(component)

    def facts(self) -> dict[str, Any]:
        """Return what the supervisor wrote down: server, Kubernetes version, nodes."""
        return claim.read_record(self._layout)

    def service_account_kubeconfig(self, namespace: str, name: str) -> str:
        """Return a kubeconfig for a service account, with a token of the TokenRequest API."""
        if not self.server:
            raise SandboxError(f"sandbox {self.name!r} is not running")
        token = Client(self._layout).service_account_token(self.server, namespace, name)
        context = f"sandbox-{self.name}"
        return kubeconfig.token_kubeconfig(self.server, self._layout.pki, token, f"{namespace}:{name}", context)

    def status(self) -> tuple[ComponentStatus, ...]:
        """Return the state of every component; all are down when the supervisor is."""
        try:
            components = control.ask(self._layout.socket, "status")["components"]
        except (SandboxError, KeyError):
            gone = {"state": "down", "healthy": False, "log": []}
            components = {
                name: {**facts, **gone} for name, facts in claim.read_record(self._layout).get("components", {}).items()
            }
        return tuple(
            ComponentStatus(name=name, **{**facts, "log": tuple(facts["log"])}) for name, facts in components.items()
        )

    def stop_component(self, name: str) -> None:
        """Kill one component, as a crash would; it stays down until ``start_component``."""
        self._ask("stop", name)

    def start_component(self, name: str) -> None:
        """Start a stopped component and wait until it is healthy."""
        self._ask("start", name)
        _wait(f"{name} is not healthy", lambda: self._healthy(name), _START_SECONDS)

    def pause(self, name: str) -> None:
        """Freeze one component (SIGSTOP): its connections stay open and nothing answers."""
        self._ask("pause", name)

    def resume(self, name: str) -> None:
        """Let a frozen component go on (SIGCONT)."""
        self._ask("resume", name)

    def down(self) -> None:
        """End every process and remove every file; it is no error when the sandbox is down already."""
        with contextlib.suppress(SandboxError):  # a dead supervisor does not answer: then we sweep
            control.ask(self._layout.socket, "down")
        if self._process is not None:
            _close(self._process)
            self._process = None
        _wait(f"sandbox {self.name!r} does not go down", lambda: not self.alive, _DOWN_SECONDS)
        claim.clear(self._layout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def _ask(self, command: str, component: str) -> None:
        control.ask(self._layout.socket, command, component)

    def _healthy(self, name: str) -> bool:
        for component in self.status():
            if component.name == name and component.state.startswith("exited"):
                raise SandboxError(f"{name} {component.state}: {' '.join(component.log)}")
            if component.name == name and component.healthy:
                return True
        return False


def _refuse_or_clear(name: str, layout: Layout) -> None:
    """Refuse a name in use; clear one whose sandbox has lost a component or its supervisor."""
    if not layout.root.exists():
        return
    old = Sandbox(name)
    lost = [component.name for component in old.status() if component.state.startswith("exited")]
    if not old.alive:  # the new supervisor sweeps, under the lock
        _LOG.info("sandbox %r has lost its supervisor: starting anew", name)
    elif lost:
        _LOG.info("sandbox %r has lost %s: starting anew", name, ", ".join(lost))
        old.down()
    else:
        raise SandboxError(f"sandbox {name!r} is running already")


def _launch(spec: SandboxSpec) -> subprocess.Popen[bytes] | None:
    """Start the supervisor and follow its reports until the sandbox is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "trtllm_operator.sandbox.supervisor"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C in the terminal is ours to handle, not the supervisor's
        env={**os.environ, "PYTHONPATH": os.pathsep.join([_SOURCE, *_existing_path()])},
    )
    try:
        _follow(process, spec)
    except BaseException:
        _close(process)
        raise
    if not spec.detach:
        return process
    _send(process, "detach\n")
    _close(process)
    return None


def _existing_path() -> list[str]:
    return list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))


def _follow(process: subprocess.Popen[bytes], spec: SandboxSpec) -> None:
    _send(process, spec.dumps() + "\n")
    for line in process.stdout or ():
        report = json.loads(line)
        match report["event"]:
            case "progress":
                _LOG.info("%s", report["message"])
            case "failed":
                raise SandboxError(report["message"])
            case _:
                return
    raise SandboxError(f"the supervisor of sandbox {spec.name!r} ended before the sandbox was ready")


def _send(process: subprocess.Popen[bytes], text: str) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(text.encode())
            process.stdin.flush()


def _close(process: subprocess.Popen[bytes]) -> None:
    """Let go of the lifeline and wait until the supervisor has ended, or has become independent."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    if process.stdout is not None:
        process.stdout.read()  # the end of its output is the end of the supervisor, whosever child it is
        process.stdout.close()
    process.wait()


def _wait(problem: str, condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SandboxError(f"{problem} after {seconds:.0f} s")
        time.sleep(_POLL_SECONDS)
