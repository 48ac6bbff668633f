"""The imitated engine: it counts requests, makes one word for each token, and can die."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any


class EngineDead(Exception):
    """The engine has died and answers nothing any more."""


class Engine:
    """Serves at most ``max_batch_size`` requests at once; the others wait. Latencies are seconds."""

    def __init__(self, *, max_batch_size: int, token_seconds: float, keep_statistics: bool) -> None:
        self._places = asyncio.Semaphore(max_batch_size)
        self._token_seconds = token_seconds
        self._keep_statistics = keep_statistics
        self._statistics: deque[dict[str, Any]] = deque(maxlen=1000)
        self.dead = False
        self.running = 0
        self.waiting = 0
        self.completed = 0
        self.generated_tokens = 0
        self.latencies: dict[str, list[float]] = {"queue": [], "first_token": [], "end_to_end": []}

    async def generate(self, tokens: int) -> AsyncIterator[str]:
        """Yield ``tokens`` words. Raises EngineDead."""
        start = time.monotonic()
        self.waiting += 1
        try:
            await self._places.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        self.latencies["queue"].append(time.monotonic() - start)
        try:
            for position in range(tokens):
                await asyncio.sleep(self._token_seconds)
                if self.dead:
                    raise EngineDead
                self._note_token(position, start)
                yield f"word{position} "
            self.completed += 1
            self.latencies["end_to_end"].append(time.monotonic() - start)
        finally:
            self.running -= 1
            self._places.release()

    def drain_statistics(self) -> list[dict[str, Any]]:
        """Return the iterations since the last call, and forget them."""
        drained = list(self._statistics)
        self._statistics.clear()
        return drained

    def _note_token(self, position: int, start: float) -> None:
        self.generated_tokens += 1
        if position == 0:
            self.latencies["first_token"].append(time.monotonic() - start)
        if self._keep_statistics:
            self._statistics.append({"numActiveRequests": self.running, "numQueuedRequests": self.waiting})
