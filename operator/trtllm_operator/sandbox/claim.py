"""Who owns a state directory: the process that holds the lock in it, and nobody when that process is gone."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

from trtllm_operator.sandbox.components import Layout
from trtllm_operator.sandbox.errors import SandboxError
from trtllm_operator.sandbox.paths import remove_empty_parents
from trtllm_operator.sandbox.process import kill_leftover

_FREE_BYTES = 512 * 1024**2
_ATTEMPTS = 5


def is_owned(layout: Layout) -> bool:
    """Tell whether a living supervisor owns this state directory."""
    try:
        descriptor = os.open(layout.lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def claim(layout: Layout, name: str) -> None:
    """Create the state directory and own it until this process ends; sweep what a dead owner left in it."""
    try:
        for _ in range(_ATTEMPTS):
            try:
                _claim(layout, name)
            except FileNotFoundError:  # another sandbox going down removed an empty parent meanwhile
                continue
            return
    except OSError as error:
        raise SandboxError(f"cannot create {layout.root}: {error.strerror}") from error
    raise SandboxError(f"cannot create {layout.root}: its parent keeps vanishing")


def _claim(layout: Layout, name: str) -> None:
    root = layout.root.parent
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        _refuse_owned(layout, name)
        sweep(layout)
        _refuse_full_disk(root)
        _take(layout)
    finally:
        os.close(directory)
        release(layout)


def _refuse_owned(layout: Layout, name: str) -> None:
    if is_owned(layout):
        raise SandboxError(f"sandbox {name!r} is running already")


def _refuse_full_disk(root: Path) -> None:
    free = shutil.disk_usage(root).free
    if free < _FREE_BYTES:
        raise SandboxError(f"{root} has {free >> 20} MiB free, a sandbox needs {_FREE_BYTES >> 20}")


def _take(layout: Layout) -> None:
    layout.root.mkdir(mode=0o700)
    try:
        # Held open, and so locked, until the process ends: deliberately never closed.
        lock = os.open(layout.lock, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        remove_tree(layout.root)
        raise


def clear(layout: Layout) -> None:
    """Sweep a state directory that nobody owns; one that somebody has claimed anew meanwhile stays."""
    try:
        directory = os.open(layout.root.parent, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        if not is_owned(layout):
            sweep(layout)
    finally:
        os.close(directory)
        release(layout)


def sweep(layout: Layout) -> None:
    """Kill and remove what is left of a sandbox whose supervisor is gone; the caller holds the root's lock."""
    for component in read_record(layout).get("components", {}).values():
        kill_leftover(component["pid"], f"{layout.root}/")
    remove_tree(layout.root)


def release(layout: Layout) -> None:
    """Remove the parents of the state directory as far as they are empty: a sandbox leaves nothing behind."""
    remove_empty_parents(layout.root, 2)


def read_record(layout: Layout) -> dict[str, Any]:
    """Return what the supervisor has written down; empty when there is nothing readable."""
    try:
        record: dict[str, Any] = json.loads(layout.record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record


def remove_tree(directory: Path) -> None:
    """Remove a directory with all its content; it is no error when there is none."""
    for _ in range(_ATTEMPTS):
        try:
            shutil.rmtree(directory)
        except FileNotFoundError:
            if not directory.exists():
                return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
        else:
            return
