"""An HTTP proxy as companies put between a cluster and its API server: it tunnels TLS and knows nothing of it."""

from __future__ import annotations

import asyncio
import contextlib


class Tunnel:
    """Serves CONNECT; all methods are for its own event loop."""

    def __init__(self) -> None:
        self.targets: set[str] = set()
        """Host and port of everything it was asked to connect to."""
        self.url = ""
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a free port of 127.0.0.1."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Take no further connection."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, _ = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ", 2)
        if method != "CONNECT":
            writer.close()
            return
        self.targets.add(target)
        host, _, port = target.rpartition(":")
        back, forth = await asyncio.open_connection(host.strip("[]"), int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_pass_on(reader, forth), _pass_on(back, writer))


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await source.read(65536):
            sink.write(piece)
            await sink.drain()
    sink.close()
