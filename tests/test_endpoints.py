from __future__ import annotations

import aiohttp
import pytest

from trtllm_operator import endpoints
from trtllm_operator.sandbox.process import free_ports


async def _get(url: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text(), answer.headers["Content-Type"]


@pytest.mark.parametrize(
    ("problems", "status", "text"),
    [
        pytest.param([], 200, "ok\n", id="well"),
        pytest.param(["pods not listed yet", "no lease"], 503, "pods not listed yet\nno lease\n", id="not-well"),
    ],
)
async def test_a_probe_tells_what_is_wrong(problems: list[str], status: int, text: str) -> None:
    (port,) = free_ports(1)
    async with endpoints.serving("127.0.0.1", port, {"/healthz": endpoints.check(lambda: problems)}):
        assert (await _get(f"http://127.0.0.1:{port}/healthz"))[:2] == (status, text)
        assert (await _get(f"http://127.0.0.1:{port}/other"))[0] == 404


async def test_a_text_is_served_as_prometheus_wants_it() -> None:
    (port,) = free_ports(1)
    async with endpoints.serving("127.0.0.1", port, {"/metrics": lambda: "leader 1\n"}):
        answer = await _get(f"http://127.0.0.1:{port}/metrics")
    assert answer == (200, "leader 1\n", "text/plain; version=0.0.4; charset=utf-8")


async def test_port_0_serves_nothing() -> None:
    async with endpoints.serving("127.0.0.1", 0, {}):
        pass


async def test_a_taken_port_is_an_error() -> None:
    (port,) = free_ports(1)
    async with endpoints.serving("127.0.0.1", port, {}):
        with pytest.raises(OSError, match="address"):
            async with endpoints.serving("127.0.0.1", port, {}):
                pass
