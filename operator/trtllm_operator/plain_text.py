"""Text from files and flags, made safe to show."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return text without characters that a terminal or an XML parser would act on; they are spelled out instead."""
    return "".join(
        sign if sign.isprintable() or sign == "\n" else sign.encode("unicode_escape").decode() for sign in text
    )
