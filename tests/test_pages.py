"""The pages whose commands are run: what they print is what the page shows."""

from __future__ import annotations

import re

import pytest

import console
from support import ROOT, Golden
from trtllm_operator import spellings
from trtllm_operator.cli_plan import explain, plan
from trtllm_operator.rbac import leader_rules, rules

COMMAND_LINE = ROOT / "docs" / "command-line.md"
SEEDS = ROOT / "docs" / "seeds.md"
MARKER = "<!-- The rest is generated from data/flags.json; rewrite it with `make update`. -->\n"


def test_the_seeds_page_shows_what_the_tool_prints(golden: Golden) -> None:
    page = SEEDS.read_text(encoding="utf-8")
    assert len(console.commands(page)) >= 20
    golden.check_file(SEEDS, console.rerun(page))


@pytest.mark.parametrize("number", range(1, 24))
def test_every_contradiction_is_listed_and_shown_where_it_bites(number: int) -> None:
    named = re.compile(rf"\bC{number}\b")
    body, _, listed = SEEDS.read_text(encoding="utf-8").partition("## Contradictions")
    assert len(named.findall(listed)) == 1
    assert named.search(body.partition("## The CLI chapter")[2])


def test_the_command_line_page_shows_what_the_tool_prints(golden: Golden) -> None:
    prose, marker, _ = COMMAND_LINE.read_text(encoding="utf-8").partition(MARKER)
    assert marker, f"{COMMAND_LINE.name} has lost its marker"
    golden.check_file(COMMAND_LINE, console.rerun(prose) + marker + _spellings())


def _spellings() -> str:
    rows = [f"| `--{alias}` | `--{flag}` |\n" for alias, flag in sorted(spellings.aliases().items())]
    refused = [f"| `--{flag}` | {reason} |\n" for flag, reason in sorted(spellings.refused_flags().items())]
    return (
        "\n| Also understood | Means |\n|---|---|\n"
        + "".join(rows)
        + "\n| Refused | Why |\n|---|---|\n"
        + "".join(refused)
    )


@pytest.mark.parametrize("command", [plan, explain], ids=["plan", "explain"])
def test_every_flag_is_described(command: object) -> None:
    page = COMMAND_LINE.read_text(encoding="utf-8")
    options = [name for parameter in command.params for name in parameter.opts if name.startswith("--")]  # type: ignore[attr-defined]
    assert [name for name in options if f"`{name}" not in page] == []


def test_the_installation_page_names_every_right() -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    section = page.partition("## What it may do")[2].partition("\n## ")[0]
    table = "\n".join(line for line in section.splitlines() if line.startswith("|")).lower()
    granted = {resource.partition("/")[0] for rule in (*rules(), *leader_rules()) for resource in rule["resources"]}
    assert {resource for resource in granted if resource not in table} == set()
