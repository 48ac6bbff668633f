"""``trtllm-operator plan`` and ``explain``: the planner without a cluster."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import IO, Any, TypeVar

import click

from trtllm_operator import spellings
from trtllm_operator.answers import Answer, answer, surveys
from trtllm_operator.api import Dtype, Interconnect, ParallelismMode, ParallelismPolicy
from trtllm_operator.checkpoints import Checkpoint, is_repository, of_size
from trtllm_operator.desk import Flags, Misuse, manifest, node_groups, parameters_of
from trtllm_operator.documents import document, read_documents
from trtllm_operator.errors import InvalidObject
from trtllm_operator.gather import offers_of
from trtllm_operator.model_sources import SourceError, find_checkpoint
from trtllm_operator.models import find_model
from trtllm_operator.plain_text import printable
from trtllm_operator.plan_options import DTYPES, Names, PlanCommand, question
from trtllm_operator.planned import Infeasible, Plan
from trtllm_operator.pools import Offer
from trtllm_operator.shorthand import GpuGroup, Misread, short_gpu

EXIT_INFEASIBLE = 3
_NARROWEST, _WIDEST = 40, 200

Value = TypeVar("Value")
Listed = tuple[str, ...] | None


@click.command(cls=PlanCommand)
@question
@click.option("-o", "--output", type=click.Choice(["table", "json", "yaml", "svg"]), default="table", show_default=True)
@click.option("--ranks", is_flag=True, help="Also show what each rank of the MPI world does.")
@click.option("--requirements", is_flag=True, help="Table of the GPUs that each of --models needs on --gpus-list.")
@click.option("--models", type=Names(), metavar="A,B", help="Models of --requirements, as --model names them.")
@click.option("--dtypes", type=Names(), metavar="A,B", help="Dtypes of --requirements.  [default: the checkpoint's]")
@click.option("--gpus-list", type=Names(), metavar="A,B", help="GPU products of --requirements: H100,4090,A100-80.")
def plan(
    output: str, *, ranks: bool, requirements: bool, models: Listed, dtypes: Listed, gpus_list: Listed, **flags: Any
) -> None:
    """Choose the layout of an LLMDeployment, or of a model named by flags, without a cluster.

    \b
    trtllm-operator plan --model Llama-3.1-70B --dtype fp8 --gpus 8xH100
    trtllm-operator plan -f llm.yaml --gpus 2x8xH100 -o svg > plan.svg

    Flags of trtllm-serve and vLLM such as --tp_size or --max-model-len are understood too. Exit code 2 means that
    the input is invalid, 3 that no layout fits.
    """  # noqa: D301 - click reads the backspace as "do not wrap"
    if requirements:
        _print_requirements(output, models, dtypes, gpus_list, **flags)
        return
    if models or dtypes or gpus_list:
        raise click.UsageError("--models, --dtypes and --gpus-list go with --requirements")
    answers = _answers(**flags)
    if output == "svg" and len(answers) > 1:
        raise click.UsageError(f"-o svg draws one plan; the file holds {len(answers)} LLMDeployments")
    for index, answered in enumerate(answers):
        if output == "table":
            _print_report(answered, index, with_ranks=ranks, with_object=flags["filename"] is None)
        else:
            _print_text(answered, output, index)
    _exit(answers)


@click.command(cls=PlanCommand)
@question
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def explain(output: str, **flags: Any) -> None:
    """Show every layout the planner looks at, in its order of preference, and what becomes of each.

    Exit code 2 means that the input is invalid, 3 that no layout fits.
    """
    answers = _answers(**flags)
    for index, answered in enumerate(answers):
        found = surveys(answered)
        if output == "json":
            from trtllm_operator.answer_json import surveys_json

            _echo_json(surveys_json(answered, found))
        else:
            from trtllm_operator.report import survey_report

            _print(survey_report(answered, found), apart=index > 0)
    _exit(answers)


def _answers(filename: IO[str] | None, **flags: Any) -> tuple[Answer, ...]:
    if filename is not None:
        return _from_file(_text(filename), **flags)
    if flags["gpus"] is None:
        raise click.UsageError("--gpus is missing: what GPUs are there? For example --gpus 8xH100")
    return (_from_flags(**flags),)


def _text(file: IO[str]) -> str:
    try:
        return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise _usage_error(f"{file.name}: {error}") from error


def _from_file(
    text: str, gpus: Sequence[GpuGroup] | None, gpus_per_node: int | None, **others: Any
) -> tuple[Answer, ...]:
    stated = sorted(name for name, value in others.items() if value not in (None, False))
    if stated:
        flag = stated[0].replace("_", "-")
        raise click.UsageError(f"--{flag} describes a model; with -f the file does: change it there")
    found = read_documents(text)
    if found.problems:
        raise _usage_error("\n".join(f"line {problem.line}: {problem.message}" for problem in found.problems))
    nodes = _nodes(gpus or (), gpus_per_node)
    return tuple(answer(each, nodes) for each in found.valid)


def _from_flags(model: str | None, params_b: float | None, dtype: str | None, *, hub: bool, **others: Any) -> Answer:
    flags = _flags(**others)
    checkpoint = _checkpoint(model, params_b, Dtype(dtype) if dtype else None, hub=hub)
    stored = _checked(manifest(checkpoint, flags))
    try:
        made = document(stored)
    except InvalidObject as error:
        raise _usage_error(str(error)) from error
    choice_of_pools = len(flags.gpus) > 1 and not flags.one_pipeline
    nodes = _nodes(flags.gpus, flags.gpus_per_node) if choice_of_pools else ()
    return answer(made, nodes, checkpoint.notes)


def _flags(
    interconnect: str | None,
    policy: str | None,
    mode: str | None,
    kv_cache_dtype: str | None,
    context_parallel: int | None,
    **others: Any,
) -> Flags:
    return Flags(
        interconnect=Interconnect(interconnect) if interconnect else None,
        policy=ParallelismPolicy(policy) if policy else None,
        mode=ParallelismMode(mode) if mode else None,
        kv_cache_dtype=Dtype(kv_cache_dtype) if kv_cache_dtype else None,
        context=context_parallel,
        **others,
    )


def _checkpoint(model: str | None, params_b: float | None, dtype: Dtype | None, *, hub: bool) -> Checkpoint:
    if model is None and params_b is None:
        raise click.UsageError("which model? Name it by -f, by --model or by --params-b")
    if params_b is None:
        return _found(model or "", dtype, hub=hub)
    parameters = _checked(parameters_of(params_b))
    if model is None:
        return of_size(parameters, dtype)
    if find_model(model) is not None or not is_repository(model):
        raise _usage_error(f"--params-b is for an ORGANISATION/NAME that nobody knows, not for {model!r}")
    return of_size(parameters, dtype, repository=model)


def _print_requirements(
    output: str, models: Listed, dtypes: Listed, gpus_list: Listed, *, hub: bool, **flags: Any
) -> None:
    from trtllm_operator.requirements import Subject, requirements

    if output not in ("table", "json"):
        raise click.UsageError(f"--requirements prints a table or json, not {output}")
    if not models or not gpus_list:
        raise click.UsageError("--requirements needs --models and --gpus-list")
    if any(flags.pop(name) for name in ("filename", "model", "params_b", "dtype", "gpus")) or flags["all_gpus"]:
        raise click.UsageError("--requirements takes --models, --dtypes and --gpus-list in place of one model and GPUs")
    wanted = [_dtype(name) for name in dtypes] if dtypes else [None]
    subjects = [
        Subject(model=model, dtype=dtype, checkpoint=_found(model, dtype, hub=hub))
        for model in models
        for dtype in wanted
    ]
    try:
        found = _checked(
            requirements(subjects, {name: _checked(short_gpu(name)) for name in gpus_list}, _flags(gpus=(), **flags))
        )
    except InvalidObject as error:
        raise _usage_error(str(error)) from error
    if output == "json":
        from trtllm_operator.answer_json import requirements_json

        _echo_json(requirements_json(found))
    else:
        from trtllm_operator.report import requirements_report

        _print(requirements_report(found))


def _dtype(name: str) -> Dtype:
    return Dtype(DTYPES.convert(spellings.our_name(name), None, None))


def _found(model: str, dtype: Dtype | None, *, hub: bool) -> Checkpoint:
    try:
        return _checked(find_checkpoint(model, dtype, ask_hub=hub))
    except SourceError as error:
        raise _usage_error(str(error)) from error


def _nodes(groups: Sequence[GpuGroup], gpus_per_node: int | None) -> tuple[Offer, ...]:
    return offers_of(_checked(node_groups(groups, gpus_per_node)))


def _checked(value: Value | Misuse | Misread) -> Value:
    if isinstance(value, Misuse | Misread):
        raise _usage_error(str(value))
    return value


def _usage_error(sentence: str) -> click.UsageError:
    return click.UsageError(printable(sentence))


def _print_report(answered: Answer, index: int, *, with_ranks: bool, with_object: bool) -> None:
    from trtllm_operator.report import answer_report, object_report

    unwrapped = object_report(answered) if with_object and isinstance(answered.verdict, Plan) else None
    _print(answer_report(answered, with_ranks=with_ranks), unwrapped, apart=index > 0)


def _print_text(answered: Answer, output: str, index: int) -> None:
    if output == "json":
        from trtllm_operator.answer_json import answer_json

        _echo_json(answer_json(answered))
        return
    if isinstance(answered.verdict, Infeasible):
        click.echo(_refusal_line(answered.verdict), err=True)
    elif output == "yaml":
        _print_yaml(answered, index)
    else:
        from trtllm_operator.picture import svg

        click.echo(svg(answered.verdict))


def _print_yaml(answered: Answer, index: int) -> None:
    import yaml

    for note in answered.notes:
        click.echo(f"# {printable(note)}", err=True)
    click.echo(("---\n" if index else "") + yaml.safe_dump(answered.manifest, sort_keys=False), nl=False)


def _refusal_line(refused: Infeasible) -> str:
    return printable(f"{refused.reason}: {refused.message}")


def _echo_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def _print(report: Any, unwrapped: Any = None, *, apart: bool = False) -> None:
    """Print a report without the spaces rich fills lines with, so that a copy of it is clean."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    console.width = min(max(console.width, _NARROWEST), _WIDEST)
    with console.capture() as captured:
        if apart:
            console.print()
        console.print(report)
        if unwrapped is not None:
            console.print(unwrapped, soft_wrap=True)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()), color=True)


def _exit(answers: Sequence[Answer]) -> None:
    if not all(isinstance(answered.verdict, Plan) for answered in answers):
        sys.exit(EXIT_INFEASIBLE)
