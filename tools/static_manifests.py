"""Writes ``config/operator/operator.yaml``, the operator without Helm, from what its chart renders with default values.

Run by ``make update``; a test compares the file.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from trtllm_operator.sandbox import binaries

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "config" / "operator" / "operator.yaml"
NAMESPACE = "trtllm-operator-system"

_OF_HELM = ("helm.sh/chart", "app.kubernetes.io/managed-by")


def static_manifests() -> str:
    """Return the manifests as YAML. Raises CalledProcessError when the chart does not render."""
    chart = str(ROOT / "charts" / "trtllm-operator")
    argv = [str(binaries.helm()), "template", "trtllm-operator", chart, "--namespace", NAMESPACE]
    rendered = subprocess.run(
        [*argv, "--skip-tests", "--set", "crds.enabled=false"], capture_output=True, text=True, check=True
    ).stdout
    manifests = [_without_helm(manifest) for manifest in yaml.safe_load_all(rendered) if manifest]
    header = "# Generated from charts/trtllm-operator by `make update`. Do not edit.\n"
    return header + yaml.safe_dump_all(manifests, sort_keys=False, width=120)


def _without_helm(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest without the labels that say that Helm manages it."""
    metadata = manifest["metadata"]
    labels = {key: value for key, value in metadata["labels"].items() if key not in _OF_HELM}
    return {**manifest, "metadata": {**metadata, "labels": labels}}


if __name__ == "__main__":
    TARGET.write_text(static_manifests(), encoding="utf-8")
