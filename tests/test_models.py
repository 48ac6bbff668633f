"""The catalogue, and what the spec says of a model."""

from __future__ import annotations

from typing import Any

import pytest

from builders import a_model, a_spec
from trtllm_operator.api import Dtype
from trtllm_operator.facts import Experts, LatentAttention, ModelFacts, Source, UnknownModel
from trtllm_operator.memory import weight_bytes
from trtllm_operator.models import at_dtype, catalogue, catalogue_rows, find_model, model_facts, near_models
from trtllm_operator.shape import count_parameters

NOT_BY_SHAPE = {
    "Nemotron-Super-49B": "its layers differ in width",
    "Nemotron-Ultra-253B": "its layers differ in width",
}


@pytest.mark.parametrize("row", catalogue_rows(), ids=lambda row: row.name)
def test_a_shape_amounts_to_its_parameters(row: Any) -> None:
    """A wrong digit in a shape shows here: what is not counted is under 1 % of a dense text model."""
    facts = row.checkpoints[0]
    counted = count_parameters(facts)
    if row.name in NOT_BY_SHAPE:
        return
    assert counted is not None or row.name.startswith("DeepSeek-V4")
    if counted is None:
        return
    plain = facts.experts is None and not facts.notes
    assert counted / facts.parameters == pytest.approx(1, abs=0.01 if plain else 0.1)
    assert counted <= facts.parameters * 1.005


def test_the_exceptions_are_needed() -> None:
    for name in NOT_BY_SHAPE:
        facts = find_model(name)
        assert facts is not None
        assert facts.notes
        counted = count_parameters(facts)
        assert counted is None or abs(counted / (facts.parameters or 1) - 1) > 0.1


def test_the_catalogue_is_wide() -> None:
    assert len(catalogue_rows()) >= 40
    families = ("Llama-2", "Llama-3.1", "Llama-3.2", "Llama-3.3", "Llama-4", "Mixtral", "Qwen2.5", "Qwen3-", "Qwen3.5")
    others = ("DeepSeek-V3", "DeepSeek-R1", "gpt-oss", "Kimi-K2", "Nemotron", "Gemma", "Phi", "GLM", "MiniMax")
    names = [name for row in catalogue_rows() for name in (row.name, *row.aliases)]
    for family in (*families, *others):
        assert any(name.startswith(family) for name in names), family


def test_no_two_rows_answer_one_name() -> None:
    names = [name.lower() for row in catalogue_rows() for name in (row.name, *row.aliases)]
    names += [facts.name.lower() for row in catalogue_rows() for facts in row.checkpoints]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "found", "dtype"),
    [
        ("meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.1-70B", "bfloat16"),
        ("META-LLAMA/llama-3.1-70b", "meta-llama/Llama-3.1-70B", "bfloat16"),
        ("Llama-3.1-70B", "meta-llama/Llama-3.1-70B", "bfloat16"),
        ("nvidia/Llama-3.1-70B-Instruct-FP8", "nvidia/Llama-3.1-70B-Instruct-FP8", "fp8"),
        ("DeepSeek-R1", "deepseek-ai/DeepSeek-V3", "fp8"),
        ("gpt-oss-120b", "openai/gpt-oss-120b", "mxfp4"),
        ("acme/nothing", None, None),
    ],
)
def test_finding(name: str, found: str | None, dtype: str | None) -> None:
    facts = find_model(name)
    assert (facts and facts.name, facts and facts.checkpoint_dtype) == (found, dtype)


def test_near_names() -> None:
    assert "Qwen3-32B" in near_models("qwen3-33b")
    assert near_models("acme/zzzz") == ()


@pytest.mark.parametrize(
    ("name", "dtype", "checkpoint", "gb", "assumed"),
    [
        pytest.param("Llama-3.1-70B", "fp8", "nvidia/Llama-3.1-70B-Instruct-FP8", 72.7, False, id="a known one"),
        pytest.param("Llama-2-13B", "bfloat16", "meta-llama/Llama-2-13b-hf", 26.0, False, id="16 bits are 16 bits"),
        pytest.param("Llama-2-13B", "fp8", "meta-llama/Llama-2-13b-hf", 13.3, True, id="one that is assumed"),
        pytest.param("DeepSeek-V3", "fp8", "deepseek-ai/DeepSeek-V3", 688.6, False, id="its own, with its own size"),
        pytest.param(
            "DeepSeek-V3", "bfloat16", "deepseek-ai/DeepSeek-V3", 1342.1, True, id="assumed, without that size"
        ),
        pytest.param("gpt-oss-120b", "mxfp4", "openai/gpt-oss-120b", 65.2, False, id="only experts in 4 bits"),
    ],
)
def test_a_model_in_a_dtype(name: str, dtype: str, checkpoint: str, gb: float, assumed: bool) -> None:
    known = find_model(name)
    assert known is not None
    facts = at_dtype(known, Dtype(dtype))
    assert (facts.name, facts.checkpoint_dtype) == (checkpoint, dtype)
    assert weight_bytes(facts) / 1e9 == pytest.approx(gb, abs=0.1)
    assert any("it is sized by" in note for note in facts.notes) == assumed


