"""What the operator serves by HTTP: /healthz and /readyz for the kubelet, /metrics for Prometheus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

Page = Callable[[], web.Response | str]
"""Return an answer, or a text to answer 200 with."""

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus's text format; for probes any text will do."""


def check(problems: Callable[[], Sequence[str]]) -> Page:
    """Return the page of a probe: one sentence for each thing that is wrong, and 503; or ``ok``."""

    def page() -> web.Response:
        found = problems()
        return web.Response(status=503 if found else 200, text="\n".join(found or ["ok"]) + "\n")

    return page


@asynccontextmanager
async def serving(host: str, port: int, pages: Mapping[str, Page]) -> AsyncIterator[None]:
    """Serve pages by their paths, or nothing when the port is 0. Raises OSError when the port is taken."""
    if port == 0:
        yield
        return
    app = web.Application()
    for path, page in pages.items():
        app.router.add_get(path, _handler(page))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()


def _handler(page: Page) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(_: web.Request) -> web.StreamResponse:
        answer = page()
        if isinstance(answer, web.Response):
            return answer
        return web.Response(body=answer.encode(), headers={"Content-Type": _CONTENT_TYPE})

    return handle
