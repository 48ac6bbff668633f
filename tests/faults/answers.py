"""What the proxy says in the API server's place, and how it breaks off."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Mapping

from aiohttp import web

from faults.rules import Manifest, Refuse

_NO_LINGER = struct.pack("ii", 1, 0)
_KEPT = ("content-type", "retry-after", "warning", "content-encoding")


def reset(transport: asyncio.Transport) -> None:
    """Close with RST: a FIN would be the polite end of the stream."""
    if transport.is_closing():
        return
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


def kept(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of the API server's answer that the operator is to see."""
    return {key: value for key, value in headers.items() if key.lower() in _KEPT}


def status(code: int, reason: str, message: str) -> Manifest:
    """Return the Status object of an error."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
        "metadata": {},
    }


def refusal(fault: Refuse) -> web.Response:
    """Return the answer of a ``Refuse``."""
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return web.json_response(status(fault.status, fault.reason, fault.message), status=fault.status, headers=headers)
