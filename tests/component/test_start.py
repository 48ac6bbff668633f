"""Starting before the CRD is there, and stopping when told to."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from control_plane import Cluster, Namespace, wait_until
from trtllm_operator.install import manifests
from trtllm_operator.sandbox import Sandbox
from trtllm_operator.sandbox.process import free_ports

pytestmark = pytest.mark.component


@pytest.fixture
def empty() -> Iterator[Cluster]:
    """A control plane of its own, without CRD and operator."""
    with Sandbox.start() as sandbox:
        yield Cluster(sandbox)


def _answer(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def test_the_operator_waits_for_the_crd_and_stops_when_told(empty: Cluster) -> None:
    (port,) = free_ports(1)
    command = ["run", "--kubeconfig", str(empty.sandbox.kubeconfig), "--port", str(port)]
    probes = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        [sys.executable, "-m", "trtllm_operator", *command], stderr=subprocess.PIPE, text=True
    ) as operator:
        try:
            wait_until(lambda: _answer(f"{probes}/readyz")[0] == 503)
            assert "llmdeployments.trtllm.dev is not served" in _answer(f"{probes}/readyz")[1]
            assert _answer(f"{probes}/healthz") == (200, "ok\n")
            items = manifests("trtllm-operator-system")
            empty.kubectl(
                "apply", "--server-side", "--filename=-", stdin={"apiVersion": "v1", "kind": "List", "items": items}
            )
            wait_until(lambda: _answer(f"{probes}/readyz")[0] == 200)
            namespace = Namespace(empty, "default")
            namespace.deploy()
            namespace.ready()
        finally:
            operator.terminate()
        _, log = operator.communicate(timeout=30)
    assert operator.returncode == 0, log
    assert "apply the CRD" in log
    assert "Traceback" not in log
