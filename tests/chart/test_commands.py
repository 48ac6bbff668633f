"""The commands that the documents tell users to type."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import yaml

from helm import OPERATOR_CHART, Helm
from support import ROOT

DOCUMENTS = [
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "README.md",
    *sorted((ROOT / "charts").glob("*/README.md")),
]
_BLOCK = re.compile(r"^```\n(.*?)^```", re.MULTILINE | re.DOTALL)
_VALUE = re.compile(r"`([a-zA-Z]+(?:\.[a-zA-Z]+)*): ([^`]+)`")


def _commands(program: str, verb: str) -> Iterator[Any]:
    """Every such command, as a parameter named after its document."""
    for document in DOCUMENTS:
        for block in _BLOCK.findall(document.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith(f"{program} {verb} "):
                    words = shlex.split(line, comments=True)
                    yield pytest.param(words[2:], id=f"{document.relative_to(ROOT)}: {' '.join(words)[:60]}")


def _files(words: list[str]) -> list[str]:
    return [path for flag, path in pairwise(words) if flag in ("-f", "-k")]


@pytest.mark.component
@pytest.mark.parametrize("words", [*_commands("helm", "install"), *_commands("helm", "upgrade")])
def test_helm_commands_render(helm: Helm, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    rendered = helm("template", *(word for word in words if word not in ("--wait", "--create-namespace")))
    assert list(yaml.safe_load_all(rendered))


@pytest.mark.parametrize("words", list(_commands("kubectl", "apply")))
def test_kubectl_commands_name_files_that_are_there(words: list[str]) -> None:
    (path,) = _files(words)
    assert (ROOT / path).exists()


@pytest.mark.component
def test_values_in_the_table_of_the_installation_are_taken(helm: Helm) -> None:
    table = [line for line in (ROOT / "docs" / "install.md").read_text().splitlines() if line.startswith("| ")]
    values = [match for line in table for match in _VALUE.findall(line)]
    assert len(values) > 5
    for path, value in values:
        helm("template", "x", str(OPERATOR_CHART), f"--set-json={path}={json.dumps(yaml.safe_load(value))}")
