"""Test data in few words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from support import config_maps
from trtllm_operator.api import Dtype, LLMDeploymentSpec
from trtllm_operator.facts import Experts, Facts, LatentAttention, ModelFacts
from trtllm_operator.gather import gather, offers_of
from trtllm_operator.hardware import NodeGroup
from trtllm_operator.model_files import read_model_files
from trtllm_operator.plan import plan
from trtllm_operator.planned import Infeasible, Plan

H100 = "NVIDIA-H100-80GB-HBM3"
LLAMA_70B = "hf://meta-llama/Llama-3.3-70B-Instruct"


def a_spec(uri: str = LLAMA_70B, **fields: Any) -> LLMDeploymentSpec:
    return LLMDeploymentSpec.model_validate({"model": {"uri": uri}, **fields}, extra="forbid")


def some_facts(spec: LLMDeploymentSpec, *groups: str) -> Facts:
    """Return the facts of a spec, the ConfigMaps of the examples being there."""
    offers = offers_of(NodeGroup.parse(group) for group in groups or (f"2x8x{H100}",))
    reference = spec.model.config_map_ref
    read = read_model_files(spec.model, None if reference is None else config_maps().get(reference.name))
    assert not isinstance(read, Infeasible), read
    return gather(spec, offers, read)


def a_verdict(spec: LLMDeploymentSpec, *groups: str) -> Plan | Infeasible:
    return plan(spec, some_facts(spec, *groups))


def a_plan(spec: LLMDeploymentSpec | None = None, *groups: str) -> Plan:
    verdict = a_verdict(spec or a_spec(), *groups)
    assert isinstance(verdict, Plan), verdict
    return verdict


def a_refusal(spec: LLMDeploymentSpec, *groups: str) -> Infeasible:
    verdict = a_verdict(spec, *groups)
    assert isinstance(verdict, Infeasible), verdict
    return verdict


def a_model(**facts: Any) -> ModelFacts:
    """Llama-3.1-70B in bfloat16, unless told otherwise."""
    shape: dict[str, Any] = {
        "name": "acme/llama-70b",
        "parameters": 70_553_706_496,
        "checkpoint_dtype": Dtype.BFLOAT16,
        "layers": 80,
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "attention_heads": 64,
        "kv_heads": 8,
        "head_dim": 128,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
    }
    return ModelFacts(**{**shape, **facts})


def a_mixture(**facts: Any) -> ModelFacts:
    """Mixtral-8x22B in bfloat16, unless told otherwise."""
    shape: dict[str, Any] = {
        "name": "acme/mixtral",
        "parameters": 140_620_634_112,
        "layers": 56,
        "hidden_size": 6144,
        "intermediate_size": None,
        "attention_heads": 48,
        "vocab_size": 32768,
        "max_position_embeddings": 65536,
        "experts": Experts(count=8, intermediate_size=16384, active=2),
    }
    return a_model(**{**shape, **facts})


def a_latent_mixture(**facts: Any) -> ModelFacts:
    """DeepSeek-V3 in fp8 with blocks of 128, unless told otherwise."""
    shape: dict[str, Any] = {
        "name": "acme/deepseek",
        "parameters": 671_026_419_200,
        "checkpoint_dtype": Dtype.FP8,
        "quantization_block": 128,
        "layers": 61,
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "attention_heads": 128,
        "kv_heads": 128,
        "head_dim": None,
        "vocab_size": 129280,
        "max_position_embeddings": 163840,
        "experts": Experts(count=256, intermediate_size=2048, layers=58),
        "latent_attention": LatentAttention(kv_lora_rank=512, rope_head_dim=64, q_lora_rank=1536),
    }
    return a_model(**{**shape, **facts})


def placed(model: ModelFacts, /, *groups: str, **fields: Any) -> Plan | Infeasible:
    """Plan facts that no catalogue holds."""
    spec = a_spec(f"hf://{model.name}", **fields)
    return plan(spec, replace(some_facts(spec, *groups), model=model))
