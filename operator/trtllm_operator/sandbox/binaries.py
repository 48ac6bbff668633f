"""Which binary to run for each tool: an explicit choice, PATH, the cache, or a build from source."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from trtllm_operator.sandbox.components import TOOLS
from trtllm_operator.sandbox.errors import SandboxError
from trtllm_operator.sandbox.gobuild import build, cached
from trtllm_operator.sandbox.toolsets import (
    HELM_VERSION,
    KUBERNETES_VERSION,
    KWOK_VERSION,
    LWS_CONTROLLER,
    LWS_VERSION,
    ToolSet,
    addon_tool_sets,
    tool_sets,
)
from trtllm_operator.sandbox.toolsets import flux as flux_tools
from trtllm_operator.sandbox.toolsets import helm as helm_tools

Version = tuple[int, int, int]

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_ETCD_OLDEST = (3, 6, 0)
_OWN_VERSIONS = {"kwok": KWOK_VERSION, LWS_CONTROLLER: LWS_VERSION}
_PROBE_SECONDS = 15
_VERSION_ARGUMENTS = {"kubectl": ("version", "--client"), "helm": ("version",)}


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
    if tool == "helm":
        return found[0] == int(HELM_VERSION.partition(".")[0])
    wanted = parse_version(_OWN_VERSIONS.get(tool, kubernetes_version))
    if wanted is None or found[0] != wanted[0]:
        return False
    skew = 1 if tool == "kubectl" else 0
    return abs(found[1] - wanted[1]) <= skew


def resolve(kubernetes_version: str = KUBERNETES_VERSION, addons: Collection[str] = ()) -> dict[str, Path]:
    """Return the binary of every tool, building at most once those that are found nowhere."""
    found = _find_or_build(tool_sets(kubernetes_version), kubernetes_version)
    return {tool: found[tool] for tool in TOOLS} | resolve_addons(addons)


def resolve_addons(addons: Collection[str]) -> dict[str, Path]:
    """Return the binary of every controller that these add-ons run."""
    return _find_or_build(addon_tool_sets(addons), KUBERNETES_VERSION)


def _find_or_build(sets: Iterable[ToolSet], kubernetes_version: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    missing: dict[ToolSet, list[str]] = {}
    for tools in sets:
        for tool in tools.packages:
            path = chosen(tool, os.environ) or on_path(tool, kubernetes_version) or cached(tools, tool)
            if path is None:
                missing.setdefault(tools, []).append(tool)
            else:
                found[tool] = path
    for tools, names in missing.items():
        found |= build(tools, names)
    return found


def helm() -> Path:
    """Return Helm, building it at most once when it is found nowhere. Raises SandboxError when it cannot be built."""
    tools = helm_tools()
    found = chosen("helm", os.environ) or on_path("helm", KUBERNETES_VERSION) or cached(tools, "helm")
    return found or build(tools, ["helm"])["helm"]


def flux() -> dict[str, Path]:
    """Return Flux's controllers, building at most once those found nowhere. Raises SandboxError when they cannot be."""
    return _find_or_build([flux_tools()], KUBERNETES_VERSION)


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
    argv = [path, *_VERSION_ARGUMENTS.get(tool, ("--version",))]
    try:
        answer = subprocess.run(argv, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_version(answer.stdout) if answer.returncode == 0 else None
