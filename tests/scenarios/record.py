"""What became of the scenarios when they were last played with ``--record``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trtllm_operator import __version__

FILE = Path(__file__).with_name("results.json")


@dataclass(frozen=True, slots=True)
class Record:
    """Notes outcomes by number and variant in the file, over those of earlier runs; ``kept`` or only looked at."""

    kept: bool

    @contextmanager
    def outcome(self, number: int, variant: str) -> Iterator[None]:
        """Note how the block ended and how many seconds it took."""
        key = f"{number}/{variant}" if variant else str(number)
        started, passed = time.monotonic(), False
        try:
            yield
            passed = True
        finally:
            outcome = {
                "passed": passed,
                "seconds": round(time.monotonic() - started, 1),
                "date": datetime.now(UTC).date().isoformat(),
                "version": __version__,
            }
            if self.kept:
                _merge({key: outcome})


def _merge(outcomes: dict[str, dict[str, Any]]) -> None:
    merged = load() | outcomes
    ordered = dict(sorted(merged.items(), key=lambda item: (int(item[0].split("/")[0]), item[0])))
    FILE.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


def load() -> dict[str, dict[str, Any]]:
    """Return the recorded outcomes."""
    if not FILE.exists():
        return {}
    outcomes: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return outcomes
