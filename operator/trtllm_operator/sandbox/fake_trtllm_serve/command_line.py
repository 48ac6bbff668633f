"""The command line, parsed by click, which is what the real one uses: same messages, same exit code 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from trtllm_operator.engine_versions import EngineRelease

_TYPES: dict[str, click.ParamType[Any]] = {"int": click.INT, "float": click.FLOAT, "str": click.STRING}


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """The model, and the options that were given, by flag without dashes."""

    model: str
    given: dict[str, Any]


def parse(arguments: Sequence[str], release: EngineRelease) -> CommandLine:
    """Parse the arguments as the release does. Raises click.UsageError for what it does not accept."""
    parameters: list[click.Parameter] = [_option(flag, kind) for flag, kind in release.flags.items()]
    command = click.Command("serve", params=[click.Argument(["model"], required=True), *parameters])
    rest = list(arguments[1:] if arguments[:1] == ["serve"] else arguments)
    values = command.make_context("trtllm-serve", rest).params
    model = values.pop("model")
    return CommandLine(model=model, given={name: value for name, value in values.items() if value not in (None, ())})


def _option(flag: str, kind: str) -> click.Option:
    names = [flag, flag.removeprefix("--").replace("-", "_")]
    if kind == "switch":
        return click.Option(names, is_flag=True, flag_value=True, default=None)
    if "|" in kind:
        return click.Option(names, type=click.Choice(kind.split("|")), default=None)
    return click.Option(names, type=_TYPES[kind.removesuffix("*")], multiple=kind.endswith("*"))
