"""Which binary to run for each tool: an explicit choice, PATH, the cache, or a build from source."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from trtllm_operator.sandbox.components import TOOLS
from trtllm_operator.sandbox.errors import SandboxError
from trtllm_operator.sandbox.gobuild import build, cached
from trtllm_operator.sandbox.toolsets import KUBERNETES_VERSION, KWOK_VERSION, ToolSet, tool_sets

Version = tuple[int, int, int]

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_ETCD_OLDEST = (3, 6, 0)
_PROBE_SECONDS = 15


def parse_version(text: str) -> Version | None:
    """Return the first X.Y.Z in a text, or None."""
    match = _VERSION.search(text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def checked_kubernetes_version(text: str) -> str:
    """Return ``X.Y.Z`` for ``X.Y.Z`` or ``vX.Y.Z``; raise SandboxError for anything else."""
    bare = text.removeprefix("v")
    if not _VERSION.fullmatch(bare):
        raise SandboxError(f"{text!r} is no Kubernetes version X.Y.Z, for example {KUBERNETES_VERSION}")
    return bare


def fits(tool: str, found: Version, kubernetes_version: str) -> bool:
    """Tell whether a binary of version ``found`` can serve as ``tool`` beside this Kubernetes."""
    if tool == "etcd":
        return found >= _ETCD_OLDEST
    wanted = parse_version(KWOK_VERSION if tool == "kwok" else kubernetes_version)
    if wanted is None or found[0] != wanted[0]:
        return False
    skew = 1 if tool == "kubectl" else 0
    return abs(found[1] - wanted[1]) <= skew


def resolve(kubernetes_version: str = KUBERNETES_VERSION) -> dict[str, Path]:
    """Return the binary of every tool, building at most once those that are found nowhere."""
    found: dict[str, Path] = {}
    missing: dict[ToolSet, list[str]] = {}
    for tools in tool_sets(kubernetes_version):
        for tool in tools.packages:
            path = chosen(tool, os.environ) or on_path(tool, kubernetes_version) or cached(tools, tool)
            if path is None:
                missing.setdefault(tools, []).append(tool)
            else:
                found[tool] = path
    for tools, names in missing.items():
        found |= build(tools, names)
    return {tool: found[tool] for tool in TOOLS}


def chosen(tool: str, environ: Mapping[str, str]) -> Path | None:
    """Return the binary in ``KUBEBUILDER_ASSETS``: an explicit choice, so its version is not asked."""
    assets = environ.get("KUBEBUILDER_ASSETS", "")
    path = Path(assets).absolute() / tool
    return path if assets and os.access(path, os.X_OK) and path.is_file() else None


def on_path(tool: str, kubernetes_version: str) -> Path | None:
    """Return the binary on PATH when its version fits."""
    path = shutil.which(tool)
    if path is None:
        return None
    version = _probe(path, tool)
    return Path(path).absolute() if version and fits(tool, version, kubernetes_version) else None


def _probe(path: str, tool: str) -> Version | None:
    arguments = ["version", "--client"] if tool == "kubectl" else ["--version"]
    try:
        answer = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_version(answer.stdout) if answer.returncode == 0 else None
