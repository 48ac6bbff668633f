"""Helm against a chart, or against a sandbox."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from support import ROOT
from trtllm_operator.sandbox import binaries

OPERATOR_CHART = ROOT / "charts" / "trtllm-operator"
LLM_DEPLOYMENT_CHART = ROOT / "charts" / "llm-deployment"

RELEASE = "trtllm-operator"
SYSTEM = "operators"
CRD = "llmdeployments.trtllm.dev"

Manifest = dict[str, Any]


class Helm:
    """Helm with directories of its own, so that nothing of the user's decides a test."""

    def __init__(self, home: Path, kubeconfig: Path | None = None) -> None:
        self._binary = str(binaries.helm())
        self._environment = {
            **os.environ,
            "HELM_CACHE_HOME": str(home / "cache"),
            "HELM_CONFIG_HOME": str(home / "config"),
            "HELM_DATA_HOME": str(home / "data"),
            "KUBECONFIG": str(kubeconfig or home / "none"),
        }

    def __call__(self, *arguments: str, values: Mapping[str, Any] | None = None, fails: bool = False) -> str:
        """Run Helm with these values; return its output, or what it complains about where it must fail."""
        argv = [self._binary, *arguments, *(["--values=-"] if values is not None else [])]
        answer = subprocess.run(
            argv,
            input=yaml.safe_dump(dict(values)) if values is not None else None,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert (answer.returncode != 0) is fails, answer.stdout + answer.stderr
        return answer.stderr if fails else answer.stdout

    def template(self, chart: Path, release: str, *arguments: str, values: Mapping[str, Any]) -> list[Manifest]:
        """Return what a chart renders."""
        text = self("template", release, str(chart), "--namespace=operators", *arguments, values=values)
        return [manifest for manifest in yaml.safe_load_all(text) if manifest is not None]
