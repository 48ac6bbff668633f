"""Flux's kustomize-controller and helm-controller against a sandbox, and a stand-in for its source-controller.

source-controller only turns a repository into an archive behind a URL, and says so in a status. Its own module needs
one that the module proxy does not hand out.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import lzma
import os
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import yaml

from control_plane import Cluster, Manifest, wait_until
from operator_process import answers
from support import ROOT
from trtllm_operator.sandbox import binaries
from trtllm_operator.sandbox.addons import wait_established
from trtllm_operator.sandbox.process import free_ports, kill_group, spawn

NAMESPACE = "flux-system"
REPOSITORY = "flux-system"
CRD_FILES = ROOT / "tests" / "data" / "flux"

_STATUS_TIME = "2026-01-01T00:00:00Z"

Files = Mapping[str, bytes]


def files_below(directory: Path) -> dict[str, bytes]:
    """Return every file by its path below a directory, as a commit holds them."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def crds() -> list[Manifest]:
    """Return the pinned CRDs of Flux that its controllers watch or make."""
    streams = (lzma.decompress(path.read_bytes()) for path in sorted(CRD_FILES.glob("*.yaml.xz")))
    return [document for stream in streams for document in yaml.load_all(stream, yaml.CSafeLoader)]


@dataclass(frozen=True, slots=True)
class Artifacts:
    """A directory of archives and the URL it is served at: what Flux's controllers know of a repository."""

    directory: Path
    url: str

    @classmethod
    @contextmanager
    def served(cls, directory: Path) -> Iterator[Artifacts]:
        """Serve a directory for as long as the block runs."""
        handler = functools.partial(_Quiet, directory=str(directory))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield cls(directory, f"http://127.0.0.1:{server.server_port}")
            finally:
                server.shutdown()
                thread.join()

    def store(self, files: Files, revision: str) -> Manifest:
        """Store an archive of these files; return the artifact that a source's status names.

        ``{}`` in the revision stands for the digest of the archive.
        """
        archive = _archive(files)
        digest = hashlib.sha256(archive).hexdigest()
        (self.directory / f"{digest}.tar.gz").write_bytes(archive)
        return {
            "digest": f"sha256:{digest}",
            "lastUpdateTime": _STATUS_TIME,
            "path": f"{digest}.tar.gz",
            "revision": revision.format(digest),
            "size": len(archive),
            "url": f"{self.url}/{digest}.tar.gz",
        }


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Keep the output of the tests to themselves."""


def _archive(files: Files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class Told:
    """The status of a Kustomization."""

    status: Manifest

    @property
    def ready(self) -> Manifest:
        """The condition Ready, empty while there is none."""
        return next((found for found in self.status.get("conditions", []) if found["type"] == "Ready"), {})

    @property
    def is_ready(self) -> bool:
        return bool(self.ready.get("status") == "True")

    @property
    def applied(self) -> str | None:
        return self.status.get("lastAppliedRevision")

    @property
    def attempted(self) -> str | None:
        return self.status.get("lastAttemptedRevision")

    @property
    def handled(self) -> str | None:
        return self.status.get("lastHandledReconcileAt")


class Flux:
    """A cluster that Flux keeps as a repository says, for tests that commit to it and read what Flux tells."""

    def __init__(self, cluster: Cluster, artifacts: Artifacts) -> None:
        self.cluster = cluster
        self._artifacts = artifacts

    def commit(self, files: Files, repository: str = REPOSITORY) -> str:
        """Let a repository have these files and no others; return the revision."""
        return self._publish("gitrepository", repository, files, "main@sha256:{}")

    def publish_chart(self, name: str, chart: Path) -> None:
        """Let the HelmChart that helm-controller made have this chart."""
        version = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8"))["version"]
        files = {f"{chart.name}/{path}": content for path, content in files_below(chart).items()}
        self._publish("helmchart", name, files, version)

    def _publish(self, kind: str, name: str, files: Files, revision: str) -> str:
        artifact = self._artifacts.store(files, revision)
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "Succeeded",
            "message": "told by a test",
            "lastTransitionTime": _STATUS_TIME,
        }
        generation = self.get(kind, name)["metadata"]["generation"]
        status = {"artifact": artifact, "conditions": [ready], "observedGeneration": generation}
        patch = json.dumps({"status": status})
        self._kubectl("patch", kind, name, "--subresource=status", "--type=merge", f"--patch={patch}")
        return str(artifact["revision"])

    def has(self, kind: str, name: str) -> bool:
        return bool(self._kubectl("get", kind, name, "--ignore-not-found"))

    def get(self, kind: str, name: str) -> Manifest:
        found: Manifest = json.loads(self._kubectl("get", kind, name, "--output=json"))
        return found

    def told(self, name: str) -> Told:
        """Return what a Kustomization tells, in one reading."""
        return Told(self.get("kustomization", name).get("status", {}))

    def until_applied(self, name: str, revision: str) -> Told:
        """Wait until a Kustomization is ready with what it applied of this revision."""
        return self._until(name, lambda told: told.is_ready and told.applied == revision, seconds=90)

    def until_failed(self, name: str, revision: str) -> Told:
        """Wait until a Kustomization has failed with this revision."""
        return self._until(name, lambda told: told.ready.get("status") == "False" and told.attempted == revision)

    def until_told(self, name: str, reason: str) -> None:
        """Wait until a Kustomization gives this reason for its condition Ready."""
        self._until(name, lambda told: told.ready.get("reason") == reason)

    def reconcile(self, name: str) -> None:
        """Ask for one more reconciliation of a Kustomization, and wait until it has ended well."""
        token = os.urandom(4).hex()
        self._kubectl("annotate", "kustomization", name, "--overwrite", f"reconcile.fluxcd.io/requestedAt={token}")
        self._until(name, lambda told: told.is_ready and told.handled == token)

    def _until(self, name: str, holds: Callable[[Told], bool], seconds: float = 30) -> Told:
        def found() -> Told | None:
            told = self.told(name)
            return told if holds(told) else None

        return cast(Told, wait_until(found, seconds=seconds, what=lambda: str(self.told(name))))

    def _kubectl(self, *arguments: str) -> str:
        return self.cluster.kubectl(f"--namespace={NAMESPACE}", *arguments)


@contextmanager
def running_flux(cluster: Cluster, directory: Path) -> Iterator[Flux]:
    """Install Flux as `flux bootstrap` does with the path ./flux, run its controllers, and yield it."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("apply", "--server-side", "--filename=-", stdin=_list(crds()))
    wait_established(cluster.kubectl, "crd", "--all")
    cluster.kubectl("apply", "--server-side", "--filename=-", stdin=_list(_bootstrapped()))
    archives = directory / "artifacts"
    archives.mkdir()
    with Artifacts.served(archives) as artifacts, _controllers(cluster, directory):
        yield Flux(cluster, artifacts)


