"""The image's recipe: carried out and run here as a pod would run it, since a container engine is not at hand."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

import image
from control_plane import Cluster, Namespace
from support import ROOT
from trtllm_operator.cli import main
from trtllm_operator.install import manifests
from trtllm_operator.sandbox import Sandbox
from trtllm_operator.sandbox.addons import wait_established
from trtllm_operator.sandbox.process import free_ports

NAMESPACE = "trtllm-operator-system"
SECRETS = "var/run/secrets/kubernetes.io/serviceaccount"
IMAGE = image.read_image((ROOT / "Dockerfile").read_text(encoding="utf-8"))


def _pod() -> dict[str, Any]:
    documents = yaml.safe_load_all((ROOT / "config" / "operator" / "operator.yaml").read_text(encoding="utf-8"))
    (deployment,) = [document for document in documents if document["kind"] == "Deployment"]
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


def test_the_build_context_holds_what_the_dockerfile_copies_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[1] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == set(IMAGE.sources)


def test_the_installation_runs_what_the_image_has() -> None:
    pod = _pod()
    user = pod["securityContext"]
    assert IMAGE.user == f"{user['runAsUser']}:{user['runAsGroup']}"
    assert IMAGE.entrypoint == ("python", "-m", "trtllm_operator")
    assert {IMAGE.command[0], pod["containers"][0]["args"][0]} == {"run"} <= set(main.commands)


@pytest.mark.parametrize("line", ["ADD . /app", "ENV A=b"])
def test_a_step_that_is_not_understood_is_refused(line: str) -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="not understood"):
        image.read_image(text.replace("WORKDIR /src", line))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image's root file system."""
    root = tmp_path_factory.mktemp("image") / "root"
    root.mkdir()
    image.make_root(IMAGE, root)
    yield root
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def empty() -> Iterator[Cluster]:
    with Sandbox.start() as sandbox:
        cluster = Cluster(sandbox)
        wanted = {"apiVersion": "v1", "kind": "List", "items": manifests(NAMESPACE)}
        cluster.kubectl("apply", "--server-side", "--filename=-", stdin=wanted)
        wait_established(cluster.kubectl, "crd/llmdeployments.trtllm.dev")
        yield cluster


def _mount_service_account(cluster: Cluster, root: Path) -> None:
    """What the kubelet projects into the pod."""
    config = yaml.safe_load(cluster.sandbox.service_account_kubeconfig(NAMESPACE, "trtllm-operator"))
    folder = root / SECRETS
    folder.mkdir(parents=True)
    (folder / "token").write_text(config["users"][0]["user"]["token"])
    (folder / "ca.crt").write_bytes(base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]))
    (folder / "namespace").write_text(NAMESPACE)


def _enter(root: Path, *command: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start a command of the image: its user, no group, no capability, every file system read-only."""
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
    enter = ["chroot", f"--userspec={IMAGE.user}", "--groups=", str(root), *command]
    confined = ["setpriv", "--no-new-privs", *enter]
    return subprocess.Popen(
        ["unshare", "--mount", "sh", "-ec", script, "sh", str(root), *confined],
        env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **IMAGE.environment, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.privileged
@pytest.mark.component
def test_the_operator_serves_from_the_image_as_nobody_on_a_read_only_root(empty: Cluster, root: Path) -> None:
    _mount_service_account(empty, root)
    server = urlsplit(empty.sandbox.server)
    (port,) = free_ports(1)
    environment = {"KUBERNETES_SERVICE_HOST": str(server.hostname), "KUBERNETES_SERVICE_PORT": str(server.port)}
    command = (*IMAGE.entrypoint, *IMAGE.command, f"--port={port}")
    with _enter(root, *command, environment=environment) as process:
        try:
            namespace = Namespace(empty, "default")
            namespace.deploy()
            namespace.ready()
            told = dict(line.split(":\t") for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
            mounts = Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines()
        finally:
            process.terminate()
            log, _ = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert "Traceback" not in log
    assert set(told["Uid"].split()) == set(told["Gid"].split()) == {"65532"}
    assert (told["Groups"].split(), told["NoNewPrivs"], int(told["CapEff"], 16)) == ([], "1", 0)
    assert "ro" in _mount_options(mounts, "/")


def _mount_options(mounts: list[str], point: str) -> list[str]:
    (options,) = [fields[5] for fields in map(str.split, mounts) if fields[4] == point]
    return options.split(",")


@pytest.mark.privileged
@pytest.mark.component
@pytest.mark.parametrize(
    ("code", "answer"),
    [
        pytest.param("open('/x', 'w')", "Read-only file system", id="no-writable-root"),
        pytest.param("import tempfile; tempfile.mkdtemp()", "No usable temporary directory", id="no-temporary-files"),
        pytest.param("import os; os.execl('/bin/sh', 'sh')", "No such file or directory", id="no-shell"),
    ],
)
def test_where_it_served_is_nothing_to_write_to_and_no_shell(root: Path, code: str, answer: str) -> None:
    with _enter(root, "python", "-c", code, environment={}) as process:
        told, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert answer in told


@pytest.mark.privileged
@pytest.mark.component
def test_every_command_of_the_image_explains_itself(root: Path) -> None:
    for command in ("run", "render", "crd"):
        with _enter(root, *IMAGE.entrypoint, command, "--help", environment={}) as process:
            told, _ = process.communicate(timeout=60)
        assert process.returncode == 0, told
    with _enter(root, *IMAGE.entrypoint, "--help", environment={}) as process:
        told, _ = process.communicate(timeout=60)
    assert process.returncode == 0, told
