"""The installation without Helm: equal to the chart's, under another name and namespace too."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import static_manifests
from control_plane import Cluster, Namespace
from helm import CRD, OPERATOR_CHART, Helm, Manifest
from operator_process import running_operator
from support import ROOT
from trtllm_operator.sandbox import binaries

pytestmark = pytest.mark.component

LABEL = "app.kubernetes.io/part-of=trtllm-operator"
OVERLAY = {
    "namespace": "ml",
    "namePrefix": "acme-",
    "images": [{"name": "trtllm-operator", "newName": "registry.example.com/operator", "newTag": "1.2.3"}],
}


def _build(directory: Path) -> dict[tuple[str, str], Manifest]:
    kubectl = str(binaries.resolve()["kubectl"])
    built = subprocess.run([kubectl, "kustomize", str(directory)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return {(found["kind"], found["metadata"]["name"]): found for found in yaml.safe_load_all(built.stdout)}


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """What a user's repository would hold; kustomize takes relative paths only."""
    base = os.path.relpath((ROOT / "config" / "default").resolve(), tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({**OVERLAY, "resources": [base]}))
    return tmp_path


def test_the_generated_manifests_are_committed() -> None:
    committed = static_manifests.TARGET.read_text(encoding="utf-8")
    assert committed == static_manifests.static_manifests(), "run `make update` and read the diff"


def _without_metadata(manifests: Mapping[Any, Manifest]) -> dict[Any, Manifest]:
    return {
        key: {name: value for name, value in manifest.items() if name != "metadata"}
        for key, manifest in manifests.items()
    }


def test_the_installation_is_the_chart_s(helm: Helm) -> None:
    namespace = "--namespace=trtllm-operator-system"
    chart = helm.template(OPERATOR_CHART, "trtllm-operator", namespace, "--skip-tests", values={})
    expected = {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in chart}
    built = _build(ROOT / "config" / "default")
    created = built.pop(("Namespace", "trtllm-operator-system"))
    assert created["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert _without_metadata(built) == _without_metadata(expected)


def test_another_name_namespace_and_image_reach_every_reference(overlay: Path) -> None:
    built = _build(overlay)
    account = {"kind": "ServiceAccount", "name": "acme-trtllm-operator", "namespace": "ml"}
    bindings = [manifest for (kind, _), manifest in built.items() if kind == "ClusterRoleBinding"]
    assert bindings
    for binding in bindings:
        assert binding["subjects"] == [account]
        assert ("ClusterRole", binding["roleRef"]["name"]) in built
    pod = built[("Deployment", "acme-trtllm-operator")]["spec"]["template"]["spec"]
    assert ("ServiceAccount", pod["serviceAccountName"]) in built
    assert pod["containers"][0]["image"] == "registry.example.com/operator:1.2.3"
    assert {m["metadata"].get("namespace", "ml") for m in built.values()} == {"ml"}
    assert ("CustomResourceDefinition", CRD) in built


def test_applied_twice_it_serves_and_changes_nothing(
    bare: Cluster, overlay: Path, team: Namespace, tmp_path: Path
) -> None:
    apply = ("apply", "--server-side", "--kustomize", str(overlay))
    try:
        bare.kubectl(*apply)
        bare.kubectl("wait", "--for=condition=Available", "--namespace=ml", "deployment/acme-trtllm-operator")
        before = _generations(bare)
        bare.kubectl(*apply)
        assert _generations(bare) == before
        with running_operator(bare, "ml", "acme-trtllm-operator", tmp_path):
            team.deploy()
            team.ready()
    finally:
        bare.kubectl("delete", "--kustomize", str(overlay), "--wait=false", "--ignore-not-found")
        bare.kubectl("wait", "--for=delete", f"crd/{CRD}", "--timeout=60s")


def _generations(bare: Cluster) -> str:
    kinds = "serviceaccounts,deployments"
    scoped = bare.kubectl("get", kinds, "--namespace=ml", "--output=jsonpath={.items[*].metadata.generation}")
    versions = "--output=jsonpath={.items[*].metadata.resourceVersion}"
    return scoped + bare.kubectl("get", "clusterroles,clusterrolebindings", "--selector", LABEL, versions)
