"""A model's own files from the Hugging Face Hub, asked for in the background. Needs the extra ``hub``.

Nothing waits for it: ``HubFacts.get`` answers at once with what is known, and starts one fetch where nothing is.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trtllm_operator.facts import ModelFacts, Source
from trtllm_operator.model_config import CONFIG, INDEX, QUANTIZATION, Unreadable, read_model

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_SECONDS = 20.0
_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 60.0, 3600.0
_REQUEST_SECONDS = 10.0
_GATED = (401, 403)
_ABSENT = 404


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The Hub has been asked and has not answered yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Why the Hub told nothing, and when (in the clock's seconds) it is worth asking again."""

    reason: str
    retry_at: float
    failures: int


Answer = ModelFacts | Pending | Failed
Fetch = Callable[[str, str | None], Awaitable[Mapping[str, str]]]


class HubError(Exception):
    """What keeps the Hub from telling; its text is for users and never holds a token."""


class HubFacts:
    """What the Hub says of models, remembered for as long as the process lives.

    ``fetch`` returns the texts of a repository's files at a revision, or raises HubError. ``clock`` counts seconds.
    """

    def __init__(
        self, fetch: Fetch, clock: Callable[[], float], *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._answers: dict[tuple[str, str | None], Answer] = {}
        self._running: set[asyncio.Task[None]] = set()

    def get(self, name: str, revision: str | None = None) -> Answer:
        """Return what is known of a repository now; must be called within a running event loop."""
        known = self._answers.get((name, revision))
        if isinstance(known, ModelFacts | Pending) or (isinstance(known, Failed) and self._clock() < known.retry_at):
            return known
        failures = known.failures if isinstance(known, Failed) else 0
        self._answers[name, revision] = Pending()
        task = asyncio.get_running_loop().create_task(self._ask(name, revision, failures))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return Pending()

    async def settled(self) -> None:
        """Wait until no question is open."""
        while self._running:
            await asyncio.gather(*self._running)

    async def _ask(self, name: str, revision: str | None, failures: int) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                files = await self._fetch(name, revision)
        except TimeoutError:
            answer: Answer = self._failed(f"no answer within {self._timeout_seconds:g} seconds", failures)
        except HubError as error:
            answer = self._failed(str(error), failures)
        else:
            read = read_model(name, files, Source.HUB)
            answer = self._failed(str(read), failures) if isinstance(read, Unreadable) else read
        if isinstance(answer, Failed):
            logger.warning("the Hub tells nothing of %s: %s", name, answer.reason)
        self._answers[name, revision] = answer

    def _failed(self, reason: str, failures: int) -> Failed:
        wait = min(_LAST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2**failures)
        return Failed(reason=reason, retry_at=self._clock() + wait, failures=failures + 1)


def hub_fetch(*, token: str | None = None, endpoint: str | None = None) -> Fetch:
    """Return a fetch from the Hub with huggingface_hub, in a thread.

    Raises HubError when the extra ``hub`` is not installed.
    """
    try:
        importlib.import_module("huggingface_hub.utils")
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise HubError("huggingface_hub is not installed; install trtllm-operator[hub]") from error

    async def fetch(name: str, revision: str | None) -> Mapping[str, str]:
        return await asyncio.to_thread(_download, hub, name, revision, token, endpoint)

    return fetch


def _download(hub: Any, name: str, revision: str | None, token: str | None, endpoint: str | None) -> Mapping[str, str]:
    headers = hub.utils.build_hf_headers(token=token or False)
    files: dict[str, str] = {}
    for file in (CONFIG, INDEX, QUANTIZATION):
        url = hub.hf_hub_url(name, file, revision=revision, endpoint=endpoint)
        try:
            # Not the library's own download, which goes on trying for half a minute where there is no network.
            response = hub.utils.get_session().get(
                url, headers=headers, timeout=_REQUEST_SECONDS, follow_redirects=True
            )
            hub.utils.hf_raise_for_status(response)
        except hub.errors.EntryNotFoundError:
            continue
        except Exception as error:  # noqa: BLE001 - the library raises its transport's errors too
            raise HubError(_told(hub, name, revision, error)) from None
        files[file] = response.text
    return files


def _told(hub: Any, name: str, revision: str | None, error: Exception) -> str:
    """Say in our words what went wrong: the library's own text may repeat request headers."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, hub.errors.GatedRepoError) or status in _GATED:
        return f"{name} is gated or private (HTTP {status}): give a token with access to it"
    if isinstance(error, hub.errors.RevisionNotFoundError):
        return f"{name} has no revision {revision!r}"
    if isinstance(error, hub.errors.RepositoryNotFoundError) or status == _ABSENT:
        return f"there is no repository {name}, or the token may not see it"
    if status is not None:
        return f"HTTP {status} from the Hub"
    return f"the Hub cannot be reached ({type(error).__name__})"
