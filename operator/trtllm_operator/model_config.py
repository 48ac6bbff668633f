"""Facts from a checkpoint's own files: config.json, its safetensors index and hf_quant_config.json.

The keys are those of Hugging Face's transformers and of NVIDIA's ModelOpt. A multimodal model nests its language model
under ``text_config`` or ``llm_config``; only that is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from trtllm_operator.api import Dtype
from trtllm_operator.config_values import BadValueError, number
from trtllm_operator.facts import Experts, LatentAttention, ModelFacts, Source
from trtllm_operator.model_layers import blocks, expert_layers, layer_kinds
from trtllm_operator.model_quantization import quantization
from trtllm_operator.shape import count_parameters

CONFIG, INDEX, QUANTIZATION = "config.json", "model.safetensors.index.json", "hf_quant_config.json"

_MOST_BYTES = {CONFIG: 1_000_000, INDEX: 50_000_000, QUANTIZATION: 5_000_000}
_MOST_WEIGHT_BYTES = 10**15
_NESTED = ("text_config", "llm_config", "language_config")
_EXPERT_COUNT = ("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A file that tells nothing: which, and why."""

    file: str
    problem: str

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}"


def read_model(name: str, files: Mapping[str, str], source: Source) -> ModelFacts | Unreadable:
    """Read the facts of a checkpoint from the texts of its files; only config.json has to be there."""
    if CONFIG not in files:
        return Unreadable(file=CONFIG, problem=f"is missing; there are: {', '.join(sorted(files)) or 'no files'}")
    parsed: dict[str, Mapping[str, Any]] = {}
    for file in (CONFIG, INDEX, QUANTIZATION):
        if file in files:
            document = _document(file, files[file])
            if isinstance(document, Unreadable):
                return document
            parsed[file] = document
    try:
        return _facts(name, parsed, source)
    except BadValueError as error:
        return Unreadable(file=CONFIG, problem=str(error))


def _document(file: str, text: str) -> Mapping[str, Any] | Unreadable:
    if len(text) > _MOST_BYTES[file]:
        return Unreadable(file=file, problem=f"has {len(text)} characters, more than {_MOST_BYTES[file]}")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Unreadable(file=file, problem=f"is not JSON: {error}")
    if not isinstance(document, dict):
        return Unreadable(file=file, problem=f"is a {type(document).__name__}, not an object")
    return document


def _facts(name: str, parsed: Mapping[str, Mapping[str, Any]], source: Source) -> ModelFacts | Unreadable:
    outer = parsed[CONFIG]
    config = _with_defaults(next((outer[key] for key in _NESTED if isinstance(outer.get(key), dict)), outer))
    quantized = quantization(outer, config, parsed.get(QUANTIZATION, {}))
    heads, hidden = number(config, "num_attention_heads"), number(config, "hidden_size")
    layers = number(config, "num_hidden_layers")
    latent, experts = _latent_attention(config), _experts(config, layers)
    told: dict[str, Any] = {
        "name": name,
        "architecture": _architecture(outer),
        "parameters": None,
        "weight_bytes": _total_size(parsed.get(INDEX, {})),
        "checkpoint_dtype": quantized.dtype,
        "quantization_block": quantized.block,
        "only_experts_quantized": quantized.only_experts and experts is not None,
        "kv_cache_dtype": quantized.kv_cache,
        "layers": layers,
        "hidden_size": hidden,
        "intermediate_size": _intermediate_size(config, experts),
        "attention_heads": heads,
        "kv_heads": number(config, "num_key_value_heads") or heads,
        "head_dim": None if latent else _head_dim(config, hidden, heads),
        "vocab_size": number(config, "vocab_size"),
        "tied_embeddings": bool(config.get("tie_word_embeddings", outer.get("tie_word_embeddings", False))),
        "max_position_embeddings": number(config, "max_position_embeddings"),
        "experts": experts,
        "latent_attention": latent,
        "source": source,
        "notes": _notes(outer, config, indexed=INDEX in parsed),
    }
    return _sized(ModelFacts(**(told | layer_kinds(config, layers))))


