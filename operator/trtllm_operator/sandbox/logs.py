"""What the log of a component says about its end."""

from __future__ import annotations

import json
import os
from pathlib import Path

_TAIL_BYTES = 16384
_SEARCHED_LINES = 40
_LONGEST = 300
_NO_SPACE = "no space left on device"


def log_tail(path: Path, lines: int) -> list[str]:
    """Return the last ``lines`` lines of a log, fewer when it is shorter or missing."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]


def last_words(path: Path) -> str:
    """Return the one line of a log that most likely says why its component does not run."""
    lines = log_tail(path, _SEARCHED_LINES)
    if any(_NO_SPACE in line for line in lines):
        return f"{_NO_SPACE} in {path.parent}"
    telling = [line for line in lines if "error" in line.lower() or "panic" in line.lower()]
    chosen = (telling or lines or ["it printed nothing"])[-1]
    return _readable(chosen.strip())[:_LONGEST]


def _readable(line: str) -> str:
    """Return the message and the error of a line that is JSON, any other line as it is."""
    try:
        record = json.loads(line)
    except ValueError:
        return line
    if not isinstance(record, dict):
        return line
    parts = [str(record[key]) for key in ("msg", "error", "err") if record.get(key)]
    return ": ".join(parts) or line
