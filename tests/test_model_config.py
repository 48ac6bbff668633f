"""Facts from a checkpoint's own files agree with the catalogue, and bad files are told plainly."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from trtllm_operator.api import Dtype
from trtllm_operator.facts import ModelFacts, Source
from trtllm_operator.model_config import Unreadable, read_model
from trtllm_operator.models import find_model

PUBLISHED = sorted((Path(__file__).parent / "data" / "models").glob("*.json"))
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 80,
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
DEEPSEEK = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "num_hidden_layers": 61,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "vocab_size": 129280,
    "max_position_embeddings": 163840,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "fp8 in blocks": (
        "Qwen/Qwen3-32B-FP8",
        {
            "architectures": ["Qwen3ForCausalLM"],
            "num_hidden_layers": 64,
            "hidden_size": 5120,
            "intermediate_size": 25600,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "vocab_size": 151936,
            "max_position_embeddings": 40960,
            "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
        },
    ),
    "AWQ": (
        "Qwen/Qwen2.5-72B-Instruct-AWQ",
        {
            "architectures": ["Qwen2ForCausalLM"],
            "num_hidden_layers": 80,
            "hidden_size": 8192,
            "intermediate_size": 29568,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "vocab_size": 152064,
            "max_position_embeddings": 32768,
            "sliding_window": 131072,
            "use_sliding_window": False,
            "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128},
        },
    ),
    "Mixtral": (
        "mistralai/Mixtral-8x22B-v0.1",
        {
            "architectures": ["MixtralForCausalLM"],
            "num_hidden_layers": 56,
            "hidden_size": 6144,
            "intermediate_size": 16384,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "num_attention_heads": 48,
            "num_key_value_heads": 8,
            "vocab_size": 32000,
            "max_position_embeddings": 65536,
        },
    ),
    "latent attention": ("deepseek-ai/DeepSeek-V3", DEEPSEEK),
    "keys left to the library": (
        "google/gemma-3-27b-it",
        {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "text_config": {
                "model_type": "gemma3_text",
                "num_hidden_layers": 62,
                "hidden_size": 5376,
                "intermediate_size": 21504,
                "num_attention_heads": 32,
                "num_key_value_heads": 16,
                "head_dim": 128,
                "sliding_window": 1024,
            },
        },
    ),
    "experts in a narrower space, the order of the layers made up": (
        "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16",
        {
            "architectures": ["NemotronHForCausalLM"],
            "hybrid_override_pattern": "ME" * 40 + "*" * 8,
            "num_hidden_layers": 88,
            "hidden_size": 4096,
            "moe_intermediate_size": 2688,
            "moe_latent_size": 1024,
            "mlp_hidden_act": "relu2",
            "n_routed_experts": 512,
            "num_experts_per_tok": 22,
            "num_attention_heads": 32,
            "num_key_value_heads": 2,
            "head_dim": 128,
            "mamba_num_heads": 128,
            "mamba_head_dim": 64,
            "ssm_state_size": 128,
            "n_groups": 8,
            "conv_kernel": 4,
            "vocab_size": 131072,
            "max_position_embeddings": 262144,
        },
    ),
}
COMPARED = (
    "architecture",
    "checkpoint_dtype",
    "quantization_block",
    "only_experts_quantized",
    "layers",
    "hidden_size",
    "attention_heads",
    "kv_heads",
    "vocab_size",
    "tied_embeddings",
    "max_position_embeddings",
    "experts",
    "latent_attention",
    "state_space",
    "attention_layers",
    "sliding_layers",
)


def read(config: dict[str, Any], **files: Any) -> ModelFacts | Unreadable:
    texts = {"config.json": json.dumps(config)} | {
        {"index": "model.safetensors.index.json", "quantization": "hf_quant_config.json"}[name]: json.dumps(document)
        for name, document in files.items()
    }
    return read_model("acme/llm", texts, Source.CONFIG_MAP)


@pytest.mark.parametrize(("name", "config"), CONFIGS.values(), ids=CONFIGS)
def test_a_config_tells_what_the_catalogue_knows(name: str, config: dict[str, Any]) -> None:
    facts, known = read(config), find_model(name)
    assert isinstance(facts, ModelFacts), facts
    assert known is not None
    assert {field: getattr(facts, field) for field in COMPARED} == {field: getattr(known, field) for field in COMPARED}
    assert facts.parameters == pytest.approx(known.parameters, rel=0.12)
    assert facts.source is Source.CONFIG_MAP


def shape_of(facts: ModelFacts) -> dict[str, Any]:
    told_elsewhere = {
        "name",
        "parameters",
        "weight_bytes",
        "kv_cache_dtype",
        "source",
        "provenance",
        "siblings",
        "notes",
    }
    formats = {"checkpoint_dtype", "quantization_block", "only_experts_quantized"}
    return {field: value for field, value in asdict(facts).items() if field not in told_elsewhere | formats}


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_the_catalogue_has_the_shape_a_published_config_tells(path: Path) -> None:
    name = path.stem.replace("--", "/")
    known = find_model(name)
    assert known is not None
    facts = read(json.loads(path.read_text(encoding="utf-8"))["config"], index={"metadata": {"total_size": 10**9}})
    assert isinstance(facts, ModelFacts), facts
    assert shape_of(facts) == shape_of(known)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"layers_block_type": ["mamba", "moe", "attention", "mlp"]}, (1, 1, 1), id="a list of blocks"),
        pytest.param({"hybrid_override_pattern": "M*E|-M"}, (1, 1, 1), id="a pattern with a separator"),
        pytest.param({"moe_layer_freq": [0] * 3 + [1] * 77}, (None, None, 77), id="a frequency for each layer"),
        pytest.param(
            {"mlp_layer_types": ["dense"] * 3 + ["sparse"] * 77}, (None, None, 77), id="a kind for each layer"
        ),
        pytest.param({"first_k_dense_replace": 3}, (None, None, 77), id="dense layers first"),
        pytest.param({"decoder_sparse_step": 2}, (None, None, 40), id="experts in every second layer"),
        pytest.param({"mlp_only_layers": [0, 1]}, (None, None, 78), id="dense layers by number"),
        pytest.param({}, (None, None, None), id="experts everywhere"),
    ],
)
def test_which_layers_have_what(changes: dict[str, Any], expected: tuple[int | None, int | None, int | None]) -> None:
    facts = read({**LLAMA, "num_experts": 8, "moe_intermediate_size": 1024, **changes})
    assert isinstance(facts, ModelFacts), facts
    assert facts.experts is not None
    assert (facts.attention_layers, facts.dense_layers, facts.experts.layers) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"sliding_window": 4096}, (4096, 80), id="every layer"),
        pytest.param({"sliding_window": 4096, "sliding_window_pattern": 6}, (4096, 67), id="all but every sixth"),
        pytest.param({"sliding_window": 4096, "sliding_window_pattern": "LLLG"}, (4096, 60), id="letters"),
        pytest.param({"sliding_window": 4096, "use_sliding_window": False}, (None, 0), id="switched off"),
        pytest.param({"sliding_window": 131072}, (None, 0), id="as wide as the longest sequence"),
        pytest.param({"sliding_window": None}, (None, 0), id="none"),
    ],
)
def test_sliding_windows(changes: dict[str, Any], expected: tuple[int | None, int]) -> None:
    facts = read({**LLAMA, **changes})
    assert isinstance(facts, ModelFacts), facts
    assert (facts.sliding_window, facts.sliding_layers) == expected


def test_layers_that_a_search_left_uneven() -> None:
    wide = {"attention": {"n_heads_in_group": 8, "no_op": False}, "ffn": {"ffn_mult": 2.6}}
    none = {"attention": {"n_heads_in_group": None, "no_op": True}, "ffn": {"ffn_mult": 1.0}}
    linear = {"attention": {"n_heads_in_group": None, "no_op": False, "replace_with_linear": True}}
    config = {
        **LLAMA,
        "num_key_value_heads": None,
        "intermediate_size": None,
        "block_configs": [wide, none, linear, wide],
    }
    assert "does not tell intermediate_size" in str(read(config))
    facts = read(config, index={"metadata": {"total_size": 10**11}})
    assert isinstance(facts, ModelFacts), facts
    assert (facts.attention_layers, facts.kv_heads) == (2, 8)


EACH_LAYER = [f"model.layers.{layer}.self_attn*" for layer in range(61)]


@pytest.mark.parametrize(
    ("config", "excluded", "expected"),
    [
        pytest.param(DEEPSEEK, ["lm_head", *EACH_LAYER], True, id="attention, layer by layer"),
        pytest.param(DEEPSEEK, ["lm_head", "*self_attn*"], True, id="attention, by a pattern"),
        pytest.param(DEEPSEEK, ["lm_head", *EACH_LAYER[:5]], False, id="attention of a few layers"),
        pytest.param(DEEPSEEK, ["lm_head", "vision_tower.*.self_attn*"], False, id="another tower's attention"),
        pytest.param(DEEPSEEK, ["lm_head"], False, id="the head"),
        pytest.param(LLAMA, ["*self_attn*"], False, id="no experts at all"),
    ],
)
def test_when_only_experts_are_quantised(config: dict[str, Any], excluded: list[str], expected: bool) -> None:
    quantization = {"quantization": {"quant_algo": "NVFP4", "exclude_modules": excluded}}
    facts = read(config, quantization=quantization)
    assert isinstance(facts, ModelFacts), facts
    assert facts.only_experts_quantized is expected


def test_what_is_left_out_is_noted() -> None:
    config = {"vision_config": {}, "text_config": LLAMA}
    alone, indexed = read(config), read(config, index={"metadata": {"total_size": 10**11}})
    assert isinstance(alone, ModelFacts)
    assert isinstance(indexed, ModelFacts)
    assert "the vision tower is not counted" in alone.notes[0]
    assert indexed.notes == ()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(
            {"quantization": {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}},
            (Dtype.FP8, None, Dtype.FP8),
            id="ModelOpt fp8 with its KV cache",
        ),
        pytest.param(
            {"quantization": {"quantization": {"quant_algo": "NVFP4", "group_size": 16}}},
            (Dtype.NVFP4, 16, None),
            id="ModelOpt nvfp4",
        ),
        pytest.param(
            {
                "quantization": {
                    "quantization": {
                        "quant_algo": "MIXED_PRECISION",
                        "quantized_layers": {"a": {"quant_algo": "NVFP4"}, "b": {"quant_algo": "NVFP4"}},
                    }
                }
            },
            (Dtype.NVFP4, 16, None),
            id="ModelOpt, mostly nvfp4",
        ),
        pytest.param(
            {"config": {"quant_method": "modelopt", "quant_algo": "W4A16_AWQ"}}, (Dtype.INT4, 128, None), id="ModelOpt"
        ),
        pytest.param({"config": {"quant_method": "gptq", "bits": 8}}, (Dtype.INT8, None, None), id="GPTQ in 8 bits"),
        pytest.param(
            {
                "config": {
                    "quant_method": "compressed-tensors",
                    "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}},
                }
            },
            (Dtype.FP8, None, None),
            id="compressed-tensors fp8",
        ),
        pytest.param(
            {
                "config": {
                    "quant_method": "compressed-tensors",
                    "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 32}}},
                }
            },
            (Dtype.INT4, 32, None),
            id="compressed-tensors int4",
        ),
        pytest.param(
            {"quantization": {"quantization": {"quant_algo": None, "kv_cache_quant_algo": "FP8"}}},
            (Dtype.BFLOAT16, None, Dtype.FP8),
            id="ModelOpt, the KV cache alone",
        ),
        pytest.param({}, (Dtype.BFLOAT16, None, None), id="none"),
    ],
)
def test_formats(files: dict[str, Any], expected: tuple[Dtype, int | None, Dtype | None]) -> None:
    config = {**LLAMA, "quantization_config": files.pop("config", None)}
    facts = read(config, **files)
    assert isinstance(facts, ModelFacts), facts
    assert (facts.checkpoint_dtype, facts.quantization_block, facts.kv_cache_dtype) == expected


def test_the_index_tells_the_size_even_of_half_a_shape() -> None:
    facts = read({"architectures": ["X"], "torch_dtype": "float16"}, index={"metadata": {"total_size": 14 * 10**9}})
    assert isinstance(facts, ModelFacts), facts
    assert (facts.weight_bytes, facts.parameters, facts.checkpoint_dtype) == (14 * 10**9, 7 * 10**9, Dtype.FLOAT16)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        pytest.param({}, "config.json: is missing; there are: no files", id="nothing"),
        pytest.param({"readme": "x"}, "there are: readme", id="another file"),
        pytest.param({"config.json": "{"}, "config.json: is not JSON", id="cut off"),
        pytest.param({"config.json": "[" * 100_000}, "config.json: is not JSON", id="a nested bomb"),
        pytest.param({"config.json": "[]"}, "is a list, not an object", id="a list"),
        pytest.param({"config.json": " " * 1_000_001}, "1000001 characters, more than 1000000", id="too long"),
        pytest.param({"config.json": "{}"}, "does not tell layers, hidden_size, attention_heads", id="empty"),
        pytest.param({"config.json": '{"hidden_size": "x"}'}, "hidden_size is 'x', not a whole number", id="a word"),
        pytest.param({"config.json": '{"hidden_size": 1.5}'}, "hidden_size is '1.5'", id="a fraction"),
        pytest.param({"config.json": '{"hidden_size": Infinity}'}, "hidden_size is 'inf'", id="infinity"),
        pytest.param({"config.json": '{"hidden_size": 1e30}'}, "not within 1 and 1000000000", id="absurd"),
        pytest.param({"config.json": '{"hidden_size": 1' + "0" * 999 + "}"}, "hidden_size is 1000", id="a long number"),
        pytest.param(
            {"config.json": '{"hidden_size": 2, "num_attention_heads": 8}'},
            "is 8, more than hidden_size, 2",
            id="heads",
        ),
        pytest.param(
            {"config.json": "{}", "model.safetensors.index.json": '{"metadata": {"total_size": Infinity}}'},
            "total_size is 'inf'",
            id="endless weights",
        ),
        pytest.param(
            {"config.json": "{}", "model.safetensors.index.json": '{"metadata": {"total_size": 1e18}}'},
            "total_size is 1000000000000000000, not within 1 and 1000000000000000",
            id="too many weights",
        ),
        pytest.param({"config.json": '{"hidden_size": -5}'}, "hidden_size is -5", id="negative"),
        pytest.param({"config.json": '{"hidden_size": true}'}, "hidden_size is 'True'", id="a truth"),
        pytest.param(
            {"config.json": '{"quantization_config": {"quant_method": "exl3"}}'}, "quant_method 'exl3'", id="a format"
        ),
        pytest.param(
            {"config.json": "{}", "hf_quant_config.json": '{"quantization": {"quant_algo": "W1A1"}}'},
            "quant_algo 'W1A1'",
            id="an algorithm",
        ),
        pytest.param({"config.json": "{}", "model.safetensors.index.json": "7"}, "index.json: is a int", id="an index"),
    ],
)
def test_bad_files_are_told_plainly(files: dict[str, str], told: str) -> None:
    found = read_model("acme/llm", files, Source.CONFIG_MAP)
    assert isinstance(found, Unreadable), found
    assert told in str(found)
