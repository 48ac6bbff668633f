"""Which of a model's layers keep keys and values, see only a window, have experts or keep a recurrent state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trtllm_operator.config_values import number
from trtllm_operator.facts import StateSpace

_BLOCKS = {"M": "mamba", "*": "attention", "E": "moe", "-": "mlp"}


def blocks(config: Mapping[str, Any]) -> list[str] | None:
    """Return the kinds of a hybrid's layers where each does one thing only (Nemotron-H), else None."""
    listed, pattern = config.get("layers_block_type"), config.get("hybrid_override_pattern")
    if isinstance(listed, list):
        return [str(kind) for kind in listed]
    return [_BLOCKS[kind] for kind in pattern if kind in _BLOCKS] if isinstance(pattern, str) else None


def expert_layers(config: Mapping[str, Any], layers: int | None) -> int | None:
    """Return how many layers have routed experts; None stands for every one."""
    kinds = blocks(config)
    if kinds is not None:
        return kinds.count("moe")
    each, frequency = config.get("mlp_layer_types"), config.get("moe_layer_freq")
    if isinstance(each, list):
        return each.count("sparse")
    if isinstance(frequency, list):
        return sum(1 for entry in frequency if entry == 1)
    if layers is None:
        return None
    step = number(config, "interleave_moe_layer_step") or number(config, "decoder_sparse_step") or 1
    dense = config.get("mlp_only_layers")
    without = len(dense) if isinstance(dense, list) else number(config, "first_k_dense_replace") or 0
    having = max(0, (layers - without) // step)
    return None if having == layers else having


def layer_kinds(config: Mapping[str, Any], layers: int | None) -> dict[str, Any]:
    """Return the fields of ModelFacts that tell what the layers are.

    Raises BadValueError for a number that cannot be.
    """
    if "compress_ratios" in config:  # DeepSeek-V4: what its layers keep per token is not modelled
        return {"kv_heads": None, "head_dim": None}
    kinds = blocks(config)
    if kinds is not None:
        return {
            "attention_layers": kinds.count("attention"),
            "dense_layers": kinds.count("mlp"),
            "gated": config.get("mlp_hidden_act") != "relu2",
            "state_space": _mamba(config, kinds.count("mamba")),
        }
    searched = _searched(config)
    return searched or _by_attention(config, layers)


def _searched(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the blocks of a model that architecture search left uneven (Llama Nemotron): some have no attention."""
    found = config.get("block_configs")
    parts = [block.get("attention") for block in found if isinstance(block, dict)] if isinstance(found, list) else []
    attention = [part for part in parts if isinstance(part, dict)]
    if not attention:
        return {}
    keeping = [part for part in attention if not part.get("no_op") and not part.get("replace_with_linear")]
    shared = [count for part in keeping if (count := number(part, "n_heads_in_group"))]
    heads = number(config, "num_attention_heads")
    widest = {"kv_heads": max(1, heads // min(shared))} if heads and shared else {}
    return {"attention_layers": len(keeping), **widest}


def _by_attention(config: Mapping[str, Any], layers: int | None) -> dict[str, Any]:
    kinds = config.get("layer_types")
    if not isinstance(kinds, list):
        return _by_interval(config, layers)
    linear, sliding = kinds.count("linear_attention"), kinds.count("sliding_attention")
    found: dict[str, Any] = {}
    if linear:
        found |= {"attention_layers": len(kinds) - linear, "state_space": _gated_delta(config, linear)}
    if sliding:
        found |= {"sliding_window": number(config, "sliding_window"), "sliding_layers": sliding}
    return found


def _by_interval(config: Mapping[str, Any], layers: int | None) -> dict[str, Any]:
    interval = number(config, "full_attention_interval")
    if interval and layers:
        full = layers // interval
        return {"attention_layers": full, "state_space": _gated_delta(config, layers - full)}
    window = number(config, "sliding_window")
    longest = number(config, "max_position_embeddings")
    if window is None or not layers or config.get("use_sliding_window") is False or (longest and window >= longest):
        return {}
    return {"sliding_window": window, "sliding_layers": layers - _seeing_all(config, layers)}


def _seeing_all(config: Mapping[str, Any], layers: int) -> int:
    """Count the layers without a window: every n-th, or those a repeating pattern of L and G calls global (EXAONE)."""
    pattern = config.get("sliding_window_pattern", config.get("_sliding_window_pattern"))
    if isinstance(pattern, str) and pattern:
        return sum(pattern[layer % len(pattern)] == "G" for layer in range(layers))
    every = number({"sliding_window_pattern": pattern}, "sliding_window_pattern")
    return layers // every if every else 0


def _gated_delta(config: Mapping[str, Any], layers: int) -> StateSpace | None:
    keys, values = number(config, "linear_num_key_heads"), number(config, "linear_num_value_heads")
    key_width, value_width = number(config, "linear_key_head_dim"), number(config, "linear_value_head_dim")
    if keys is None or values is None or key_width is None or value_width is None:
        return None
    return StateSpace(
        layers=layers,
        heads=values,
        head_dim=value_width,
        state_dim=key_width,
        conv_dim=2 * keys * key_width + values * value_width,
        conv_kernel=number(config, "linear_conv_kernel_dim") or 4,
    )


def _mamba(config: Mapping[str, Any], layers: int) -> StateSpace | None:
    heads, width = number(config, "mamba_num_heads"), number(config, "mamba_head_dim")
    state = number(config, "ssm_state_size")
    if heads is None or width is None or state is None:
        return None
    groups = number(config, "n_groups") or 1
    return StateSpace(
        layers=layers,
        heads=heads,
        head_dim=width,
        state_dim=state,
        conv_dim=heads * width + 2 * groups * state,
        conv_kernel=number(config, "conv_kernel") or 4,
    )
