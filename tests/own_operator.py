"""An operator of a test's own, under an account of its own, so that the audit log can tell it from others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from control_plane import Manifest, Namespace, wait_until
from trtllm_operator.sandbox.process import free_ports


class OwnOperator:
    """``trtllm-operator run`` as a service account of a namespace; its log outlives it."""

    def __init__(self, namespace: Namespace, name: str, directory: Path, *arguments: str) -> None:
        self.name = name
        self.user = f"system:serviceaccount:{namespace.name}:{name}"
        self._arguments = arguments
        self._log = directory / f"{name}.log"
        self._kubeconfig = directory / f"{name}.kubeconfig"
        self._kubeconfig.write_text(namespace.cluster.sandbox.service_account_kubeconfig(namespace.name, name))
        self._ports = free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        port, metrics_port = self._ports
        addresses = (f"--kubeconfig={self._kubeconfig}", f"--port={port}", f"--metrics-port={metrics_port}")
        command = [sys.executable, "-m", "trtllm_operator", "run", *addresses, *self._arguments]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)
        wait_until(lambda: self.get("readyz")[0] == 200, what=lambda: self.log[-2000:])

    def get(self, path: str) -> tuple[int, str]:
        """Return the status and the text of /healthz, /readyz or /metrics; status 0 when nobody answers."""
        port = self._ports[path == "metrics"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def exit_code(self) -> int:
        assert self._process is not None
        return self._process.wait(timeout=30)

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")


def account(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}


def binding(kind: str, role: str, account_namespace: str, name: str) -> Manifest:
    """Return the binding, in a namespace, of a Role or a ClusterRole to an account."""
    subject: dict[str, Any] = {"kind": "ServiceAccount", "name": name, "namespace": account_namespace}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"{name}-{kind.lower()}-{role}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [subject],
    }
