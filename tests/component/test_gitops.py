"""What a GitOps tool puts on the user's object stays there, and what it needs is never in its way."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from control_plane import Namespace, an_llm_deployment
from support import ROOT

pytestmark = pytest.mark.component

TRACKING = {
    "labels": {
        "app.kubernetes.io/managed-by": "Helm",
        "argocd.argoproj.io/instance": "models",
        "kustomize.toolkit.fluxcd.io/name": "models",
        "helm.toolkit.fluxcd.io/name": "models",
    },
    "annotations": {
        "argocd.argoproj.io/tracking-id": "models:trtllm.dev/LLMDeployment:team-a/llama",
        "argocd.argoproj.io/sync-wave": "1",
        "kustomize.toolkit.fluxcd.io/checksum": "0",
        "meta.helm.sh/release-name": "llama",
        "meta.helm.sh/release-namespace": "team-a",
    },
}


def test_children_carry_no_tracking_metadata(namespace: Namespace) -> None:
    tracked = an_llm_deployment("llama", scaling={"maxReplicas": 2})
    tracked["metadata"] |= TRACKING
    namespace.apply(tracked)
    namespace.ready()
    children = namespace.list("deployments", "services", "configmaps", "hpa", "pods", selector="trtllm.dev/name=llama")
    assert {child["kind"] for child in children} == {
        "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Pod", "Service"
    }  # fmt: skip
    for child in children:
        metadata: dict[str, Any] = child["metadata"]
        assert not set(TRACKING["annotations"]) & set(metadata.get("annotations", {})), child["kind"]
        inherited = set(TRACKING["labels"].items()) & set(metadata["labels"].items())
        assert not inherited, child["kind"]


def test_the_example_repository_applies(namespace: Namespace) -> None:
    models = ROOT / "examples" / "gitops" / "models"
    for file in yaml.safe_load((models / "kustomization.yaml").read_text())["resources"]:
        namespace.kubectl("apply", "--dry-run=server", "--validate=strict", f"--filename={models / file}")
