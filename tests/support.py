"""Paths, goldens and examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from trtllm_operator.naming import KIND

ROOT = Path(__file__).parent.parent
SPECS = Path(__file__).parent / "data" / "specs"
GOLDEN = Path(__file__).parent / "golden"

TOLD = pytest.StashKey[list[str]]()
"""Lines for the end of the test run."""


class Golden:
    """Compares text with a committed file, or rewrites the file under ``--update``."""

    def __init__(self, update: bool) -> None:
        self._update = update

    def check(self, name: str, text: str) -> None:
        self.check_file(GOLDEN / name, text)

    def check_file(self, path: Path, text: str) -> None:
        if self._update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        expected = path.read_text(encoding="utf-8") if path.exists() else ""
        assert text == expected, f"{path.relative_to(ROOT)} differs; run `make update` and read the diff"


def examples() -> list[Any]:
    """Every example, as a parameter named after its file."""
    return _read(sorted((ROOT / "examples").glob("[0-9]*.yaml")))


def specs() -> list[Any]:
    """Further LLMDeployments, that together ask for every kind of object."""
    return _read(sorted(SPECS.glob("*.yaml")))


def inputs() -> list[Any]:
    """Every example and every further LLMDeployment."""
    return [*examples(), *specs()]


def _read(paths: list[Path]) -> list[Any]:
    return [pytest.param(_example(path), id=path.stem) for path in paths]


def config_maps() -> dict[str, dict[str, str]]:
    """Return the data of the ConfigMaps that examples bring along, by name."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("[0-9]*.yaml")]
    documents = [document for text in texts for document in yaml.safe_load_all(text)]
    return {found["metadata"]["name"]: found["data"] for found in documents if found["kind"] == "ConfigMap"}


def _example(path: Path) -> dict[str, Any]:
    """Return the LLMDeployment of a file, which may hold other objects that it needs."""
    documents = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    (found,) = (document for document in documents if document["kind"] == KIND)
    return dict(found)