def _list(items: Sequence[Manifest]) -> Manifest:
    return {"apiVersion": "v1", "kind": "List", "items": list(items)}


def _bootstrapped() -> list[Manifest]:
    metadata = {"name": REPOSITORY, "namespace": NAMESPACE}
    repository = {"interval": "1m", "url": "https://git.example.com/platform/models.git", "ref": {"branch": "main"}}
    root = {
        "interval": "10m",
        "path": "./flux",
        "prune": True,
        "sourceRef": {"kind": "GitRepository", "name": REPOSITORY},
    }
    return [
        {
            "apiVersion": "source.toolkit.fluxcd.io/v1",
            "kind": "GitRepository",
            "metadata": metadata,
            "spec": repository,
        },
        {
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
            "kind": "Kustomization",
            "metadata": metadata,
            "spec": root,
        },
    ]


@contextmanager
def _controllers(cluster: Cluster, directory: Path) -> Iterator[None]:
    """Run both controllers as the administrator, which is what Flux's own installation makes them."""
    environment = {
        "HOME": str(directory),
        "KUBECONFIG": str(cluster.sandbox.kubeconfig),
        "RUNTIME_NAMESPACE": NAMESPACE,
        "TMPDIR": str(directory),
    }
    processes = []
    try:
        for name, binary in binaries.flux().items():
            (port,) = free_ports(1)
            log = directory / f"{name}.log"
            # A dependency is looked at again every 30 s by default, a source's archive when it changes.
            arguments = ("--metrics-addr=0", f"--health-addr=127.0.0.1:{port}", "--requeue-dependency=2s")
            processes.append(spawn([str(binary), *arguments], log=log, env=environment, cwd=directory))
            ready = f"http://127.0.0.1:{port}/readyz"
            wait_until(functools.partial(answers, ready), what=functools.partial(log.read_text, encoding="utf-8"))
        yield
    finally:
        for process in processes:
            kill_group(process)
