"""Where the sandbox keeps its state and its binaries, after the XDG base directory specification, and how privately."""

from __future__ import annotations

import os
import re
from pathlib import Path

from trtllm_operator.sandbox.errors import SandboxError

_NAME = re.compile(r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")


def _base(variable: str, fallback: str) -> Path:
    text = os.environ.get(variable, "")
    # The specification says that a relative path is to be ignored.
    return Path(text) if text.startswith("/") else Path.home() / fallback


def state_root() -> Path:
    """Return the directory that holds one directory for each sandbox."""
    return _base("XDG_STATE_HOME", ".local/state") / "trtllm-operator" / "sandboxes"


def cache_root() -> Path:
    """Return the directory that holds the binaries built from source."""
    return _base("XDG_CACHE_HOME", ".cache") / "trtllm-operator" / "sandbox"


def state_directory(name: str) -> Path:
    """Return the state directory of the sandbox of this name."""
    if not _NAME.match(name):
        raise SandboxError(f"{name!r} is no name for a sandbox: at most 40 of a-z, 0-9 and '-', not '-' at either end")
    return state_root() / name


def remove_empty_parents(directory: Path, levels: int) -> None:
    """Remove ``levels`` directories above ``directory``, as far as they are empty."""
    for parent in list(directory.parents)[:levels]:
        try:
            parent.rmdir()
        except OSError:
            return


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
