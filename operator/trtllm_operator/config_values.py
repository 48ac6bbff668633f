"""Values out of somebody else's JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LARGEST = 10**9
_ABSENT = (0, -1)


class BadValueError(Exception):
    """A key whose value cannot be."""


def number(config: Mapping[str, Any], key: str, largest: int = _LARGEST) -> int | None:
    """Return a positive whole number, or None when the key is absent, null, 0 or -1.

    Raises BadValueError for anything else.
    """
    value = config.get(key)
    if value is None or value in _ABSENT:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1:
        raise BadValueError(f"{key} is {str(value)[:40]!r}, not a whole number")
    if not 0 < value <= largest:
        raise BadValueError(f"{key} is {str(int(value))[:40]}, not within 1 and {largest}")
    return int(value)
