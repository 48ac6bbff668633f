"""Whether the sizes fit the ranks, the GPUs and the model, by the rules of tensorrt_llm/mapping.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Parallel sizes as TensorRT-LLM completes them; ``moe_world`` is what the experts' sizes multiply to."""

    tensor: int
    pipeline: int
    context: int
    moe_tensor: int
    moe_expert: int
    moe_world: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """Complete the sizes in the options; what is not given follows from the rest."""
        tensor, pipeline, context = (
            config.get(f"{kind}_parallel_size", 1) for kind in ("tensor", "pipeline", "context")
        )
        ulysses = str((config.get("cp_config") or {}).get("cp_type", "ULYSSES")).upper() == "ULYSSES"
        moe_world = tensor if ulysses else tensor * context
        expert, moe_tensor = config.get("moe_expert_parallel_size"), config.get("moe_tensor_parallel_size")
        if expert is None:
            expert = 1 if moe_tensor is None else moe_world // moe_tensor
        return cls(
            tensor=tensor,
            pipeline=pipeline,
            context=context,
            moe_tensor=moe_world // expert if moe_tensor is None else moe_tensor,
            moe_expert=expert,
            moe_world=moe_world,
        )

    @property
    def world(self) -> int:
        """Ranks, one for each GPU."""
        return self.tensor * self.pipeline * self.context


def check(model: str, config: Mapping[str, Any], *, gpus: int, ranks: int | None) -> None:
    """Raise what the real server raises when it cannot place this model; ``gpus`` are those of this machine."""
    sizes = Sizes.of(config)
    _check_sizes(sizes, ranks)
    _check_gpus(sizes, config.get("gpus_per_node"), gpus, ranks)
    _check_model(model, sizes, config)


def _check_sizes(sizes: Sizes, ranks: int | None) -> None:
    if ranks is not None and ranks != sizes.world:
        raise ValueError(
            "world_size must equal to tp_size * pp_size * cp_size, "
            f"but got {ranks} != {sizes.tensor} * {sizes.pipeline} * {sizes.context}."
        )
    if sizes.moe_tensor * sizes.moe_expert != sizes.moe_world:
        raise ValueError(
            "moe_tp_size * moe_ep_size * moe_cluster_size must equal to moe_world_size, "
            f"but got {sizes.moe_tensor * sizes.moe_expert} != {sizes.moe_world}"
        )


def _check_gpus(sizes: Sizes, per_node: int | None, gpus: int, ranks: int | None) -> None:
    if gpus == 0:
        raise ValueError("No GPU devices found on the node")
    if min(sizes.world, per_node or gpus) > gpus:
        raise RuntimeError("CUDA error: invalid device ordinal")
    if ranks is None and sizes.world > gpus:
        raise RuntimeError(f"Duplicate GPU detected : rank {gpus} and rank 0 both on CUDA device 0")


def _check_model(model: str, sizes: Sizes, config: Mapping[str, Any]) -> None:
    if not model.startswith(("/", ".")):
        return  # a name on the Hub: nothing is downloaded
    if not Path(model).is_dir():
        raise ValueError(
            f"Repo id must be in the form 'repo_name' or 'namespace/repo_name': '{model}'. "
            "Use `repo_type` argument if needed."
        )
    path = Path(model, "config.json")
    if not path.is_file():
        raise OSError(f"{model} does not appear to have a file named config.json.")
    facts = json.loads(path.read_text(encoding="utf-8"))
    _check_heads(facts, sizes, attention_dp=bool(config.get("enable_attention_dp")))
    _check_layers(facts, sizes, config.get("pp_partition"))


def _check_heads(facts: Mapping[str, Any], sizes: Sizes, *, attention_dp: bool) -> None:
    heads = facts.get("num_attention_heads")
    if heads is None or attention_dp:
        return
    shards = sizes.tensor * sizes.context
    if heads % shards:
        raise AssertionError(f"num_attention_heads ({heads}) must be divisible by tp_size * cp_size ({shards})")
    kv_heads = facts.get("num_key_value_heads", heads)
    if max(kv_heads, sizes.tensor) % min(kv_heads, sizes.tensor):
        raise AssertionError(f"num_key_value_heads ({kv_heads}) and tp_size ({sizes.tensor}) must divide each other")


def _check_layers(facts: Mapping[str, Any], sizes: Sizes, partition: list[int] | None) -> None:
    if partition is None:
        return
    layers = facts.get("num_hidden_layers", sum(partition))
    if len(partition) != sizes.pipeline or sum(partition) != layers:
        raise ValueError(f"pp_partition {partition} must have {sizes.pipeline} entries that sum to {layers} layers")
