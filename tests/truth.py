"""Rows of what is known to be true about placing models: read, put to the planner, and compared."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import ROOT
from trtllm_operator.api import Dtype, LLMDeploymentSpec
from trtllm_operator.facts import Facts, GpuPool, ModelFacts, UnknownGpu, UnknownModel
from trtllm_operator.models import at_dtype, find_model
from trtllm_operator.plan import plan
from trtllm_operator.planned import Infeasible, Plan
from trtllm_operator.shorthand import Misread, parse_gpus, short_gpu

DIRECTORY = ROOT / "tests" / "data" / "planner"
DTYPES = {"bf16": Dtype.BFLOAT16, "fp16": Dtype.FLOAT16, "": None}


@dataclass(frozen=True, slots=True)
class Row:
    """One row; absent numbers are None."""

    text: dict[str, str]

    @property
    def id(self) -> str:
        return self.text["id"]

    @property
    def check(self) -> str:
        return self.text["check"]

    def number(self, column: str) -> int | None:
        return int(self.text[column]) if self.text[column] else None

    @property
    def dtype(self) -> Dtype | None:
        name = self.text["weights_dtype"]
        return DTYPES[name] if name in DTYPES else Dtype(name)

    @property
    def tolerance(self) -> float:
        return float(self.text["tolerance_pct"]) / 100

    @property
    def expected_sizes(self) -> tuple[int, ...]:
        return tuple(int(self.text[column]) for column in ("tp", "pp", "ep"))


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the planner answered one row. ``error`` is relative, where the row has a measured number."""

    row: Row
    agrees: bool
    answer: str
    error: float | None = None


AGREEMENTS = pytest.StashKey[list[Agreement]]()
"""Where a test run keeps what it compared, for the summary at its end."""


def rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8", newline="") as lines:
        yield from (Row(line) for line in csv.DictReader(lines))


def compare(row: Row) -> Agreement:
    """Put a row to the planner."""
    verdict = plan(spec_of(row), facts_of(row))
    if row.check == "refuse":
        agrees = isinstance(verdict, Infeasible) and verdict.reason == row.text["reason_code"]
        return Agreement(row, agrees, _told(verdict))
    if isinstance(verdict, Infeasible):
        return Agreement(row, agrees=False, answer=_told(verdict))
    return _COMPARED[row.check](row, verdict)


def _told(verdict: Plan | Infeasible) -> str:
    return f"{verdict.reason}: {verdict.message}" if isinstance(verdict, Infeasible) else verdict.summary


def _choice(row: Row, made: Plan) -> Agreement:
    sizes = (made.layout.tensor, made.layout.pipeline, made.layout.expert)
    return Agreement(row, sizes == row.expected_sizes, _told(made))


def _fits(row: Row, made: Plan) -> Agreement:
    return Agreement(row, agrees=True, answer=_told(made))


def _kv_sequences(row: Row, made: Plan) -> Agreement:
    assert made.max_kv_tokens is not None
    found, measured = made.max_kv_tokens / made.max_seq_len, float(row.text["expect_value"])
    error = found / measured - 1
    return Agreement(row, abs(error) <= row.tolerance, f"{found:.1f} sequences, {measured:g} measured", error)


def _weights(row: Row, made: Plan) -> Agreement:
    assert made.memory is not None
    fullest = max(stage.memory.weights for stage in made.stages if stage.memory is not None) / 1e9
    error = fullest / float(row.text["expect_value"]) - 1
    return Agreement(row, abs(error) <= row.tolerance, f"{fullest:.1f} GB", error)


def _partition(row: Row, made: Plan) -> Agreement:
    shares = "/".join(str(stage.layers) for stage in made.stages)
    return Agreement(row, shares == row.text["expect_value"], shares)


_COMPARED = {
    "choice": _choice,
    "fits": _fits,
    "kv_seqs": _kv_sequences,
    "weights_per_gpu_gb": _weights,
    "partition": _partition,
}


