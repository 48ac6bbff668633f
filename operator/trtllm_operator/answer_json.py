"""An answer as JSON: the keys are documented in docs/command-line.md and stay what they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from pydantic.alias_generators import to_camel

from trtllm_operator.answers import Answer, Survey, is_chosen
from trtllm_operator.memory import GpuMemory
from trtllm_operator.parallel import Layout
from trtllm_operator.plan_status import model_status, plan_status
from trtllm_operator.planned import Infeasible, Plan, Rejection, Stage
from trtllm_operator.ranks import ranks
from trtllm_operator.requirements import Requirement


def answer_json(answered: Answer) -> dict[str, Any]:
    """Return a plan, or a refusal, with the model it was made for. Sizes in ``memory`` are bytes."""
    verdict = answered.verdict
    found = {"name": answered.document.name, "verdict": _verdict(verdict), "model": _model(verdict)}
    if isinstance(verdict, Infeasible):
        return {**found, "refusal": _refusal(verdict), "notes": list(answered.notes)}
    return {
        **found,
        "plan": plan_status(verdict).model_dump(mode="json", by_alias=True, exclude_none=True),
        "memory": [_stage(stage, verdict.layout) for stage in verdict.stages],
        "capacity": _capacity(verdict),
        "ranks": [_camel(asdict(rank)) for rank in ranks(verdict)],
        "notes": list(answered.notes),
    }


def surveys_json(answered: Answer, found: tuple[Survey, ...]) -> dict[str, Any]:
    """Return every candidate of every GPU product, in the order they were looked at."""
    return {
        "name": answered.document.name,
        "verdict": _verdict(answered.verdict),
        "model": _model(answered.verdict),
        "pools": [
            {
                "product": survey.product,
                "verdict": _verdict(survey.verdict),
                "refusal": _refusal(survey.verdict) if isinstance(survey.verdict, Infeasible) else None,
                "candidates": [_candidate(candidate, answered.verdict) for candidate in survey.candidates],
            }
            for survey in found
        ],
        "notes": list(answered.notes),
    }


def requirements_json(found: Iterable[Requirement]) -> list[dict[str, Any]]:
    """Return every cell of the table; ``bytesPerGPU`` holds the KV cache of one full-length sequence."""
    return [
        {
            "model": need.subject.model,
            "dtype": need.subject.dtype and need.subject.dtype.value,
            "gpuProduct": need.gpu.product,
            "verdict": _verdict(need.verdict),
            "layout": _layout(need.verdict.layout) if isinstance(need.verdict, Plan) else None,
            "bytesPerGPU": need.bytes_per_gpu,
            "refusal": _refusal(need.verdict) if isinstance(need.verdict, Infeasible) else None,
        }
        for need in found
    ]


def _verdict(verdict: Plan | Infeasible) -> str:
    return verdict.verdict if isinstance(verdict, Plan) else "Infeasible"


def _model(verdict: Plan | Infeasible) -> dict[str, Any] | None:
    if verdict.model is None:
        return None
    return model_status(verdict.model).model_dump(mode="json", by_alias=True, exclude_none=True)


def _refusal(refused: Infeasible) -> dict[str, Any]:
    return {
        "reason": refused.reason.value,
        "message": refused.message,
        "rejected": [{**_layout(no.layout), "reason": str(no.reason), "detail": no.detail} for no in refused.rejected],
        "suggestion": refused.suggestion and _layout(refused.suggestion.layout),
        "dtypes": [dtype.value for dtype in refused.dtypes],
    }


def _candidate(candidate: Plan | Rejection, verdict: Plan | Infeasible) -> dict[str, Any]:
    rejection = candidate if isinstance(candidate, Rejection) else None
    return {
        **_layout(candidate.layout),
        "chosen": is_chosen(candidate, verdict),
        "verdict": candidate.verdict if isinstance(candidate, Plan) else None,
        "reason": rejection and str(rejection.reason),
        "detail": rejection and rejection.detail,
        "memory": candidate.memory and _memory(candidate.memory),
    }


def _layout(layout: Layout) -> dict[str, Any]:
    return {
        "tensor": layout.tensor,
        "pipeline": layout.pipeline,
        "expert": layout.expert,
        "context": layout.context,
        "gpus": layout.gpus,
    }


def _stage(stage: Stage, layout: Layout) -> dict[str, Any]:
    return {
        "stage": stage.index,
        "firstLayer": stage.first_layer,
        "lastLayer": stage.last_layer,
        "gpus": layout.tensor * layout.context,
        "gpuProduct": stage.gpu.product,
        "perGPU": stage.memory and _memory(stage.memory),
    }


def _memory(memory: GpuMemory) -> dict[str, Any]:
    return {
        "total": memory.capacity,
        "weights": memory.weights,
        "overhead": memory.overhead,
        "kvCache": memory.kv_cache,
        "kvBytesPerToken": memory.kv_bytes_per_token,
        "kvTokens": memory.kv_tokens,
    }


def _capacity(plan: Plan) -> dict[str, Any]:
    return {
        "kvTokens": plan.max_kv_tokens,
        "maxSeqLen": plan.max_seq_len,
        "maxConcurrentSequences": plan.max_concurrent_sequences,
        "typicalTokens": plan.typical_tokens,
        "typicalConcurrentSequences": plan.typical_concurrent_sequences,
    }


def _camel(fields: dict[str, Any]) -> dict[str, Any]:
    return {to_camel(key): value for key, value in fields.items()}
