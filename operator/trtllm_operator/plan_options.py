"""The options of ``plan`` and ``explain``, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

from trtllm_operator import spellings
from trtllm_operator.api import Dtype, Interconnect, KvCacheDtype, ParallelismMode, ParallelismPolicy
from trtllm_operator.shorthand import GpuGroup, Misread, parse_gpus

Command = Callable[..., None]


class PlanCommand(click.Command):
    """Understands other tools' names of flags, and says why some of them have no counterpart."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.context_settings = {"token_normalize_func": spellings.our_name, "max_content_width": 120}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:  # noqa: D102 - click's protocol
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            reason = spellings.why_refused(error.option_name)
            if reason is None:
                raise
            raise click.UsageError(f"{error.option_name}: {reason}", ctx) from error


class GpuList(click.ParamType[tuple[GpuGroup, ...]]):
    """GPUs as shorthand reads them."""

    name = "gpus"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[GpuGroup, ...]:  # noqa: D102
        groups = value if isinstance(value, tuple) else parse_gpus(value)
        if isinstance(groups, Misread):
            self.fail(str(groups), param, ctx)
        return groups


class Names(click.ParamType[tuple[str, ...]]):
    """Names separated by commas."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:  # noqa: D102
        names = value if isinstance(value, tuple) else tuple(name.strip() for name in value.split(","))
        if not all(names):
            self.fail(f"{value!r} is not a list of names separated by commas", param, ctx)
        return names


def _choice(members: Iterable[str]) -> click.Choice[str]:
    return click.Choice([str(member) for member in members], case_sensitive=False)


DTYPES = _choice(dtype for dtype in Dtype if dtype != Dtype.AUTO)


def _number(flag: str, text: str) -> Callable[[Command], Command]:
    return click.option(flag, type=click.IntRange(min=1), metavar="N", help=text)


_QUESTION = (
    click.option("-f", "--filename", type=click.File(encoding="utf-8"), help="LLMDeployments as YAML; - reads stdin."),
    click.option("--model", help="Short name such as Llama-3.1-70B, ORGANISATION/NAME, or a directory."),
    click.option("--hub", is_flag=True, help="Read the files of --model from the Hugging Face Hub."),
    click.option("--params-b", type=float, metavar="BILLIONS", help="Number of parameters of a model nobody knows."),
    click.option("--dtype", type=DTYPES, help="Format of the checkpoint's weights.  [default: the checkpoint's]"),
    click.option(
        "--gpus", type=GpuList(), metavar="GPUS", help="What GPUs there are: 8xH100, 2x8xH100, 2x4090,1x3090."
    ),
    _number("--gpus-per-node", "GPUs of one node, where --gpus does not say."),
    click.option("--all-gpus", is_flag=True, help="Use every GPU of --gpus for one replica."),
    _number("--count", "GPUs of one replica, exactly."),
    click.option("--interconnect", type=_choice(Interconnect), help="Between the GPUs of a node."),
    click.option("--policy", type=_choice(ParallelismPolicy), help="The guide's tree, or the fewest GPUs that fit."),
    click.option(
        "--mode", type=_choice(ParallelismMode), help="Split layers (tensor) or their stack (pipeline) first."
    ),
    _number("--tensor", "Tensor parallel size."),
    _number("--pipeline", "Pipeline parallel size."),
    _number("--expert", "Expert parallel size."),
    _number("--context-parallel", "Context parallel size."),
    _number("--max-seq-len", "Longest sequence, prompt and answer."),
    _number("--max-batch-size", "Most requests at once."),
    _number("--max-num-tokens", "Most tokens of one forward pass."),
    click.option("--kv-cache-dtype", type=_choice(KvCacheDtype), help="Format of the KV cache."),
    _number("--concurrency", "Requests one replica serves at once."),
    _number("--input-tokens", "Tokens of a typical prompt."),
    _number("--output-tokens", "Tokens of a typical answer."),
)


def question(command: Command) -> Command:
    """Give a command the options that say what to plan: a file, or a model and GPUs."""
    for option in reversed(_QUESTION):
        command = option(command)
    return command
