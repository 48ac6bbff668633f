"""The command line of every component: what runs, where it listens, how its health is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOOLS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "kubectl")
SERVICE_CIDR = "10.96.0.0/16"
POD_CIDR = "10.244.0.0/16"

_AUDIT_LOG_MB = 10_000
"""The API server begins a new file at 100 MB, and who reads the log would lose its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The ports of one sandbox, all of 127.0.0.1."""

    api: int
    etcd: int
    etcd_peer: int
    controller_manager: int
    scheduler: int
    kwok: int
    operator: int
    lws_webhook: int
    lws_probe: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one sandbox, all below its state directory."""

    root: Path

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.root / "pki"

    @property
    def bin(self) -> Path:
        """Links to the binaries in use."""
        return self.root / "bin"

    @property
    def temporary(self) -> Path:
        """What the components use as HOME and TMPDIR."""
        return self.root / "tmp"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.root / "kubeconfig"

    @property
    def record(self) -> Path:
        """The facts that other processes read: pids, ports, endpoints."""
        return self.root / "sandbox.json"

    @property
    def lock(self) -> Path:
        """The file whose lock the supervisor holds as long as it lives."""
        return self.root / "lock"

    @property
    def socket(self) -> Path:
        """The supervisor's control socket."""
        return self.root / "control.sock"

    @property
    def audit_log(self) -> Path:
        """The API server's audit log."""
        return self.root / "audit.log"

    def log(self, component: str) -> Path:
        """Return the log of one component."""
        return self.root / f"{component}.log"

    def client_kubeconfig(self, user: str) -> Path:
        """Return the kubeconfig a component authenticates with."""
        return self.root / f"{user}.kubeconfig"

    def certificate(self, stem: str) -> str:
        """Return the path of a certificate."""
        return str(self.pki / f"{stem}.crt")

    def key(self, stem: str) -> str:
        """Return the path of a private key."""
        return str(self.pki / f"{stem}.key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One process to supervise."""

    name: str
    argv: tuple[str, ...]
    endpoint: str
    health: str

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Component:
        """Read what ``dataclasses.asdict`` made, after it travelled as JSON."""
        return cls(**{**fields, "argv": tuple(fields["argv"])})


def control_plane(layout: Layout, ports: Ports, *, audit: bool) -> dict[str, Component]:
    """Return the five components in the order in which they start."""
    components = (
        _etcd(layout, ports),
        _apiserver(layout, ports, audit=audit),
        _controller_manager(layout, ports),
        _scheduler(layout, ports),
        _kwok(layout, ports),
    )
    return {component.name: component for component in components}


def _component(layout: Layout, name: str, port: int, health: str, flags: Mapping[str, object]) -> Component:
    endpoint = f"https://127.0.0.1:{port}"
    argv = (str(layout.bin / name), *(f"--{flag}={value}" for flag, value in flags.items()))
    return Component(name=name, argv=argv, endpoint=endpoint, health=f"{endpoint}{health}")


def _etcd(layout: Layout, ports: Ports) -> Component:
    client, peer = (f"https://127.0.0.1:{port}" for port in (ports.etcd, ports.etcd_peer))
    flags: dict[str, object] = {
        "name": "sandbox",
        "data-dir": layout.root / "etcd",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"sandbox={peer}",
        "unsafe-no-fsync": "true",
        "log-level": "warn",
    }
    for prefix in ("", "peer-"):
        flags |= {
            f"{prefix}cert-file": layout.certificate("server"),
            f"{prefix}key-file": layout.key("server"),
            f"{prefix}trusted-ca-file": layout.certificate("ca"),
            f"{prefix}client-cert-auth": "true",
        }
    return _component(layout, "etcd", ports.etcd, "/health", flags)


def _apiserver(layout: Layout, ports: Ports, *, audit: bool) -> Component:
    flags: dict[str, object] = {
        **_serving(layout, ports.api),
        "advertise-address": "127.0.0.1",
        # A loopback address is no valid endpoint of the Service "kubernetes", and no pod here connects to it.
        "endpoint-reconciler-type": "none",
        "client-ca-file": layout.certificate("ca"),
        "etcd-servers": f"https://127.0.0.1:{ports.etcd}",
        "etcd-cafile": layout.certificate("ca"),
        "etcd-certfile": layout.certificate("etcd-client"),
        "etcd-keyfile": layout.key("etcd-client"),
        "kubelet-client-certificate": layout.certificate("admin"),
        "kubelet-client-key": layout.key("admin"),
        # Nobody resolves the names of simulated nodes; KWOK answers for all of them at their address.
        "kubelet-preferred-address-types": "InternalIP",
        "authorization-mode": "Node,RBAC",
        "allow-privileged": "true",
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": layout.pki / "service-accounts.pub",
        "service-account-signing-key-file": layout.key("service-accounts"),
        "service-cluster-ip-range": SERVICE_CIDR,
    }
    if audit:
        flags |= {
            "audit-policy-file": layout.root / "audit-policy.yaml",
            "audit-log-path": layout.audit_log,
            "audit-log-maxsize": _AUDIT_LOG_MB,
        }
    return _component(layout, "kube-apiserver", ports.api, "/readyz", flags)


def _controller_manager(layout: Layout, ports: Ports) -> Component:
    name = "kube-controller-manager"
    flags: dict[str, object] = {
        **_serving(layout, ports.controller_manager),
        **_client(layout, name),
        "use-service-account-credentials": "true",
        "service-account-private-key-file": layout.key("service-accounts"),
        "root-ca-file": layout.certificate("ca"),
        "cluster-signing-cert-file": layout.certificate("ca"),
        "cluster-signing-key-file": layout.key("ca"),
        "kube-api-qps": 200,
        "kube-api-burst": 400,
    }
    return _component(layout, name, ports.controller_manager, "/healthz", flags)


def _scheduler(layout: Layout, ports: Ports) -> Component:
    name = "kube-scheduler"
    flags: dict[str, object] = {
        **_serving(layout, ports.scheduler),
        **_client(layout, name),
        "kube-api-qps": 200,
        "kube-api-burst": 400,
    }
    return _component(layout, name, ports.scheduler, "/healthz", flags)


def _kwok(layout: Layout, ports: Ports) -> Component:
    flags: dict[str, object] = {
        "config": layout.root / "stages.yaml",
        "kubeconfig": layout.client_kubeconfig("kwok"),
        "manage-all-nodes": "true",
        "cidr": POD_CIDR,
        "node-ip": "127.0.0.1",
        "node-port": ports.kwok,
        "node-lease-duration-seconds": 40,
        "server-address": f"127.0.0.1:{ports.kwok}",
        "tls-cert-file": layout.certificate("server"),
        "tls-private-key-file": layout.key("server"),
    }
    return _component(layout, "kwok", ports.kwok, "/healthz", flags)


def _serving(layout: Layout, port: int) -> dict[str, object]:
    return {
        "bind-address": "127.0.0.1",
        "secure-port": port,
        "cert-dir": layout.temporary,
        "tls-cert-file": layout.certificate("server"),
        "tls-private-key-file": layout.key("server"),
    }


def _client(layout: Layout, name: str) -> dict[str, object]:
    kubeconfig = layout.client_kubeconfig(name)
    return {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "leader-elect": "false",
    }