def test_an_assumed_checkpoint_has_no_kv_cache_format_of_its_own() -> None:
    known = find_model("nvidia/Llama-3.1-70B-Instruct-FP8")
    assert known is not None
    assert known.kv_cache_dtype == Dtype.FP8
    assert at_dtype(known, Dtype.INT8).kv_cache_dtype is None


def facts_of(uri: str, dtype: str | None = None, **model: Any) -> ModelFacts | UnknownModel:
    spec = a_spec(model={"uri": uri, **model}, **({"dtype": dtype} if dtype else {}))
    return model_facts(spec.model, spec.dtype)


def test_another_checkpoint_is_taken_only_when_the_user_lets_the_operator_choose() -> None:
    uri = "hf://meta-llama/Llama-3.3-70B-Instruct"
    exact, chosen = facts_of(uri, "fp8"), facts_of(uri, "fp8", variant="Auto")
    assert exact.name == "meta-llama/Llama-3.3-70B-Instruct"
    assert chosen.name == "nvidia/Llama-3.3-70B-Instruct-FP8"
    assert facts_of(uri, "int8", variant="Auto").name == "meta-llama/Llama-3.3-70B-Instruct"
    assert facts_of(uri, variant="Auto").name == "meta-llama/Llama-3.3-70B-Instruct"


def test_the_checkpoint_s_own_files_win_over_the_catalogue() -> None:
    spec = a_spec(model={"uri": "hf://meta-llama/Llama-3.3-70B-Instruct", "shape": {"kvHeads": 4}})
    read = a_model(name="x", layers=81, source=Source.CONFIG_MAP)
    facts = model_facts(spec.model, None, read)
    assert isinstance(facts, ModelFacts)
    assert (facts.name, facts.layers, facts.kv_heads) == ("meta-llama/Llama-3.3-70B-Instruct", 81, 4)
    assert (facts.source, dict(facts.provenance)["layers"]) == (Source.SPEC, Source.CONFIG_MAP)
    assert ("nvidia/Llama-3.3-70B-Instruct-FP8", Dtype.FP8) in facts.siblings


def test_what_is_typed_wins_field_by_field() -> None:
    facts = facts_of("hf://meta-llama/Llama-3.3-70B-Instruct", shape={"kvHeads": 4, "weightBytes": 150_000_000_000})
    assert isinstance(facts, ModelFacts)
    assert (facts.kv_heads, facts.attention_heads, facts.weight_bytes) == (4, 64, 150_000_000_000)
    assert facts.source is Source.SPEC
    assert ("attention_heads", Source.CATALOGUE) in facts.provenance
    assert "kv_heads" not in dict(facts.provenance)


def test_typed_parameters_end_what_the_catalogue_weighed() -> None:
    facts = facts_of("hf://deepseek-ai/DeepSeek-V3", shape={"parameters": 700_000_000_000})
    assert isinstance(facts, ModelFacts)
    assert facts.weight_bytes is None


@pytest.mark.parametrize(
    ("shape", "dtype", "parameters"),
    [
        pytest.param({"parameters": 7_000_000_000}, None, 7_000_000_000, id="stated"),
        pytest.param({"weightBytes": 14_000_000_000}, None, 7_000_000_000, id="from bytes"),
        pytest.param({"weightBytes": 7_000_000_000}, "fp8", 7_000_000_000, id="from bytes in fp8"),
        pytest.param(
            {
                "layers": 32,
                "hiddenSize": 4096,
                "intermediateSize": 14336,
                "attentionHeads": 32,
                "kvHeads": 8,
                "vocabSize": 128256,
            },
            None,
            8_030_000_000,
            id="from the shape",
        ),
    ],
)
def test_the_size_of_a_model_nobody_knows(shape: dict[str, Any], dtype: str | None, parameters: int) -> None:
    facts = facts_of("hf://acme/secret-llm", dtype, shape=shape)
    assert isinstance(facts, ModelFacts)
    assert facts.parameters == pytest.approx(parameters, rel=0.001)
    assert facts.source is Source.SPEC


@pytest.mark.parametrize("shape", [None, {"kvHeads": 8}, {"layers": 32, "hiddenSize": 4096}])
def test_half_a_shape_is_no_size(shape: dict[str, Any] | None) -> None:
    assert isinstance(facts_of("hf://acme/secret-llm", **({"shape": shape} if shape else {})), UnknownModel)


def test_experts_and_latent_attention_are_typed_too() -> None:
    shape = {
        "parameters": 10**12,
        "experts": 384,
        "expertIntermediateSize": 2048,
        "expertLayers": 60,
        "kvLoraRank": 512,
        "ropeHeadDim": 64,
        "qLoraRank": 1536,
    }
    facts = facts_of("hf://acme/secret-llm", shape=shape)
    assert isinstance(facts, ModelFacts)
    assert facts.experts == Experts(count=384, intermediate_size=2048, layers=60)
    assert facts.latent_attention == LatentAttention(kv_lora_rank=512, rope_head_dim=64, q_lora_rank=1536)


def test_every_checkpoint_lists_the_others() -> None:
    for facts in catalogue().values():
        assert facts.name not in dict(facts.siblings)
        for name, dtype in facts.siblings:
            assert catalogue()[name.lower()].checkpoint_dtype == dtype
