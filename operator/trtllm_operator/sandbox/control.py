"""The conversation with a running supervisor: one line of JSON each way, over a socket in its state directory."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from trtllm_operator.sandbox.errors import SandboxError

_TIMEOUT = 20.0
_REQUEST_TIMEOUT = 2.0
_BACKLOG = 16


@contextlib.contextmanager
def _short_address(path: Path) -> Iterator[str]:
    """Yield an address of the socket that fits the 108 bytes a socket address has, however deep the path."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        link = Path(f"/proc/self/fd/{descriptor}")
        yield str((link if link.exists() else path.parent) / path.name)
    finally:
        os.close(descriptor)


class Conversation:
    """One request as the supervisor sees it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._kept = False
        connection.settimeout(_REQUEST_TIMEOUT)
        request = _read_line(connection)
        self.command = str(request.get("command", ""))
        self.component = str(request.get("component", ""))
        self.argument: dict[str, Any] = request.get("argument") or {}

    def reply(self, answer: dict[str, Any]) -> None:
        """Send the answer; a caller that went away is no trouble of ours."""
        with contextlib.suppress(OSError):
            self._connection.sendall(json.dumps(answer).encode() + b"\n")

    def keep(self) -> None:
        """Leave the connection open until the process ends: its end is the answer."""
        self._kept = True
        _KEPT.append(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._kept:
            self._connection.close()


_KEPT: list[socket.socket] = []


class Listener:
    """The supervisor's end of the control socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        with _short_address(path) as address:
            self.socket.bind(address)
        self.socket.listen(_BACKLOG)

    def accept(self) -> Conversation:
        """Accept one connection and read its request."""
        connection, _ = self.socket.accept()
        return Conversation(connection)


def ask(path: Path, command: str, component: str = "", argument: dict[str, Any] | None = None) -> dict[str, Any]:
    """Send one command to the supervisor and return its answer; raises SandboxError when it refuses."""
    try:
        with socket.socket(socket.AF_UNIX) as connection, _short_address(path) as address:
            connection.settimeout(_TIMEOUT)
            connection.connect(address)
            request = {"command": command, "component": component, "argument": argument}
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = _read_line(connection)
    except OSError as error:
        raise SandboxError(f"the sandbox's supervisor does not answer: {error.strerror or error}") from error
    if "error" in answer:
        raise SandboxError(str(answer["error"]))
    return answer


def _read_line(connection: socket.socket) -> dict[str, Any]:
    line = bytearray()
    while not line.endswith(b"\n"):
        try:
            chunk = connection.recv(65536)
        except ConnectionError:
            break
        if not chunk:
            break
        line += chunk
    try:
        document = json.loads(line or b"{}")
    except ValueError:
        document = {}
    return document if isinstance(document, dict) else {}
