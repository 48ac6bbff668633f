"""The operator of an installation, run here: the sandbox has no kubelet, so its pod is only simulated."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from control_plane import Cluster, Manifest, wait_until
from trtllm_operator.kinds import DEPLOYMENT
from trtllm_operator.sandbox.process import free_ports


@contextmanager
def running_operator(
    cluster: Cluster, namespace: str, name: str, directory: Path, *, source: Path | None = None
) -> Iterator[str]:
    """Run it with the arguments of its Deployment and under the token of its service account; yield, once it is ready,
    the URL of its metrics.

    ``source`` holds another release of the package.
    """
    deployment = cluster.read(DEPLOYMENT, namespace, name)
    assert deployment is not None
    pod = deployment["spec"]["template"]["spec"]
    port, metrics_port = free_ports(2)
    (container,) = pod["containers"]
    replaced = {"--host=$(POD_IP)": "--host=127.0.0.1", "--port=8080": f"--port={port}"}
    assert set(replaced) <= set(container["args"])
    replaced["--metrics-port=9090"] = f"--metrics-port={metrics_port}"
    arguments = [replaced.get(argument, argument) for argument in container["args"]]
    kubeconfig = directory / "operator.kubeconfig"
    kubeconfig.write_text(cluster.sandbox.service_account_kubeconfig(namespace, pod["serviceAccountName"]))
    command = [sys.executable, "-m", "trtllm_operator", *arguments, "--kubeconfig", str(kubeconfig)]
    environment = _environment(container, namespace, name)
    if source is not None:
        environment["PYTHONPATH"] = str(source)
    with (directory / "operator.log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"), seconds=60, what=lambda: _text(directory))
            yield f"http://127.0.0.1:{metrics_port}/metrics"
        finally:
            process.terminate()
            process.wait(timeout=60)
    assert "Traceback" not in _text(directory)


def _environment(container: Manifest, namespace: str, name: str) -> dict[str, str]:
    """Fill in what the downward API would."""
    known = {"metadata.name": f"{name}-0", "metadata.namespace": namespace, "status.podIP": "127.0.0.1"}
    fields = {variable["name"]: variable.get("valueFrom", {}).get("fieldRef", {}) for variable in container["env"]}
    return os.environ | {variable: known[field["fieldPath"]] for variable, field in fields.items() if field}


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _text(directory: Path) -> str:
    return (directory / "operator.log").read_text(encoding="utf-8")
