"""Child processes that cannot outlive the process that started them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from trtllm_operator.sandbox.errors import SandboxError

_PR_SET_PDEATHSIG = 1
# Below the range the kernel takes the ports of outgoing connections from, so none can take a port chosen here
# before its component binds it.
_PORTS = range(20000, 32768)


def _prctl() -> Callable[[int, int], int] | None:
    if sys.platform != "linux":
        return None
    function: Callable[[int, int], int] = ctypes.CDLL(None).prctl
    return function


_PRCTL = _prctl()


def die_with(parent: int) -> Callable[[], None] | None:
    """Return what a new child must run so that it dies with the process ``parent``; None where unsupported."""
    prctl = _PRCTL
    if prctl is None:
        return None

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died between the fork and the line above
            os._exit(1)

    return arrange


def spawn(argv: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path) -> subprocess.Popen[bytes]:
    """Start a component: its own process group, output appended to ``log``, killed when its parent dies."""
    with log.open("ab") as output:
        # The supervisor has one thread, so code between fork and exec is safe.
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
            preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - see above
        )


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, and all in its group, and wait until it is gone."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill_leftover(pid: int, mark: str) -> None:
    """Kill the process group ``pid`` when its command line still holds ``mark``: a pid is soon used again."""
    command = Path(f"/proc/{pid}/cmdline")
    try:
        if mark.encode() not in command.read_bytes():
            return
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        return


def port_is_free(port: int) -> bool:
    """Tell whether 127.0.0.1:``port`` can be bound now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Return ``count`` different free ports of 127.0.0.1, at random so that two sandboxes hardly ever meet."""
    chosen: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if port_is_free(port):
            chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise SandboxError(f"127.0.0.1 has no {count} free ports between {_PORTS.start} and {_PORTS.stop - 1}")
