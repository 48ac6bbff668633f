"""Paths, goldens and examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"


class Golden:
    """Compares text with a committed file, or rewrites the file under ``--update``."""

    def __init__(self, update: bool) -> None:
        self._update = update

    def check(self, name: str, text: str) -> None:
        path = GOLDEN / name
        if self._update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        expected = path.read_text(encoding="utf-8") if path.exists() else ""
        assert text == expected, f"{path.relative_to(ROOT)} differs; run `make update` and read the diff"


def examples() -> list[Any]:
    """Every example, as a parameter named after its file."""
    paths = sorted((ROOT / "examples").glob("[0-9]*.yaml"))
    return [pytest.param(yaml.safe_load(path.read_text(encoding="utf-8")), id=path.stem) for path in paths]
