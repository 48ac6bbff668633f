"""What holds for every plan, whatever is asked: drawn at random, derandomised so that a failure can be repeated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import a_latent_mixture, a_mixture, a_model, a_spec
from trtllm_operator.api import Dtype, LLMDeploymentSpec
from trtllm_operator.facts import Experts, Facts, GpuPool, ModelFacts, StateSpace
from trtllm_operator.hardware import Gpu, catalogue
from trtllm_operator.plan import plan, survey
from trtllm_operator.plan_status import plan_status
from trtllm_operator.planned import Infeasible, Plan
from trtllm_operator.ranks import ranks

FORMATS = [dtype for dtype in Dtype if dtype is not Dtype.AUTO]
BLOCKS = {Dtype.FP8: (None, 128), Dtype.INT4: (128,), Dtype.NVFP4: (16,), Dtype.MXFP4: (32,)}
REPEATABLE = settings(derandomize=True, max_examples=150, deadline=None)


@st.composite
def models(draw: st.DrawFn) -> ModelFacts:
    dtype = draw(st.sampled_from(FORMATS))
    base = draw(st.sampled_from([a_model(), a_mixture(), a_latent_mixture()]))
    changes: dict[str, Any] = {
        "checkpoint_dtype": dtype,
        "quantization_block": draw(st.sampled_from(BLOCKS.get(dtype, (None,)))),
        "parameters": draw(st.integers(10**9, 10**12)),
        "attention_heads": draw(st.sampled_from([12, 28, 32, 40, 52, 64, 128])),
        "kv_heads": draw(st.sampled_from([1, 2, 4, 8, 10, 52, None])),
        "layers": draw(st.sampled_from([2, 28, 61, 80, 126, None])),
        "tied_embeddings": draw(st.booleans()),
    }
    if base.experts is None and draw(st.booleans()):
        changes["experts"] = Experts(
            count=draw(st.sampled_from([8, 60, 128])), intermediate_size=draw(st.sampled_from([768, 1536]))
        )
    if draw(st.integers(0, 3)) == 0:
        changes["state_space"] = StateSpace(
            layers=20, heads=32, head_dim=128, state_dim=128, conv_dim=8192, conv_kernel=4
        )
    return replace(base, **changes)


@st.composite
def pools(draw: st.DrawFn) -> GpuPool:
    gpu = draw(st.sampled_from(list(catalogue().values())))
    return GpuPool(
        gpu=gpu, gpus_per_node=draw(st.sampled_from([1, 2, 4, 8])), nodes=draw(st.sampled_from([None, 1, 2, 4]))
    )


@st.composite
def specs(draw: st.DrawFn) -> LLMDeploymentSpec:
    def maybe(values: st.SearchStrategy[Any]) -> Any:
        return draw(st.one_of(st.none(), values))

    fields = {
        "gpus": {"count": maybe(st.integers(1, 32)), "maxCount": maybe(st.integers(32, 64))},
        "parallelism": {
            "tensor": maybe(st.sampled_from([1, 2, 3, 4, 8, 16])),
            "pipeline": maybe(st.sampled_from([1, 2, 3, 4])),
            "expert": maybe(st.sampled_from([1, 2, 4])),
            "context": maybe(st.sampled_from([1, 2])),
            "policy": draw(st.sampled_from(["Guide", "Minimal"])),
            "mode": draw(st.sampled_from(["Auto", "Tensor", "Pipeline"])),
            "attentionDataParallel": draw(st.booleans()),
            "allowTensorAcrossNodes": draw(st.booleans()),
        },
        "engine": {
            "maxSeqLen": maybe(st.sampled_from([1024, 8192, 131072])),
            "maxNumTokens": maybe(st.sampled_from([1024, 16384])),
            "kvCacheFreeGpuMemoryPercent": maybe(st.integers(10, 95)),
        },
    }
    stated = {name: {key: value for key, value in inner.items() if value is not None} for name, inner in fields.items()}
    if draw(st.booleans()):
        del stated["parallelism"]
    if draw(st.booleans()):
        stated["workload"] = {"inputTokens": 1000, "outputTokens": 500, "concurrency": draw(st.integers(1, 512))}
    return a_spec("hf://acme/any", **stated)


def verdict_on(spec: LLMDeploymentSpec, model: ModelFacts, pool: GpuPool) -> Plan | Infeasible:
    return plan(spec, Facts(model=model, pools=(pool,)))


@REPEATABLE
@given(specs(), models(), pools())
def test_every_plan_is_sound(spec: LLMDeploymentSpec, model: ModelFacts, pool: GpuPool) -> None:
    verdict = verdict_on(spec, model, pool)
    if isinstance(verdict, Infeasible):
        assert verdict.message
        return
    layout = verdict.layout
    for stage in verdict.stages:
        assert stage.memory is not None
        memory = stage.memory
        assert memory.weights + memory.overhead + memory.kv_cache <= memory.capacity == stage.gpu.memory_bytes
        assert memory.kv_tokens is None or memory.kv_tokens >= verdict.max_seq_len
    assert verdict.gpus == layout.tensor * layout.pipeline * layout.context == verdict.nodes * verdict.gpus_per_pod
    assert verdict.gpus_per_pod <= pool.gpus_per_node
    assert layout.tensor % layout.expert == 0
    assert model.attention_heads is not None
    assert layout.attention_dp or model.attention_heads % (layout.tensor * layout.context) == 0
    assert sum(stage.layers for stage in verdict.stages) == (model.layers or layout.pipeline)
    assert len(list(ranks(verdict))) == verdict.gpus
    if spec.gpus is not None and spec.gpus.count is not None:
        assert verdict.gpus == spec.gpus.count


@REPEATABLE
@given(specs(), models(), pools())
def test_equal_inputs_give_equal_answers_and_a_plan_in_force_is_kept(
    spec: LLMDeploymentSpec, model: ModelFacts, pool: GpuPool
) -> None:
    first = verdict_on(spec, model, pool)
    assert verdict_on(spec, model, pool) == first
    if isinstance(first, Plan):
        in_force = plan_status(first)
        kept = plan(spec, Facts(model=model, pools=(pool,)), current=in_force)
        assert isinstance(kept, Plan)
        assert plan_status(kept) == in_force


def with_more_memory(gpu: Gpu) -> Gpu:
    return replace(gpu, memory_mib=gpu.memory_mib * 3 // 2)


@REPEATABLE
@given(specs(), models(), pools())
def test_more_memory_never_turns_a_plan_into_a_refusal(
    spec: LLMDeploymentSpec, model: ModelFacts, pool: GpuPool
) -> None:
    before = verdict_on(spec, model, pool)
    after = verdict_on(spec, model, replace(pool, gpu=with_more_memory(pool.gpu)))
    if isinstance(before, Plan):
        assert isinstance(after, Plan), after
        assert after.verdict == "Fits" or before.verdict == "Tight"


@REPEATABLE
@given(specs(), models(), pools())
def test_a_suggested_layout_fits(spec: LLMDeploymentSpec, model: ModelFacts, pool: GpuPool) -> None:
    verdict = verdict_on(spec, model, pool)
    if isinstance(verdict, Plan) or verdict.suggestion is None:
        return
    layout = verdict.suggestion.layout
    stated = spec.model_dump(by_alias=True, mode="json", exclude_none=True)
    pinned = {"tensor": layout.tensor, "pipeline": layout.pipeline, "expert": layout.expert}
    stated["parallelism"] = {**stated.get("parallelism", {}), **pinned}
    stated["gpus"] = {"count": verdict.suggestion.gpus}
    followed = verdict_on(LLMDeploymentSpec.model_validate(stated), model, pool)
    assert isinstance(followed, Plan), followed
    assert followed.layout == layout


@REPEATABLE
@given(specs(), models(), pools())
def test_a_survey_finds_what_the_plan_chose(spec: LLMDeploymentSpec, model: ModelFacts, pool: GpuPool) -> None:
    verdict = verdict_on(spec, model, pool)
    facts = Facts(model=model, pools=(pool,))
    if isinstance(verdict, Plan):
        assert verdict.layout in [outcome.layout for outcome in survey(spec, facts) if isinstance(outcome, Plan)]


@pytest.mark.parametrize("policy", ["Guide", "Minimal"])
def test_both_policies_are_drawn_into_plans_and_refusals(policy: str) -> None:
    """The properties above say nothing when every draw is refused."""
    seen: set[type] = set()

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(specs(), models(), pools())
    def look(spec: LLMDeploymentSpec, model: ModelFacts, pool: GpuPool) -> None:
        if (spec.parallelism is not None and spec.parallelism.policy == policy) or policy == "Guide":
            seen.add(type(verdict_on(spec, model, pool)))

    look()
    assert seen == {Plan, Infeasible}
