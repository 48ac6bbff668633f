"""``Sandbox``: starts a sandbox, finds one, talks to it, ends it."""

from __future__ import annotations

import contextlib
import logging
import secrets
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from trtllm_operator.hardware import NodeGroup, feature_labels
from trtllm_operator.sandbox import binaries, claim, control, kubeconfig, lws, paths
from trtllm_operator.sandbox.addons import checked_addons, install_crds
from trtllm_operator.sandbox.apiserver import Client
from trtllm_operator.sandbox.components import Layout
from trtllm_operator.sandbox.errors import SandboxError
from trtllm_operator.sandbox.launch import close, launch
from trtllm_operator.sandbox.process import free_ports
from trtllm_operator.sandbox.spec import SandboxSpec
from trtllm_operator.sandbox.toolsets import KUBERNETES_VERSION, LWS_CONTROLLER

_LOG = logging.getLogger(__name__)

DEFAULT_NODES = ("2x8xNVIDIA-H100-80GB-HBM3",)
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
    def start(  # noqa: PLR0913 - one keyword for each option of the command line
        cls,
        *,
        name: str | None = None,
        nodes: Sequence[str] = DEFAULT_NODES,
        addons: Collection[str] = (),
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
        wanted = checked_addons(addons)
        spec = SandboxSpec(
            name=name,
            directory=str(layout.root),
            nodes=tuple(nodes),
            addons=wanted,
            port=port,
            kubernetes_version=version,
            audit=audit,
            operator=operator,
            detach=detach,
            binaries={tool: str(path) for tool, path in binaries.resolve(version, wanted).items()},
        )
        return cls(name, launch(spec))

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

    def install(self, name: str) -> None:
        """Install an add-on and wait until it works; it is no error when it is installed already."""
        (addon,) = checked_addons([name])
        if not self.alive:
            raise SandboxError(f"sandbox {self.name!r} is not running")
        install_crds([addon], self._kubectl, self._layout.temporary)
        if addon == "lws":
            self._install_lws()

    def _install_lws(self) -> None:
        if LWS_CONTROLLER in {component.name for component in self.status()}:
            self.start_component(LWS_CONTROLLER)
            return
        for tool, path in binaries.resolve_addons(["lws"]).items():
            (self.bin / tool).unlink(missing_ok=True)  # an earlier attempt may have failed after this
            (self.bin / tool).symlink_to(path)
        webhook_port, probe_port = free_ports(2)
        controller = lws.prepare_controller(
            self._kubectl,
            Client(self._layout),
            self.server,
            self._layout,
            webhook_port=webhook_port,
            probe_port=probe_port,
        )
        control.ask(self._layout.socket, "run", controller.name, asdict(controller))
        _wait(f"{controller.name} is not healthy", lambda: self._healthy(controller.name), _START_SECONDS)

    def _kubectl(self, *arguments: str) -> None:
        command = [str(self.binary("kubectl")), f"--kubeconfig={self.kubeconfig}", *arguments]
        environment = {"HOME": str(self._layout.temporary)}
        try:
            subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_START_SECONDS, check=True)
        except subprocess.CalledProcessError as error:
            raise SandboxError(f"kubectl {arguments[0]} failed: {' '.join(error.stderr.split())}") from error
        except subprocess.TimeoutExpired as error:
            raise SandboxError(f"kubectl {arguments[0]} has not ended after {_START_SECONDS:.0f} s") from error

    def down(self) -> None:
        """End every process and remove every file; it is no error when the sandbox is down already."""
        with contextlib.suppress(SandboxError):  # a dead supervisor does not answer: then we sweep
            control.ask(self._layout.socket, "down")
        if self._process is not None:
            close(self._process)
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


def _wait(problem: str, condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SandboxError(f"{problem} after {seconds:.0f} s")
        time.sleep(_POLL_SECONDS)
