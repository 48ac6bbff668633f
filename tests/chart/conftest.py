"""Helm, and a control plane to install into."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane import Cluster, Namespace, fresh_namespace
from helm import CRD, RELEASE, SYSTEM, Helm
from trtllm_operator.sandbox import Sandbox


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def bare() -> Iterator[Cluster]:
    """A control plane without our CRD and our operator, and a namespace for it that admits restricted pods only."""
    with Sandbox.start(audit=True) as sandbox:
        cluster = Cluster(sandbox)
        cluster.kubectl("create", "namespace", SYSTEM)
        cluster.kubectl("label", "namespace", SYSTEM, "pod-security.kubernetes.io/enforce=restricted")
        yield cluster


@pytest.fixture
def release(bare: Cluster, tmp_path: Path) -> Iterator[Helm]:
    """Helm; whatever it leaves is gone afterwards."""
    helm = Helm(tmp_path / "helm", bare.sandbox.kubeconfig)
    yield helm
    helm("uninstall", RELEASE, f"--namespace={SYSTEM}", "--ignore-not-found")
    bare.kubectl("delete", "crd", CRD, "--ignore-not-found")


@pytest.fixture
def team(bare: Cluster) -> Iterator[Namespace]:
    name = f"team-{os.urandom(2).hex()}"
    with fresh_namespace(bare.kubectl, name):
        yield Namespace(bare, name)
