"""The stand: one sandbox for many scenes, each with a namespace, a proxy and an operator of its own."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from control_plane import Cluster, Manifest, Namespace, an_llm_deployment, fresh_namespace, wait_until
from faults.operator_process import OperatorProcess
from faults.proxy import Armed, Proxy
from faults.rules import WRITES, EventFault, On, RequestFault, Rule
from faults.trace import Trace
from trtllm_operator.connection import Connection
from trtllm_operator.kinds import LEASE
from trtllm_operator.rbac import LEADER_ROLE, leader_role
from trtllm_operator.sandbox import Sandbox
from trtllm_operator.sandbox.kubeconfig import token_kubeconfig

Result = TypeVar("Result")

OPERATOR_NAMESPACE = "trtllm-operator-system"
ACCOUNT = "trtllm-operator"
OPERATOR_USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{ACCOUNT}"


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stand", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result], seconds: float = 30) -> Result:
        """Run to the end and return the result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class AuditLog:
    """What the operators did, by namespace; reads on from where it was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._entries: defaultdict[str, list[Manifest]] = defaultdict(list)
        self._lock = threading.Lock()

    def of(self, namespace: str) -> list[Manifest]:
        with self._lock, self._path.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                entry = json.loads(line)
                if entry["user"]["username"] == OPERATOR_USER:
                    self._entries[entry.get("objectRef", {}).get("namespace", "")].append(entry)
            return list(self._entries[namespace])


class Replica:
    """One operator process behind a proxy of its own, which marks its requests in the audit log by its name.

    ``python`` runs its module, in this ``environment`` besides ours; the proxy listens on ``host``.
    """

    def __init__(
        self,
        stand: Stand,
        namespace: str,
        directory: Path,
        name: str,
        *arguments: str,
        python: Sequence[str] = (sys.executable,),
        host: str = "127.0.0.1",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._loop = stand.loop
        self.proxy = Proxy(stand.sandbox.server, stand.tls, directory / name, user_agent=name, host=host)
        self._loop.run(self.proxy.start())
        kubeconfig = directory / f"{name}.kubeconfig"
        kubeconfig.write_text(stand.operator_kubeconfig(self.proxy.url, self.proxy.pki), encoding="utf-8")
        log = directory / f"{name}.log"
        self.process = OperatorProcess(
            kubeconfig, namespace, log, *arguments, name=name, python=python, environment=environment
        )
        self.proxy.kill = self.process.kill

    def start(self, *, wait: bool = True) -> None:
        """Start the process, or start it again."""
        self._loop.run(self.proxy.revive())
        self.process.start(wait=wait)

    def arm(self, on: On, do: RequestFault | EventFault, *, skip: int = 0, times: int | None = 1) -> Armed:
        """Put a rule to work."""
        return self.proxy.arm(Rule(on=on, do=do, skip=skip, times=times))

    def cut(self, *resources: str) -> None:
        """Break the open watches of these resources, or all."""
        self._loop.run(self.proxy.cut(*resources))

    @property
    def requests(self) -> int:
        """How many requests it has sent so far, but for those that come again by themselves: watches and renewals."""
        asked = (exchange.request for exchange in list(self.proxy.exchanges))
        return sum(request.verb != "watch" and request.resource != LEASE.plural for request in asked)

    def close(self) -> None:
        self.process.end()
        self._loop.run(self.proxy.stop())


class Scene:
    """One namespace, the operator that serves it, the proxy between them, and the trace of what happened.

    ``elected``: every operator of the scene works only while it holds a Lease in the namespace.
    """

    def __init__(self, stand: Stand, namespace: Namespace, directory: Path, *, elected: bool) -> None:
        self.stand = stand
        self.namespace = namespace
        self._directory = directory
        self._elected = elected
        self.trace = Trace(Connection.from_kubeconfig(stand.sandbox.kubeconfig), namespace.name)
        stand.loop.run(self.trace.start())
        self.replicas: list[Replica] = []
        self.first = self.replica("operator")

    @property
    def operator(self) -> OperatorProcess:
        """The process of the first operator."""
        return self.first.process

    @property
    def proxy(self) -> Proxy:
        """The proxy of the first operator."""
        return self.first.proxy

    def replica(self, name: str, *arguments: str, **process: Any) -> Replica:
        """Return a further operator for the same namespace, not started yet; ``process``: see ``Replica``."""
        namespace = self.namespace.name
        election = ("--leader-elect", f"--pod-name={name}", f"--pod-namespace={namespace}") if self._elected else ()
        made = Replica(self.stand, namespace, self._directory, name, *election, *arguments, **process)
        self.replicas.append(made)
        return made

    def arm(self, on: On, do: RequestFault | EventFault, *, skip: int = 0, times: int | None = 1) -> Armed:
        """Put a rule to work."""
        return self.first.arm(on, do, skip=skip, times=times)

    def disarm(self, *armed: Armed) -> None:
        """End rules, and with them what they hold up."""
        for one in armed:
            self.stand.loop.run(self.proxy.disarm(one))

    def until_fired(self, armed: Armed, times: int = 1, seconds: float = 30) -> None:
        """Wait until a rule has fired this often."""
        wait_until(lambda: armed.fired >= times, seconds, what=lambda: f"{armed.rule} fired {armed.fired} times")

    def cut(self, *resources: str) -> None:
        """Break the open watches of these resources, or all."""
        self.first.cut(*resources)

    def start(self, *, wait: bool = True) -> None:
        """Start the operator, or start it again."""
        self.first.start(wait=wait)

    def restart(self) -> None:
        """Kill the operator and start it again."""
        self.operator.end()
        self.start()

    def quiet(self, seconds: float = 1.5, *, within: float = 60.0) -> None:
        """Wait until nothing in the namespace has changed and the operator has asked nothing for that long."""
        polled: list[tuple[float, int]] = [(time.monotonic(), self.requests)]

        def still() -> bool:
            if polled[0][1] != self.requests:
                polled[0] = (time.monotonic(), self.requests)
            return time.monotonic() - max(polled[0][0], self.trace.last_change) >= seconds

        wait_until(still, within, what=lambda: f"requests: {self.proxy.exchanges[-5:]}")

    @property
    def requests(self) -> int:
        """How many requests the operators have sent so far, but for those that come again by themselves."""
        return sum(replica.requests for replica in self.replicas)

    def audit(self) -> list[Manifest]:
        """What the operator did in this namespace, as the API server logged it."""
        return self.stand.audit.of(self.namespace.name)

    def audit_writes(self) -> list[Manifest]:
        """What the operator wrote in this namespace."""
        return [entry for entry in self.audit() if entry["verb"] in WRITES]

    def close(self) -> None:
        for replica in self.replicas:
            replica.close()
        self.stand.loop.run(self.trace.stop())


class Stand:
    """One sandbox and an event loop for every scene on it."""

    def __init__(self, sandbox: Sandbox, directory: Path) -> None:
        self.sandbox = sandbox
        self.cluster = Cluster(sandbox)
        self.loop = Loop()
        self.audit = AuditLog(sandbox.audit_log)
        self._directory = directory
        self._references: dict[str, Manifest] = {}
        self._one_reference = threading.Lock()
        # The sandbox has installed the CRD, the account and the rights; the operators here are our own.
        sandbox.stop_component("operator")
        admin = yaml.safe_load(sandbox.kubeconfig.read_text(encoding="utf-8"))
        self.tls = _trust(admin)
        self._token = _token(sandbox.service_account_kubeconfig(OPERATOR_NAMESPACE, ACCOUNT))

    def operator_kubeconfig(self, server: str, pki: Path) -> str:
        """Return the kubeconfig of an operator behind a proxy."""
        return token_kubeconfig(server, pki, self._token, ACCOUNT, "faults")

    @contextmanager
    def scene(self, name: str, *, started: bool = True, elected: bool = False) -> Iterator[Scene]:
        """Open a scene; ``started`` with its operator running."""
        name = f"{name[:50].strip('-')}-{os.urandom(2).hex()}"
        directory = self._directory / name
        directory.mkdir(parents=True)
        with fresh_namespace(self.cluster.kubectl, name):
            namespace = Namespace(self.cluster, name)
            if elected:
                namespace.apply(leader_role(name), _leader_binding())
            scene = Scene(self, namespace, directory, elected=elected)
            try:
                if started:
                    scene.start()
                yield scene
            finally:
                scene.close()

    def reference(
        self, name: str, spec: Manifest, snapshot: Callable[[Scene, str], Manifest], *, ready: bool
    ) -> Manifest:
        """Return what a fault-free create of this spec ends in, ``ready`` or not; each is made once."""
        key = json.dumps([name, spec], sort_keys=True)
        with self._one_reference:
            if key not in self._references:
                with self.scene("reference") as scene:
                    scene.namespace.kubectl("create", "--filename=-", stdin=an_llm_deployment(name, **spec))
                    if ready:
                        scene.namespace.ready(name)
                    scene.quiet()
                    self._references[key] = snapshot(scene, name)
        return self._references[key]

    def close(self) -> None:
        self.loop.close()


def _leader_binding() -> Manifest:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": LEADER_ROLE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": LEADER_ROLE},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": OPERATOR_NAMESPACE}],
    }


def _trust(kubeconfig: Manifest) -> ssl.SSLContext:
    authority = kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"]
    return ssl.create_default_context(cadata=base64.b64decode(authority).decode("ascii"))


def _token(kubeconfig: str) -> str:
    token: str = yaml.safe_load(kubeconfig)["users"][0]["user"]["token"]
    return token
