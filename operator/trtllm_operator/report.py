"""Answers as people read them in a terminal, at any width, with or without colour.

Nothing here is rich's markup: names come from files and flags, and ``[red]`` in one of them is text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import yaml
from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trtllm_operator.answers import Answer, Survey
from trtllm_operator.bars import MemoryBar
from trtllm_operator.candidate_table import VERDICT_STYLES, CandidateTable
from trtllm_operator.footprint import StageRun, stage_runs
from trtllm_operator.memory import gib, weight_bytes
from trtllm_operator.plain_text import printable
from trtllm_operator.planned import Infeasible, Plan, Rejection
from trtllm_operator.ranks import ranks
from trtllm_operator.requirements import Requirement

if TYPE_CHECKING:
    from rich.console import RenderableType

    from trtllm_operator.facts import ModelFacts


def answer_report(answered: Answer, *, with_ranks: bool) -> Group:
    """Return a plan with its memory and its reasons, or a refusal with what would fit."""
    verdict = answered.verdict
    if isinstance(verdict, Infeasible):
        return Group(*_refusal(verdict), *_section("Notices", _bullets(answered.notes)))
    parts = [_plan(verdict), _section("Notices", _bullets([*map(str, verdict.notices), *answered.notes]))]
    parts += [_section("Rejected", [_indented(_text(_shortly(verdict.rejected)))])] if verdict.rejected else []
    parts += [_section("Ranks", [_ranks(verdict)])] if with_ranks else []
    return Group(*(block for part in parts for block in part))


def object_report(answered: Answer) -> Text:
    """Return the object to apply. Print it unwrapped: what is copied from a narrow terminal must stay YAML."""
    lines = printable(yaml.safe_dump(answered.manifest, sort_keys=False, width=math.inf)).splitlines()
    title = "Object, as -o yaml prints it"
    return Text.assemble("\n", (title, "bold"), "\n", ("\n".join(f"  {line}" for line in lines), "dim"))


def survey_report(answered: Answer, found: Iterable[Survey]) -> Group:
    """Return every candidate of every GPU product; the chosen one is marked."""
    verdict = answered.verdict
    blocks: list[RenderableType] = [_headline(verdict)]
    for survey in found:
        heading = _text(survey.product, "bold")
        if survey.candidates:
            blocks += [Text(), heading, CandidateTable(survey.candidates, verdict)]
        elif isinstance(survey.verdict, Infeasible):
            blocks += [Text(), heading, _indented(_text(survey.verdict.message))]
    return Group(*blocks, *_section("Notices", _bullets(answered.notes)))


def requirements_report(found: Sequence[Requirement]) -> Group:
    """Return a table of models by GPU products: GPUs, layout and GiB per GPU, or why there is none."""
    products = dict.fromkeys(printable(need.gpu_name) for need in found)
    table = _table("model", "dtype", *products)
    for subject, row in groupby(found, key=lambda need: need.subject):
        dtype = subject.dtype or "checkpoint's"
        table.add_row(_text(subject.model), dtype, *map(_need, row))
    length = next((need.verdict.max_seq_len for need in found if isinstance(need.verdict, Plan)), None)
    legend = "GiB per GPU: weights, overhead and the KV cache of one full-length sequence"
    return Group(table, Text(), _text(f"{legend} of {length} tokens" if length else legend, "dim"))


def _need(need: Requirement) -> Text:
    if isinstance(need.verdict, Infeasible):
        return _text(need.verdict.reason, "dim")
    size = "" if need.bytes_per_gpu is None else f"\n{gib(need.bytes_per_gpu)} of {gib(need.gpu.memory_bytes)} GiB"
    tight = " Tight" if need.verdict.verdict == "Tight" else ""
    return _text(f"{need.verdict.gpus} ({need.verdict.layout}){tight}{size}", "yellow" if tight else "")


def _plan(plan: Plan) -> Iterator[RenderableType]:
    yield _headline(plan)
    yield from _section("Model", [_pairs(_model_facts(plan.model))])
    yield from _section("Memory per GPU", (block for run in stage_runs(plan) for block in _memory(plan, run)))
    yield from _section("Capacity of a replica", [_pairs(_capacity(plan))])
    yield from _section("Because", _bullets(plan.because))


def _shortly(rejected: Iterable[Rejection]) -> str:
    return ", ".join(f"{no.layout} {no.reason}" for no in rejected)


def _refusal(refused: Infeasible) -> Iterator[RenderableType]:
    yield _headline(refused)
    yield _indented(_text(refused.message))
    if refused.model is not None:
        yield from _section("Model", [_pairs(_model_facts(refused.model))])
    if refused.rejected:
        yield from _section("Rejected", [_rejections(refused.rejected)])
    remedies: list[tuple[str, str]] = []
    if refused.suggestion is not None:
        remedies.append(("smallest layout", f"{refused.suggestion.layout} on {refused.suggestion.gpus} GPUs"))
    if refused.dtypes:
        remedies.append(("dtypes that fit", ", ".join(refused.dtypes)))
    if remedies:
        yield from _section("Would fit", [_pairs(remedies)])


def _headline(verdict: Plan | Infeasible) -> Text:
    if isinstance(verdict, Infeasible):
        return Text.assemble(("Infeasible", "bold red"), ": ", (printable(verdict.reason), "bold"))
    nodes = "1 node" if verdict.nodes == 1 else f"{verdict.nodes} nodes"
    gpus = "1 GPU" if verdict.gpus == 1 else f"{verdict.gpus} GPUs"
    products = " and ".join(dict.fromkeys(stage.gpu.product for stage in verdict.stages))
    return Text.assemble(
        (verdict.verdict, VERDICT_STYLES[verdict.verdict]),
        ": ",
        (str(verdict.layout), "bold"),
        printable(f" on {gpus} of {nodes}, {products} (plan {verdict.id})"),
    )


def _model_facts(model: ModelFacts) -> Iterator[tuple[str, str]]:
    yield "name", model.name
    if model.parameters is not None:
        size = weight_bytes(model)
        weights = f"{size / 1e9:.1f} GB ({gib(size)} GiB) in {model.checkpoint_dtype}"
        yield "weights", f"{weights} of {model.parameters / 1e9:.1f}B parameters"
    shape = {
        "layers": model.layers,
        "attention heads": model.attention_heads,
        "key-value heads": model.kv_heads,
        "experts": model.experts and model.experts.count,
        "longest sequence": model.max_position_embeddings,
    }
    known = ", ".join(f"{count} {what}" for what, count in shape.items() if count and what != "longest sequence")
    if known:
        yield "shape", known
    if model.max_position_embeddings:
        yield "longest", f"{model.max_position_embeddings} tokens"
    yield "known from", model.source.value


def _memory(plan: Plan, run: StageRun) -> Iterator[RenderableType]:
    first, last = run.first, run.last
    group = plan.layout.tensor * plan.layout.context
    if len(plan.stages) > 1:
        several = f"stages {first.index}-{last.index}" if last is not first else f"stage {first.index}"
        layers = f"layers {first.first_layer}-{last.last_layer}"
        gpus = f"{group} x " if group > 1 else ""
        yield _indented(_text(f"{several}, {layers}, {gpus}{first.gpu.product}"))
    if first.memory is None:
        yield _indented(Text("unknown"))
    else:
        yield _indented(MemoryBar(first.memory))


def _capacity(plan: Plan) -> Iterator[tuple[str, str]]:
    if plan.max_kv_tokens is None:
        yield "KV cache", "unknown: only the number of parameters is known"
    else:
        yield "KV cache", f"{plan.max_kv_tokens} tokens in {plan.kv_cache_dtype}"
        yield "at full length", f"{plan.max_concurrent_sequences} sequences of {plan.max_seq_len} tokens"
        if plan.typical_tokens != plan.max_seq_len:
            yield "at typical length", f"{plan.typical_concurrent_sequences} sequences of {plan.typical_tokens} tokens"
    yield "server", f"batches of {plan.max_batch_size} requests, {plan.max_num_tokens} tokens per forward pass"


def _rejections(rejected: Iterable[Rejection]) -> Table:
    table = _table("layout", "reason", "detail")
    for no in rejected:
        table.add_row(str(no.layout), _text(no.reason), _text(no.detail))
    return table


def _ranks(plan: Plan) -> Table:
    table = _table("rank", "pod", "GPU", "stage", "TP", "EP", "layers", "product", numbers=range(6))
    for rank in ranks(plan):
        places = (rank.rank, rank.pod, rank.local_rank, rank.stage, rank.tensor_rank, rank.expert_rank)
        table.add_row(*map(str, places), f"{rank.first_layer}-{rank.last_layer}", _text(rank.gpu_product))
    return table


def _table(*columns: str, numbers: Iterable[int] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    right = set(numbers)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index in right else "left", overflow="fold")
    return table


def _section(title: str, blocks: Iterable[RenderableType]) -> Iterator[RenderableType]:
    listed = list(blocks)
    if listed:
        yield from (Text(), Text(title, "bold"), *listed)


def _pairs(pairs: Iterable[tuple[str, str]]) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in pairs:
        grid.add_row(label, _text(value))
    return _indented(grid)


def _bullets(sentences: Iterable[str]) -> list[RenderableType]:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for sentence in sentences:
        grid.add_row("-", _text(sentence))
    return [_indented(grid)] if grid.row_count else []


def _indented(block: RenderableType) -> Padding:
    return Padding(block, (0, 0, 0, 2))


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style, overflow="fold")