def spec_of(row: Row) -> LLMDeploymentSpec:
    """The row as a user would write it."""
    pinned = {"tensor": row.number("tp"), "pipeline": row.number("pp"), "expert": row.number("ep")}
    parallelism: dict[str, Any] = {} if row.check == "choice" else pinned
    if row.text["policy"] == "minimal":
        parallelism["policy"] = "Minimal"
    if row.text["attention_dp"] == "true":
        # Wide attention data parallelism over nodes is what others run; the user has to say that it is wanted.
        parallelism |= {"attentionDataParallel": True, "allowTensorAcrossNodes": True}
    fraction = re.search(r"free_gpu_memory_fraction=([0-9.]+)", row.text["note"])
    engine = {
        "maxSeqLen": row.number("max_seq_len"),
        "kvCacheDtype": DTYPES[row.text["kv_dtype"]] or None,
        "maxNumTokens": 2 * (row.number("isl") or 0) if row.check == "kv_seqs" else None,
        "kvCacheFreeGpuMemoryPercent": round(100 * float(fraction[1])) if fraction else None,
    }
    products = _products(row)
    gpus: dict[str, Any] = {"count": row.number("gpus_pinned"), "maxCount": row.number("gpus_available")}
    if len(products) > 1:
        gpus = {"pools": [{"product": name, "count": n} for name, n in products.items()], "allowHeterogeneous": True}
    elif row.check == "partition" and row.number("pp") == row.number("gpus_pinned"):
        gpus = {"count": row.number("gpus_pinned")}
    elif row.check == "partition":
        gpus = {}
    if row.text["interconnect"] != "auto":
        gpus["interconnect"] = row.text["interconnect"]
    document = {
        "model": {"uri": "hf://" + (row.text["model"] if "/" in row.text["model"] else f"truth/{row.text['model']}")},
        "gpus": gpus,
        "parallelism": parallelism,
        "engine": engine,
    }
    return LLMDeploymentSpec.model_validate(_without_none(document), extra="forbid")


def _without_none(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _without_none(inner) for key, inner in value.items() if inner is not None}


def _products(row: Row) -> dict[str, int]:
    groups = parse_gpus(row.text["gpu"])
    return {} if isinstance(groups, Misread) else {group.gpu.product: group.total for group in groups}


def facts_of(row: Row) -> Facts:
    """What a cluster with these GPUs would tell."""
    per_node = row.number("gpus_per_node") or 8
    groups = parse_gpus(row.text["gpu"])
    if not isinstance(groups, Misread):
        pools = tuple(GpuPool(gpu=group.gpu, gpus_per_node=per_node) for group in groups)
        return Facts(model=_model(row), pools=pools)
    gpu = short_gpu(row.text["gpu"])
    if isinstance(gpu, Misread):
        return Facts(model=_model(row), unknown_gpus=(UnknownGpu(product=row.text["gpu"], near=gpu.near),))
    return Facts(model=_model(row), pools=(GpuPool(gpu=gpu, gpus_per_node=per_node),))


def _model(row: Row) -> ModelFacts | UnknownModel:
    found = find_model(row.text["model"])
    if found is None:
        return UnknownModel(name=row.text["model"])
    return found if row.dtype is None else at_dtype(found, row.dtype)


def summary(agreements: list[Agreement]) -> Iterator[str]:
    """Agreement per check, and the error on the measured rows."""
    for check in sorted({agreement.row.check for agreement in agreements}):
        of_check = [agreement for agreement in agreements if agreement.row.check == check]
        yield f"{check}: {sum(agreement.agrees for agreement in of_check)} of {len(of_check)} agree"
    errors = [a.error for a in agreements if a.error is not None and a.row.check == "kv_seqs"]
    if errors:
        mean, absolute = sum(errors) / len(errors), sum(map(abs, errors)) / len(errors)
        worst = max(errors, key=abs)
        yield f"KV capacity: mean error {mean:+.1%}, mean absolute error {absolute:.1%}, worst {worst:+.1%}"
