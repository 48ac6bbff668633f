"""Facts a user types into ``spec.model.shape``, and the number of parameters a shape amounts to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trtllm_operator.api import Dtype, Shape
from trtllm_operator.facts import Experts, LatentAttention, ModelFacts, Source

_PLAIN = (
    "architecture",
    "parameters",
    "weight_bytes",
    "quantization_block",
    "layers",
    "hidden_size",
    "intermediate_size",
    "attention_heads",
    "kv_heads",
    "head_dim",
    "vocab_size",
    "tied_embeddings",
    "max_position_embeddings",
    "attention_layers",
    "sliding_window",
    "sliding_layers",
)
_BITS = {Dtype.FP8: 8, Dtype.INT8: 8, Dtype.INT4: 4, Dtype.NVFP4: 4, Dtype.MXFP4: 4}


def typed_facts(name: str, shape: Shape | None, known: ModelFacts | None, dtype: Dtype) -> ModelFacts | None:
    """Lay what the user typed over what is known, field by field; None when neither tells a size.

    ``dtype`` is that of a checkpoint nobody knows.
    """
    changes = {} if shape is None else _changes(shape, known)
    if not changes:
        return known
    if known is None:
        return _sized(ModelFacts(**{"name": name, "parameters": None, "checkpoint_dtype": dtype, **changes}))
    typed = replace(known, **changes)
    if "parameters" in changes and "weight_bytes" not in changes:
        typed = replace(typed, weight_bytes=None)
    return replace(
        typed, source=Source.SPEC, provenance=tuple((field, known.source) for field in _kept(known, changes))
    )


def _sized(typed: ModelFacts) -> ModelFacts | None:
    """Fill in the number of parameters: from the bytes of the checkpoint, else from the shape."""
    if typed.parameters is None and typed.weight_bytes is not None:
        typed = replace(typed, parameters=typed.weight_bytes * 8 // _BITS.get(typed.checkpoint_dtype, 16))
    if typed.parameters is None:
        typed = replace(typed, parameters=count_parameters(typed))
    return None if typed.parameters is None else replace(typed, source=Source.SPEC)


def _kept(known: ModelFacts, changes: dict[str, Any]) -> list[str]:
    told = (*_PLAIN, "experts", "latent_attention", "state_space")
    return sorted(field for field in told if field not in changes and getattr(known, field) not in (None, False, 0))


def _changes(shape: Shape, known: ModelFacts | None) -> dict[str, Any]:
    typed = shape.model_dump(exclude_none=True)
    changes = {field: typed[field] for field in _PLAIN if field in typed}
    if "sliding_window" in typed and "sliding_layers" not in typed and "layers" in typed:
        changes["sliding_layers"] = typed["layers"]
    if "head_dim" not in typed and known is None and {"hidden_size", "attention_heads"} <= typed.keys():
        changes["head_dim"] = typed["hidden_size"] // typed["attention_heads"]
    experts = known.experts if known else None
    if experts is not None or "experts" in typed:
        changes |= _experts(typed, experts)
    if "kv_lora_rank" in typed and "rope_head_dim" in typed:
        changes["latent_attention"] = LatentAttention(
            kv_lora_rank=typed["kv_lora_rank"],
            rope_head_dim=typed["rope_head_dim"],
            q_lora_rank=typed.get("q_lora_rank"),
        )
    return changes


def _experts(typed: dict[str, Any], known: Experts | None) -> dict[str, Any]:
    fields = {"experts": "count", "expert_intermediate_size": "intermediate_size", "expert_layers": "layers"}
    changes = {field: typed[name] for name, field in fields.items() if name in typed}
    if not changes:
        return {}
    return {"experts": Experts(**changes) if known is None else replace(known, **changes)}


def count_parameters(model: ModelFacts) -> int | None:
    """Count the weights of embeddings, attention, recurrent and feed-forward layers and experts; None for half a shape.

    Norms, biases, routers and shared experts are left out: together under 1 % of a dense model, up to 7 % of a mixture.
    """
    hidden, layers, vocabulary = model.hidden_size, model.layers, model.vocab_size
    attention = _attention_parameters(model)
    if hidden is None or layers is None or vocabulary is None or attention is None:
        return None
    experts = model.experts
    routed, with_experts = 0, 0
    if experts is not None:
        with_experts = layers if experts.layers is None else experts.layers
        routed = with_experts * experts.layer_parameters(hidden)
    with_dense = layers - with_experts if model.dense_layers is None else model.dense_layers
    if with_dense and model.intermediate_size is None:
        return None
    dense = with_dense * (3 if model.gated else 2) * hidden * (model.intermediate_size or 0)
    table = vocabulary * hidden * (1 if model.tied_embeddings else 2)
    keeping = layers if model.attention_layers is None else model.attention_layers
    return table + keeping * attention + _recurrent_parameters(model, hidden) + dense + routed


def _recurrent_parameters(model: ModelFacts, hidden: int) -> int:
    """Weights of the projections into and out of the recurrent layers, by far their largest part."""
    state = model.state_space
    if state is None:
        return 0
    return state.layers * hidden * (2 * state.heads * state.head_dim + state.conv_dim)


def _attention_parameters(model: ModelFacts) -> int | None:
    hidden, heads = model.hidden_size, model.attention_heads
    if hidden is None or heads is None:
        return None
    latent = model.latent_attention
    if latent is not None:
        # 128 is the width of a head without its rotary part in every published model with latent attention but one.
        plain = model.head_dim or 128
        down = hidden * ((latent.q_lora_rank or 0) + latent.kv_lora_rank + latent.rope_head_dim)
        queries = (latent.q_lora_rank or hidden) * heads * (plain + latent.rope_head_dim)
        return down + queries + latent.kv_lora_rank * heads * 2 * plain + heads * plain * hidden
    if model.kv_heads is None or model.head_dim is None:
        return None
    return 2 * hidden * model.head_dim * (heads + model.kv_heads)
