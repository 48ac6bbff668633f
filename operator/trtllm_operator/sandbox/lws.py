"""The LeaderWorkerSet controller as a process of the sandbox, with its admission webhooks and its own rights.

In a cluster the API server reaches the webhooks through a Service. No packet reaches a simulated pod, so here
the same webhooks are registered by URL, under the sandbox's own CA instead of one the controller makes.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml

from trtllm_operator.sandbox import kubeconfig
from trtllm_operator.sandbox.addons import Kubectl, data_file
from trtllm_operator.sandbox.apiserver import Client
from trtllm_operator.sandbox.components import Component, Layout
from trtllm_operator.sandbox.paths import write_private
from trtllm_operator.sandbox.toolsets import LWS_CONTROLLER

_NAMESPACE = "lws-system"
# The controller says it is ready before it serves its webhooks, so its health is asked of the last it registers.
_LAST_WEBHOOK = "/validate-disaggregatedset-x-k8s-io-v1-disaggregatedset"


def prepare_controller(
    kubectl: Kubectl, client: Client, server: str, layout: Layout, *, webhook_port: int, probe_port: int
) -> Component:
    """Install the account, rights and webhooks of the controller; return the process that is to be started."""
    endpoint = f"https://127.0.0.1:{webhook_port}"
    manifests = controller_manifests(endpoint, layout)
    source = layout.temporary / f"{LWS_CONTROLLER}.yaml"
    source.write_text(yaml.safe_dump_all(manifests), encoding="utf-8")
    kubectl("apply", "--server-side", "--field-manager=sandbox", f"--filename={source}")
    token = client.service_account_token(server, _NAMESPACE, LWS_CONTROLLER)
    credentials = layout.client_kubeconfig(LWS_CONTROLLER)
    text = kubeconfig.token_kubeconfig(server, layout.pki, token, LWS_CONTROLLER, "sandbox")
    write_private(credentials, text.encode())
    configuration = _write_configuration(layout, webhook_port, probe_port)
    return Component(
        name=LWS_CONTROLLER,
        argv=(str(layout.bin / LWS_CONTROLLER), f"--kubeconfig={credentials}", f"--config={configuration}"),
        endpoint=endpoint,
        health=f"{endpoint}{_LAST_WEBHOOK}",
    )


def controller_manifests(endpoint: str, layout: Layout) -> list[dict[str, Any]]:
    """Return upstream's manifests with every webhook at ``endpoint``."""
    authority = base64.b64encode(Path(layout.certificate("ca")).read_bytes()).decode("ascii")
    manifests = list(yaml.safe_load_all(data_file("lws-controller.yaml")))
    for manifest in manifests:
        for webhook in manifest.get("webhooks", []):
            path = webhook["clientConfig"]["service"]["path"]
            webhook["clientConfig"] = {"url": f"{endpoint}{path}", "caBundle": authority}
    return manifests


def _write_configuration(layout: Layout, webhook_port: int, probe_port: int) -> str:
    directory = layout.root / LWS_CONTROLLER
    directory.mkdir(exist_ok=True)
    for name, source in (("tls.crt", layout.certificate("server")), ("tls.key", layout.key("server"))):
        write_private(directory / name, Path(source).read_bytes())
    configuration = {
        "apiVersion": "config.lws.x-k8s.io/v1alpha1",
        "kind": "Configuration",
        "webhook": {"host": "127.0.0.1", "port": webhook_port, "certDir": str(directory)},
        "health": {"healthProbeBindAddress": f"127.0.0.1:{probe_port}"},
        "metrics": {"bindAddress": "0"},
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
    }
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    return str(path)
