"""The HTTP surface of a loaded server."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from trtllm_operator.engine_versions import EngineRelease
from trtllm_operator.sandbox.fake_trtllm_serve.engine import Engine, EngineDead
from trtllm_operator.sandbox.fake_trtllm_serve.exposition import exposition

_DEFAULT_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What is served: the name clients send, the options in force, the release and the engine behind."""

    name: str
    version: str
    config: Mapping[str, Any]
    release: EngineRelease
    engine: Engine


def application(served: Served) -> web.Application:
    """Return the application with the routes this release and these options have."""
    routes = Routes(served)
    app = web.Application()
    app.add_routes(
        [
            web.get("/health", routes.health),
            web.get("/health_generate", routes.health_generate),
            web.get("/version", routes.version),
            web.get("/v1/models", routes.models),
            web.get("/metrics", routes.iterations),
            web.post("/v1/chat/completions", routes.chat),
            web.post("/v1/completions", routes.complete),
        ]
    )
    if served.config.get("return_perf_metrics"):
        app.add_routes([web.get("/prometheus/metrics", routes.prometheus)])
    return app


class Routes:
    """One handler for each route."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._engine = served.engine

    async def health(self, _: web.Request) -> web.Response:
        """Answer 503 when the engine is dead, on the releases that look."""
        if self._engine.dead and self._served.release.health_tells_dead_engine:
            return web.Response(status=503, text="LLM is unavailable. Please check the server logs for more details.")
        return web.Response()

    async def health_generate(self, _: web.Request) -> web.Response:
        """Answer 200 after one token, or 500."""
        try:
            async for _word in self._engine.generate(1):
                pass
        except EngineDead:
            return web.Response(status=500)
        return web.Response()

    async def version(self, _: web.Request) -> web.Response:
        """Tell the version."""
        return web.json_response({"version": self._served.version})

    async def models(self, _: web.Request) -> web.Response:
        """Tell the one model's id."""
        model = {"id": self._served.name, "object": "model", "created": int(time.time()), "owned_by": "tensorrt_llm"}
        return web.json_response({"object": "list", "data": [model]})

    async def iterations(self, _: web.Request) -> web.Response:
        """Tell the iterations since the last call: reading drains, and two readers steal from each other."""
        return web.json_response(self._engine.drain_statistics())

    async def prometheus(self, _: web.Request) -> web.Response:
        """Tell the metrics."""
        text = exposition(self._served.release, self._served.config, self._engine, self._served.name)
        return web.Response(text=text)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer a chat, streaming when asked to."""
        return await self._answer(request, _chat_chunk, _chat_whole)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Complete a text, streaming when asked to."""
        return await self._answer(request, _text_choice, _text_choice)

    async def _answer(self, request: web.Request, chunk: Any, whole: Any) -> web.StreamResponse:
        body = await request.json()
        tokens = int(body.get("max_completion_tokens") or body.get("max_tokens") or _DEFAULT_TOKENS)
        try:
            if body.get("stream"):
                return await self._stream(request, tokens, chunk)
            text = "".join([word async for word in self._engine.generate(tokens)])
        except EngineDead:
            return web.json_response({"object": "error", "message": "engine is dead", "code": 500}, status=500)
        usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
        return web.json_response({"model": self._served.name, "choices": [whole(text)], "usage": usage})

    async def _stream(self, request: web.Request, tokens: int, chunk: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        async for word in self._engine.generate(tokens):
            event = {"model": self._served.name, "choices": [chunk(word)]}
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response


def _chat_chunk(text: str) -> dict[str, Any]:
    return {"index": 0, "delta": {"content": text}}


def _chat_whole(text: str) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length"}


def _text_choice(text: str) -> dict[str, Any]:
    return {"index": 0, "text": text, "finish_reason": "length"}
