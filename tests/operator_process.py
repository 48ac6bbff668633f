"""The operator of an installation, run here: the sandbox has no kubelet, so its pod is only simulated."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from control_plane import Cluster, wait_until
from trtllm_operator.kinds import DEPLOYMENT
from trtllm_operator.sandbox.process import free_ports


@contextmanager
def running_operator(cluster: Cluster, namespace: str, name: str, directory: Path) -> Iterator[None]:
    """Run it with the arguments of its Deployment and under the token of its service account, until it is ready."""
    deployment = cluster.read(DEPLOYMENT, namespace, name)
    assert deployment is not None
    pod = deployment["spec"]["template"]["spec"]
    (port,) = free_ports(1)
    replaced = {"--host=$(POD_IP)": "--host=127.0.0.1", "--port=8080": f"--port={port}"}
    arguments = [replaced.get(argument, argument) for argument in pod["containers"][0]["args"]]
    assert set(replaced.values()) <= set(arguments)
    kubeconfig = directory / "operator.kubeconfig"
    kubeconfig.write_text(cluster.sandbox.service_account_kubeconfig(namespace, pod["serviceAccountName"]))
    command = [sys.executable, "-m", "trtllm_operator", *arguments, "--kubeconfig", str(kubeconfig)]
    with (directory / "operator.log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until(lambda: _answers(f"http://127.0.0.1:{port}/readyz"), seconds=60, what=lambda: _text(directory))
            yield
        finally:
            process.terminate()
            process.wait(timeout=60)
    assert "Traceback" not in _text(directory)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _text(directory: Path) -> str:
    return (directory / "operator.log").read_text(encoding="utf-8")
