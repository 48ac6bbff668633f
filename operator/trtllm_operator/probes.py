"""The HTTP endpoints of the kubelet: /healthz and /readyz, each a list of what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiohttp import web

Check = Callable[[], Sequence[str]]
"""Return one sentence for each thing that is wrong; nothing when all is well."""


async def serve(host: str, port: int, *, healthy: Check, ready: Check) -> web.AppRunner:
    """Start serving and return the runner, whose ``cleanup`` ends it. Raises OSError when the port is taken."""

    def answer(check: Check) -> web.Response:
        problems = check()
        return web.Response(status=503 if problems else 200, text="\n".join(problems or ["ok"]) + "\n")

    async def healthz(_: web.Request) -> web.Response:
        return answer(healthy)

    async def readyz(_: web.Request) -> web.Response:
        return answer(ready)

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
