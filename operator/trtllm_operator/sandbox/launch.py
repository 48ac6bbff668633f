"""Starts the supervisor of a sandbox and follows its reports."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

from trtllm_operator.sandbox.errors import SandboxError
from trtllm_operator.sandbox.spec import SandboxSpec

_LOG = logging.getLogger(__name__)

# The package may run from a source tree that the caller alone has put on its path.
_SOURCE = str(Path(__file__).parents[2])


def launch(spec: SandboxSpec) -> subprocess.Popen[bytes] | None:
    """Start the supervisor and follow its reports until the sandbox is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "trtllm_operator.sandbox.supervisor"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C in the terminal is ours to handle, not the supervisor's
        env={**os.environ, "PYTHONPATH": os.pathsep.join([_SOURCE, *_existing_path()])},
    )
    try:
        _follow(process, spec)
    except BaseException:
        close(process)
        raise
    if not spec.detach:
        return process
    _send(process, "detach\n")
    close(process)
    return None


def _existing_path() -> list[str]:
    return list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))


def _follow(process: subprocess.Popen[bytes], spec: SandboxSpec) -> None:
    _send(process, spec.dumps() + "\n")
    for line in process.stdout or ():
        report = json.loads(line)
        match report["event"]:
            case "progress":
                _LOG.info("%s", report["message"])
            case "failed":
                raise SandboxError(report["message"])
            case _:
                return
    raise SandboxError(f"the supervisor of sandbox {spec.name!r} ended before the sandbox was ready")


def _send(process: subprocess.Popen[bytes], text: str) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(text.encode())
            process.stdin.flush()


def close(process: subprocess.Popen[bytes]) -> None:
    """Let go of the lifeline and wait until the supervisor has ended, or has become independent."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    if process.stdout is not None:
        process.stdout.read()  # the end of its output is the end of the supervisor, whosever child it is
        process.stdout.close()
    process.wait()