def _notes(outer: Mapping[str, Any], config: Mapping[str, Any], *, indexed: bool) -> tuple[str, ...]:
    notes: list[str] = []
    if "vision_config" in outer and not indexed:
        notes.append(f"the vision tower is not counted; {INDEX} would tell its size")
    if "compress_ratios" in config:
        notes.append("its compressed attention is not modelled, so the KV cache is not estimated")
    return tuple(notes)


def _with_defaults(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fill in what a config leaves to the library's defaults for its model_type."""
    assumed = _defaults().get(str(config.get("model_type")), {})
    return {**assumed, **{key: value for key, value in config.items() if value is not None or key not in assumed}}


@cache
def _defaults() -> Mapping[str, Mapping[str, Any]]:
    text = resources.files("trtllm_operator").joinpath("data/config_defaults.json").read_text(encoding="utf-8")
    defaults: Mapping[str, Mapping[str, Any]] = json.loads(text)["model_types"]
    return defaults


def _sized(facts: ModelFacts) -> ModelFacts | Unreadable:
    counted = count_parameters(facts)
    if counted is None and facts.weight_bytes is None:
        shape = ["layers", "hidden_size", "attention_heads", "vocab_size", "kv_heads"]
        everywhere = facts.experts is not None and facts.experts.layers is None
        missing = [
            field for field in [*shape, *([] if everywhere else ["intermediate_size"])] if getattr(facts, field) is None
        ]
        return Unreadable(file=CONFIG, problem=f"does not tell {', '.join(missing)}, and no {INDEX} tells total_size")
    if counted is None:
        bits = {Dtype.FP8: 8, Dtype.INT8: 8}.get(facts.checkpoint_dtype, 16)
        bits = 4 if facts.checkpoint_dtype in (Dtype.INT4, Dtype.NVFP4, Dtype.MXFP4) else bits
        counted = (facts.weight_bytes or 0) * 8 // bits
    return replace(facts, parameters=counted)


def _total_size(index: Mapping[str, Any]) -> int | None:
    metadata = index.get("metadata")
    return number(metadata, "total_size", _MOST_WEIGHT_BYTES) if isinstance(metadata, dict) else None


def _architecture(config: Mapping[str, Any]) -> str | None:
    names = config.get("architectures")
    return str(names[0])[:128] if isinstance(names, list) and names else None


def _head_dim(config: Mapping[str, Any], hidden: int | None, heads: int | None) -> int | None:
    stated = number(config, "head_dim") or number(config, "attention_head_dim")
    if stated is None and hidden and heads and hidden < heads:
        raise BadValueError(f"num_attention_heads is {heads}, more than hidden_size, {hidden}")
    return stated or (hidden // heads if hidden and heads else None)


def _intermediate_size(config: Mapping[str, Any], experts: Experts | None) -> int | None:
    """Width of the dense layers; where every layer has experts, that of the shared one."""
    kinds = blocks(config)
    if kinds is not None and "mlp" not in kinds:
        return None
    if experts is not None and experts.layers is None:
        return number(config, "shared_expert_intermediate_size")
    dense = number(config, "intermediate_size_mlp") or number(config, "dense_intermediate_size")
    return dense or number(config, "intermediate_size")


def _experts(config: Mapping[str, Any], layers: int | None) -> Experts | None:
    count = next((found for key in _EXPERT_COUNT if (found := number(config, key))), None)
    if count is None or count == 1:
        return None
    return Experts(
        count=count,
        intermediate_size=number(config, "moe_intermediate_size") or number(config, "intermediate_size"),
        layers=expert_layers(config, layers),
        active=number(config, "num_experts_per_tok") or number(config, "num_experts_per_token"),
        matrices=2 if config.get("mlp_hidden_act") == "relu2" else 3,
        latent_size=number(config, "moe_latent_size"),
    )


def _latent_attention(config: Mapping[str, Any]) -> LatentAttention | None:
    rank, rope = number(config, "kv_lora_rank"), number(config, "qk_rope_head_dim")
    if rank is None or rope is None:
        return None
    return LatentAttention(kv_lora_rank=rank, rope_head_dim=rope, q_lora_rank=number(config, "q_lora_rank"))
