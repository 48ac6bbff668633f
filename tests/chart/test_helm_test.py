"""``helm test``: the API server admits its pod, and the pod's own command tells a leader from everything else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from control_plane import Cluster
from helm import OPERATOR_CHART, RELEASE, SYSTEM, Helm
from operator_process import running_operator

pytestmark = pytest.mark.component


def _install(helm: Helm, values: dict[str, Any]) -> None:
    helm("install", RELEASE, str(OPERATOR_CHART), f"--namespace={SYSTEM}", "--wait", "--timeout=60s", values=values)


def _asks(helm: Helm, url: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run the command of the rendered pod here, where the sandbox has no kubelet, against this URL for so long."""
    rendered = helm.template(OPERATOR_CHART, RELEASE, values={})
    (pod,) = [manifest for manifest in rendered if manifest["kind"] == "Pod"]
    (service,) = [manifest for manifest in rendered if manifest["kind"] == "Service"]
    (port,) = service["spec"]["ports"]
    python, *program, asked, _ = pod["spec"]["containers"][0]["command"]
    assert python == "python"
    assert asked == f"http://{service['metadata']['name']}:{port['port']}/metrics"
    command = [sys.executable, *program, url, str(seconds)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("replicas", [1, 2])
def test_it_passes_once_an_operator_leads(bare: Cluster, release: Helm, tmp_path: Path, replicas: int) -> None:
    _install(release, {"replicas": replicas})
    with running_operator(bare, SYSTEM, RELEASE, tmp_path) as metrics:
        answer = _asks(release, metrics, 60)
    assert (answer.returncode, answer.stderr) == (0, "")


def test_it_fails_by_a_standby(bare: Cluster, release: Helm, tmp_path: Path) -> None:
    _install(release, {"replicas": 2})
    leader, standby = tmp_path / "leader", tmp_path / "standby"
    leader.mkdir()
    standby.mkdir()
    with running_operator(bare, SYSTEM, RELEASE, leader) as leads:
        assert _asks(release, leads, 60).returncode == 0
        with running_operator(bare, SYSTEM, RELEASE, standby) as stands_by:
            answer = _asks(release, stands_by, 0.5)
    assert answer.returncode == 1
    assert "no operator leads" in answer.stderr
    assert "\ntrtllm_operator_is_leader 0\n" in answer.stderr


def test_it_fails_when_nobody_answers(release: Helm) -> None:
    answer = _asks(release, "http://127.0.0.1:1/metrics", 0.5)
    assert answer.returncode == 1
    assert "Connection refused" in answer.stderr


def test_the_api_server_admits_the_pod(bare: Cluster, release: Helm) -> None:
    """In a namespace that admits restricted pods only. That it succeeds is the sandbox's: its pods are simulated."""
    _install(release, {})
    assert "Phase:          Succeeded" in release("test", RELEASE, f"--namespace={SYSTEM}", "--timeout=60s")
    assert "NotFound" in bare.kubectl("get", "pod", f"{RELEASE}-test", f"--namespace={SYSTEM}", fails=True)
