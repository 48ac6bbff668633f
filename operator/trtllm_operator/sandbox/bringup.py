"""From an empty state directory to a control plane with Ready nodes."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any

import yaml

from trtllm_operator.sandbox import kubeconfig, lws
from trtllm_operator.sandbox.addons import install_crds, wait_established
from trtllm_operator.sandbox.apiserver import ApiError, Client
from trtllm_operator.sandbox.components import Component, Ports, control_plane
from trtllm_operator.sandbox.errors import SandboxError
from trtllm_operator.sandbox.logs import last_words
from trtllm_operator.sandbox.nodes import node_manifests
from trtllm_operator.sandbox.paths import write_private
from trtllm_operator.sandbox.pki import write_pki
from trtllm_operator.sandbox.process import free_ports, port_is_free, spawn
from trtllm_operator.sandbox.volumes import storage_class, volume_manifests

if TYPE_CHECKING:
    from trtllm_operator.sandbox.supervisor import Supervisor

_SECONDS = 60.0
_OPERATOR_NAMESPACE = "trtllm-operator-system"
_OPERATOR_ACCOUNT = "trtllm-operator"


def bring_up(supervisor: Supervisor) -> None:
    """Start everything and return when pods can be scheduled and run."""
    spec, layout = supervisor.spec, supervisor.layout
    if spec.port is not None and not port_is_free(spec.port):
        raise SandboxError(f"port {spec.port} of 127.0.0.1 is taken")
    nodes = node_manifests(spec.node_groups(), spec.kubernetes_version)
    ports = Ports(**_ports(spec.port))
    server = f"https://127.0.0.1:{ports.api}"
    supervisor.record(
        name=spec.name, supervisor=os.getpid(), server=server, kubernetes=spec.kubernetes_version, nodes=spec.nodes
    )
    with _timed(supervisor, "certificates and configuration"):
        _write_files(supervisor, server)
    supervisor.client = client = Client(layout)
    supervisor.listen()
    components = control_plane(layout, ports, audit=spec.audit)
    with _timed(supervisor, f"etcd and kube-apiserver at {server}"):
        for name in ("etcd", "kube-apiserver"):
            supervisor.start(components.pop(name))
        _wait_healthy(supervisor, "kube-apiserver")
    # Kinds come before the garbage collector: one that comes later is not collected for its first half minute.
    components |= _install_kinds(supervisor, client, server, ports)
    with _timed(supervisor, f"{', '.join(components)} and {len(nodes)} nodes"):
        for component in components.values():
            supervisor.start(component)
        for node in nodes:
            client.request("POST", f"{server}/api/v1/nodes", node)
        client.request("POST", f"{server}/apis/storage.k8s.io/v1/storageclasses", storage_class())
        for volume in volume_manifests():
            client.request("POST", f"{server}/api/v1/persistentvolumes", volume)
        for name in components:
            _wait_healthy(supervisor, name)
        supervisor.wait("the nodes are", lambda: _nodes_ready(client, server, len(nodes)), _SECONDS, log="kwok")
        supervisor.wait(
            "the default service account is",
            lambda: _account_exists(client, server),
            _SECONDS,
            log="kube-controller-manager",
        )
    if spec.operator:
        with _timed(supervisor, "the operator"):
            _start_operator(supervisor, server, ports.operator)


def _wait_healthy(supervisor: Supervisor, name: str) -> None:
    supervisor.wait(f"{name} is", lambda: supervisor.healthy(name), _SECONDS, log=name)


def _ports(api: int | None) -> dict[str, int]:
    names = [field.name for field in fields(Ports)]
    chosen = [port for port in free_ports(len(names) + 1) if port != api]
    ports = dict(zip(names, chosen, strict=False))
    return ports if api is None else {**ports, "api": api}


@contextlib.contextmanager
def _timed(supervisor: Supervisor, what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    supervisor.report("progress", message=f"{time.monotonic() - started:5.1f} s  {what}")


def _write_files(supervisor: Supervisor, server: str) -> None:
    spec, layout = supervisor.spec, supervisor.layout
    write_pki(layout.pki)
    layout.temporary.mkdir()
    layout.bin.mkdir()
    for tool, path in spec.binaries.items():
        (layout.bin / tool).symlink_to(path)
    context = f"sandbox-{spec.name}"
    for user in ("kube-controller-manager", "kube-scheduler", "kwok"):
        text = kubeconfig.certificate_kubeconfig(server, layout.pki, user, context)
        write_private(layout.client_kubeconfig(user), text.encode())
    text = kubeconfig.certificate_kubeconfig(server, layout.pki, "admin", context)
    write_private(layout.kubeconfig, text.encode())
    for file in ("stages.yaml", "audit-policy.yaml"):
        content = resources.files("trtllm_operator.sandbox").joinpath(file).read_bytes()
        write_private(layout.root / file, content)


def _nodes_ready(client: Client, server: str, count: int) -> bool:
    nodes = client.request("GET", f"{server}/api/v1/nodes")["items"]
    return sum(_schedulable(node) for node in nodes) == count


def _schedulable(node: dict[str, Any]) -> bool:
    conditions = node["status"].get("conditions", [])
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    return ready and not node["spec"].get("taints")


def _account_exists(client: Client, server: str) -> bool:
    try:
        client.request("GET", f"{server}/api/v1/namespaces/default/serviceaccounts/default")
    except ApiError as error:
        if error.status == 404:  # noqa: PLR2004
            return False
        raise
    return True


def _install_operator(supervisor: Supervisor) -> None:
    from trtllm_operator.install import manifests  # noqa: PLC0415 - the sandbox alone needs no operator

    wanted = manifests(namespace=_OPERATOR_NAMESPACE)
    source = supervisor.layout.temporary / "operator.yaml"
    source.write_text(yaml.safe_dump_all(wanted), encoding="utf-8")
    _kubectl(supervisor, "apply", "--server-side", "--field-manager=sandbox", f"--filename={source}")
    for manifest in wanted:
        if manifest["kind"] == "CustomResourceDefinition":
            name = manifest["metadata"]["name"]
            wait_established(partial(_kubectl, supervisor), f"crd/{name}")


def _install_kinds(supervisor: Supervisor, client: Client, server: str, ports: Ports) -> dict[str, Component]:
    """Install the kinds of the operator and of the add-ons; return the controllers that are still to be started."""
    spec, layout, kubectl = supervisor.spec, supervisor.layout, partial(_kubectl, supervisor)
    if spec.operator:
        with _timed(supervisor, "the operator's CRD, account and rights"):
            _install_operator(supervisor)
    if spec.addons:
        with _timed(supervisor, f"the CRDs of {', '.join(spec.addons)}"):
            install_crds(spec.addons, kubectl, layout.temporary)
    if "lws" not in spec.addons:
        return {}
    controller = lws.prepare_controller(
        kubectl, client, server, layout, webhook_port=ports.lws_webhook, probe_port=ports.lws_probe
    )
    return {controller.name: controller}


def _start_operator(supervisor: Supervisor, server: str, port: int) -> None:
    layout, client = supervisor.layout, supervisor.client
    if client is None:
        raise SandboxError("the operator needs the API server first")
    token = client.service_account_token(server, _OPERATOR_NAMESPACE, _OPERATOR_ACCOUNT)
    path = layout.client_kubeconfig("operator")
    context = f"sandbox-{supervisor.spec.name}"
    text = kubeconfig.token_kubeconfig(server, layout.pki, token, _OPERATOR_ACCOUNT, context)
    write_private(path, text.encode())
    endpoint = f"http://127.0.0.1:{port}"
    argv = (sys.executable, "-m", "trtllm_operator", "run", "--kubeconfig", str(path), "--port", str(port))
    operator = Component(name="operator", argv=argv, endpoint=endpoint, health=f"{endpoint}/readyz")
    supervisor.start(operator, dict(os.environ))
    _wait_healthy(supervisor, "operator")


def _kubectl(supervisor: Supervisor, *arguments: str) -> None:
    layout = supervisor.layout
    log = layout.log("kubectl")
    environment = {"KUBECONFIG": str(layout.kubeconfig), "HOME": str(layout.temporary)}
    process = spawn([str(layout.bin / "kubectl"), *arguments], log=log, env=environment, cwd=layout.temporary)
    supervisor.wait(f"kubectl {arguments[0]} is", lambda: process.poll() is not None, _SECONDS, log="kubectl")
    if process.returncode:
        raise SandboxError(f"kubectl {arguments[0]} failed: {last_words(log)}")
