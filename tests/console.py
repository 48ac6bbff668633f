"""Console blocks of a page, run again: a block holds one command and what it prints."""

from __future__ import annotations

import re
import shlex

from click.testing import CliRunner

from trtllm_operator.cli import main

_BLOCK = re.compile(r"```console\n\$ (?P<command>(?:[^\n]*\\\n)*[^\n]*)\n(?P<output>.*?)```\n", re.DOTALL)
_HEAD = re.compile(r"\| head -n (?P<lines>\d+)$")
WIDTH = 100


def commands(page: str) -> list[str]:
    """Every command of a page."""
    return [block["command"] for block in _BLOCK.finditer(page)]


def rerun(page: str) -> str:
    """The page with every block's output as it is now."""
    return _BLOCK.sub(lambda block: f"```console\n$ {block['command']}\n{output(block['command'])}```\n", page)


def output(command: str) -> str:
    """What a terminal shows for a command, which may end in ``| head -n N``."""
    cut = _HEAD.search(command)
    words = shlex.split(command[: cut.start()] if cut else command)
    assert words[0] == "trtllm-operator", command
    result = CliRunner().invoke(main, words[1:], prog_name=words[0], env={"COLUMNS": str(WIDTH), "NO_COLOR": "1"})
    assert result.exception is None or isinstance(result.exception, SystemExit), command
    lines = result.output.splitlines()
    return "".join(f"{line}\n" for line in (lines[: int(cut["lines"])] if cut else lines))
