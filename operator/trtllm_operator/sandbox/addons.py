"""The third-party APIs a sandbox can have: their pinned CRDs, kept as data beside this module."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from trtllm_operator.sandbox.errors import SandboxError

Kubectl = Callable[..., object]
"""Runs kubectl as the administrator with these arguments; raises SandboxError when it fails."""

_DATA = resources.files("trtllm_operator.sandbox").joinpath("crds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Addon:
    """The CRDs of one project, with the checksum of the Go module they come from and the digest of their text."""

    name: str
    module: str
    version: str
    sum: str
    directory: str
    files: tuple[str, ...]
    sha256: str

    def crds(self) -> bytes:
        """Return the CRDs as their project publishes them: a stream of YAML documents."""
        return lzma.decompress(_DATA.joinpath(f"{self.name}.yaml.xz").read_bytes())


def _pinned() -> dict[str, Addon]:
    pins = json.loads(_DATA.joinpath("pins.json").read_text(encoding="utf-8"))
    return {name: Addon(name=name, **{**pin, "files": tuple(pin["files"])}) for name, pin in pins.items()}


ADDONS = MappingProxyType(_pinned())
"""Every add-on by its name, in the order in which they are installed."""


def checked_addons(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names once each, in the order of installation; raises SandboxError for one that is no add-on."""
    wanted = set(names)
    if unknown := sorted(wanted - ADDONS.keys()):
        raise SandboxError(f"no add-on {', '.join(map(repr, unknown))}; there are: {', '.join(ADDONS)}")
    return tuple(name for name in ADDONS if name in wanted)


def data_file(name: str) -> str:
    """Return the text of a file that is kept beside the CRDs."""
    return _DATA.joinpath(name).read_text(encoding="utf-8")


def install_crds(names: Iterable[str], kubectl: Kubectl, directory: Path) -> None:
    """Apply the CRDs of these add-ons by way of files in ``directory``, and wait until their kinds are served."""
    files = []
    for name in names:
        source = directory / f"{name}.yaml"
        source.write_bytes(ADDONS[name].crds())
        files.append(f"--filename={source}")
    kubectl("apply", "--server-side", "--field-manager=sandbox", *files)
    wait_established(kubectl, *files)


def wait_established(kubectl: Kubectl, *crds: str) -> None:
    """Wait until the kinds of these CRDs, resources or files, are served.

    kubectl cannot wait for a condition of an object that has none yet: a CRD's are null at first.
    """
    for sign in ("jsonpath={.status.conditions[0].type}", "condition=Established"):
        kubectl("wait", f"--for={sign}", "--timeout=30s", *crds)
