"""The Hub is asked once, in the background, and its failures are told without its tokens."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator, Mapping

import pytest

from test_model_config import LLAMA
from trtllm_operator.facts import ModelFacts, Source
from trtllm_operator.hub import Answer, Failed, HubError, HubFacts, Pending, hub_fetch

TOKEN = "hf_" + "x" * 34


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def answer(facts: HubFacts, name: str = "acme/llm") -> Answer:
    assert facts.get(name) == Pending()
    assert facts.get(name) == Pending()
    await facts.settled()
    return facts.get(name)


async def test_a_repository_is_asked_for_once() -> None:
    asked: list[str] = []

    async def fetch(name: str, revision: str | None) -> Mapping[str, str]:
        asked.append(f"{name}@{revision}")
        return {"config.json": json.dumps(LLAMA)}

    facts = HubFacts(fetch, Clock())
    found = await answer(facts)
    assert isinstance(found, ModelFacts)
    assert (found.layers, found.source) == (80, Source.HUB)
    assert facts.get("acme/llm") == found
    assert asked == ["acme/llm@None"]


async def test_a_failure_is_remembered_and_asked_again_later_and_later() -> None:
    clock, asked = Clock(), 0

    async def fetch(_name: str, _revision: str | None) -> Mapping[str, str]:
        nonlocal asked
        asked += 1
        raise HubError("no")

    facts = HubFacts(fetch, clock)
    assert await answer(facts) == Failed(reason="no", retry_at=60, failures=1)
    clock.now = 59
    assert isinstance(facts.get("acme/llm"), Failed)
    assert asked == 1
    clock.now = 60
    assert await answer(facts) == Failed(reason="no", retry_at=180, failures=2)
    for _ in range(8):
        clock.now += 3600
        await answer(facts)
    last = facts.get("acme/llm")
    assert isinstance(last, Failed)
    assert last.retry_at == clock.now + 3600


async def test_an_answer_that_does_not_come_is_a_failure() -> None:
    async def fetch(_name: str, _revision: str | None) -> Mapping[str, str]:
        await asyncio.Event().wait()
        raise AssertionError

    found = await answer(HubFacts(fetch, Clock(), timeout_seconds=0.01))
    assert isinstance(found, Failed)
    assert "no answer within 0.01 seconds" in found.reason


async def test_files_that_tell_nothing_are_a_failure() -> None:
    async def fetch(_name: str, _revision: str | None) -> Mapping[str, str]:
        return {"config.json": "{"}

    found = await answer(HubFacts(fetch, Clock()))
    assert isinstance(found, Failed)
    assert "config.json: is not JSON" in found.reason


class Hub(http.server.BaseHTTPRequestHandler):
    """The one endpoint of the Hub that a download of a small file needs."""

    protocol_version = "HTTP/1.1"
    index = json.dumps({"metadata": {"total_size": 141_107_412_992}})

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def _answer(self, *, body: bool) -> None:
        _, organisation, _, _, revision, file = self.path.split("/", 5)
        if organisation == "gated" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._refuse(401 if "Authorization" not in self.headers else 403, "GatedRepo")
        if organisation == "nobody":
            return self._refuse(404, "RepoNotFound")
        if revision == "v0":
            return self._refuse(404, "RevisionNotFound")
        if organisation == "broken":
            return self._refuse(500, "")
        files = {"config.json": json.dumps(LLAMA), "model.safetensors.index.json": self.index}
        if file not in files:
            return self._refuse(404, "EntryNotFound")
        text = files[file].encode()
        self.send_response(200)
        self.send_header("ETag", f'"{file}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if body:
            self.wfile.write(text)
        return None

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


async def asked(endpoint: str, name: str, revision: str | None, token: str | None) -> Answer:
    facts = HubFacts(hub_fetch(endpoint=endpoint, token=token), Clock())
    facts.get(name, revision)
    await facts.settled()
    return facts.get(name, revision)


async def test_a_public_repository(endpoint: str) -> None:
    found = await asked(endpoint, "acme/llm", None, None)
    assert isinstance(found, ModelFacts), found
    assert (found.weight_bytes, found.layers) == (141_107_412_992, 80)


async def test_a_gated_repository_with_its_token(endpoint: str) -> None:
    assert isinstance(await asked(endpoint, "gated/llm", None, TOKEN), ModelFacts)


@pytest.mark.parametrize(
    ("name", "revision", "token", "told"),
    [
        ("gated/llm", None, None, "gated or private (HTTP 401)"),
        ("gated/llm", None, TOKEN[:-1] + "y", "gated or private (HTTP 403)"),
        ("nobody/llm", None, None, "no repository nobody/llm"),
        ("acme/llm", "v0", None, "no revision 'v0'"),
        ("broken/llm", None, TOKEN, "HTTP 500 from the Hub"),
    ],
)
async def test_what_the_hub_refuses(
    endpoint: str, name: str, revision: str | None, token: str | None, told: str
) -> None:
    found = await asked(endpoint, name, revision, token)
    assert isinstance(found, Failed), found
    assert told in found.reason
    assert "hf_" not in found.reason


async def test_no_network(caplog: pytest.LogCaptureFixture) -> None:
    found = await asked("http://127.0.0.1:9", "acme/llm", None, TOKEN)
    assert isinstance(found, Failed)
    assert "cannot be reached" in found.reason
    assert TOKEN not in caplog.text
