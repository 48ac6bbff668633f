"""Bytes per GPU of a model under tensor, pipeline, expert and context parallelism.

All sizes are bytes unless a name says GiB. The overhead was calibrated by others on 72 measured runs of TensorRT-LLM
(Llama-3.1-8B in bfloat16 and Qwen3-32B in fp8 on H100 and GB300) to about 2.5 GiB per GPU; GPUs of 24 and 48 GB,
hybrids and multimodal models are not among them, so there the estimate is unverified. docs/planner.md has the error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from trtllm_operator.api import Dtype
from trtllm_operator.facts import ModelFacts
from trtllm_operator.parallel import Layout

GIB = 1024**3

DEFAULT_KV_FRACTION = 0.9
"""TensorRT-LLM's free_gpu_memory_fraction: a share of what weights and buffers leave free, not of the whole GPU."""

DEFAULT_NUM_TOKENS = 8192
"""trtllm-serve's --max_num_tokens."""

TIGHT_NUM_TOKENS = 2048
"""The chunk a Tight plan is served with: a smaller one leaves more to the KV cache."""

BYTES_PER_WEIGHT = {
    Dtype.BFLOAT16: 2.0,
    Dtype.FLOAT16: 2.0,
    Dtype.FP8: 1.0,
    Dtype.INT8: 1.0,
    Dtype.NVFP4: 0.5 + 1 / 16,  # one fp8 scale per 16 weights
    Dtype.MXFP4: 0.5 + 1 / 32,  # one 8-bit exponent per 32 weights
    Dtype.INT4: 0.5 + 2.5 / 128,  # an fp16 scale and a 4-bit zero point per group of 128
}
"""Bytes per quantised weight, scales included."""

BYTES_PER_KV_ELEMENT = {
    Dtype.BFLOAT16: 2.0,
    Dtype.FLOAT16: 2.0,
    Dtype.FP8: 1.0,
    Dtype.NVFP4: 0.5 + 1 / 16,  # unverified: the scales' share is taken from the weights' format
}

ESTIMATE_ERROR = 2.5 * GIB
"""How far the estimate may be off per GPU."""

_SIXTEEN_BIT = 2
_STATE_BYTES = 4  # the recurrent state of Mamba and gated delta layers is float32 unless configured otherwise
_BASE_OVERHEAD, _BASE_OVERHEAD_OPTIMISTIC = 3.5 * GIB, 2.0 * GIB
_COMMUNICATION, _COMMUNICATION_OPTIMISTIC = 0.7 * GIB, 0.3 * GIB
_ACTIVATIONS_PER_TOKEN = {1: 11.0, 2: 6.5}
_ACTIVATIONS_PER_TOKEN_WIDE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Bytes of the whole checkpoint by how they are split: layers by stage, embedding and head at the two ends."""

    embedding: float
    head: float
    linear: float
    experts: float
    latent_down: float = 0.0
    """The part of ``linear`` that every tensor-parallel rank holds whole: the down-projections of latent attention."""

    @property
    def total(self) -> int:
        """Bytes of the checkpoint."""
        return int(self.embedding + self.head + self.linear + self.experts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the server is asked to hold besides weights. ``state_slots`` are sequences with a recurrent state.

    ``optimistic`` takes the low end of the measured overheads, the bound of the Tight verdict.
    """

    kv_cache_dtype: Dtype = Dtype.BFLOAT16
    kv_fraction: float = DEFAULT_KV_FRACTION
    max_num_tokens: int = DEFAULT_NUM_TOKENS
    state_slots: int = 64
    optimistic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMemory:
    """Estimated bytes on one GPU of a pipeline stage."""

    capacity: int
    weights: int
    overhead: int
    kv_bytes_per_token: int | None
    kv_fraction: float = DEFAULT_KV_FRACTION

    @property
    def free(self) -> int:
        """Bytes left beside weights and overhead; negative when they do not fit."""
        return self.capacity - self.weights - self.overhead

    @property
    def kv_cache(self) -> int:
        """Bytes TensorRT-LLM will give to the KV cache; 0 when nothing is left."""
        return max(0, int(self.kv_fraction * self.free))

    @property
    def kv_tokens(self) -> int | None:
        """Tokens the KV cache holds, or None when the model's shape is unknown."""
        return None if self.kv_bytes_per_token is None else self.kv_cache // self.kv_bytes_per_token


@lru_cache(maxsize=1024)
def weights(model: ModelFacts) -> Weights:
    """Divide the checkpoint's bytes among embedding, head, experts and everything else.

    The embedding and the head stay 16-bit in quantised checkpoints. A known total wins over parameters times dtype, and
    the difference (scales, layers left in 16 bit) goes to the linear layers, where it was seen to be.
    """
    per_weight = BYTES_PER_WEIGHT[model.checkpoint_dtype]
    table = (model.vocab_size or 0) * (model.hidden_size or 0)
    copies = 1 if model.tied_embeddings else 2
    expert_parameters = _expert_parameters(model)
    others = max(0, (model.parameters or 0) - copies * table - expert_parameters)
    found = Weights(
        embedding=table * _SIXTEEN_BIT,
        head=0.0 if model.tied_embeddings else table * _SIXTEEN_BIT,
        linear=others * (_SIXTEEN_BIT if model.only_experts_quantized else per_weight),
        experts=expert_parameters * per_weight,
        latent_down=_latent_down_bytes(model),
    )
    return found if model.weight_bytes is None else _reconciled(found, model.weight_bytes)


def _reconciled(found: Weights, total: int) -> Weights:
    linear = total - found.embedding - found.head - found.experts
    if linear >= found.latent_down:
        return replace(found, linear=linear)
    scale = total / found.total
    return Weights(
        embedding=found.embedding * scale,
        head=found.head * scale,
        linear=found.linear * scale,
        experts=found.experts * scale,
        latent_down=found.latent_down * scale,
    )


def weight_bytes(model: ModelFacts) -> int:
    """Bytes of all weights at the checkpoint's dtype."""
    return weights(model).total


def _expert_parameters(model: ModelFacts) -> int:
    experts = model.experts
    if experts is None or model.hidden_size is None:
        return 0
    return (experts.layers or model.layers or 0) * experts.layer_parameters(model.hidden_size)


def _latent_down_bytes(model: ModelFacts) -> float:
    latent = model.latent_attention
    if latent is None or model.layers is None or model.hidden_size is None:
        return 0.0
    rank = (latent.q_lora_rank or 0) + latent.kv_lora_rank + latent.rope_head_dim
    width = _SIXTEEN_BIT if model.only_experts_quantized else BYTES_PER_WEIGHT[model.checkpoint_dtype]
    return model.layers * model.hidden_size * rank * width


def stage_memory(model: ModelFacts, capacity: int, layout: Layout, stage: int, load: Load) -> GpuMemory:
    """Estimate one GPU of pipeline stage ``stage`` (0 is the first). ``capacity`` is nvidia-smi's total in bytes."""
    layers = model.layers or layout.pipeline
    share = layout.stage_layers(layers)[stage]
    held = _stage_weights(weights(model), share / layers, layout, stage)
    return GpuMemory(
        capacity=capacity,
        weights=int(held),
        overhead=int(_overhead(model, capacity, layout, load) + _state_bytes(model, share / layers, layout, load)),
        kv_bytes_per_token=kv_bytes_per_token(model, layout, share, load.kv_cache_dtype),
        kv_fraction=load.kv_fraction,
    )


def _stage_weights(whole: Weights, share: float, layout: Layout, stage: int) -> float:
    tied_head = 0.0 if layout.pipeline == 1 or whole.head else whole.embedding
    ends = (whole.embedding if stage == 0 else 0.0) + (whole.head + tied_head if stage == layout.pipeline - 1 else 0.0)
    attention_tensor = 1 if layout.attention_dp else layout.tensor
    replicated = (1 - 1 / attention_tensor) * whole.latent_down
    split = (whole.linear * share + ends) / attention_tensor
    return split + share * (replicated + whole.experts / layout.tensor)


def _overhead(model: ModelFacts, capacity: int, layout: Layout, load: Load) -> float:
    base = _BASE_OVERHEAD_OPTIMISTIC if load.optimistic else _BASE_OVERHEAD
    communication = _COMMUNICATION_OPTIMISTIC if load.optimistic else _COMMUNICATION
    coefficient = _ACTIVATIONS_PER_TOKEN.get(layout.tensor, _ACTIVATIONS_PER_TOKEN_WIDE)
    activations = 2.0 * load.max_num_tokens * (model.hidden_size or 8192) * coefficient * (2 if model.experts else 1)
    return base + 0.01 * capacity + activations + (communication if layout.gpus > 1 else 0.0)


def _state_bytes(model: ModelFacts, share: float, layout: Layout, load: Load) -> float:
    """Recurrent state of every sequence slot: max_batch_size x pipeline stages of them (mamba_cache_manager.py)."""
    state = model.state_space
    if state is None:
        return 0.0
    convolution = state.conv_dim * (state.conv_kernel - 1) * _SIXTEEN_BIT
    recurrent = state.heads * state.head_dim * state.state_dim * _STATE_BYTES
    tensor = 1 if layout.attention_dp else layout.tensor
    slots = load.state_slots * layout.pipeline
    return state.layers * share * slots * (convolution + recurrent) / tensor


def kv_bytes_per_token(model: ModelFacts, layout: Layout, stage_layers: int, kv_cache_dtype: Dtype) -> int | None:
    """Bytes one token takes on one GPU of a stage with that many layers, or None when the shape is unknown.

    Every attention layer counts in full: TensorRT-LLM keeps all tokens of sliding-window layers too unless told
    otherwise. Latent attention keeps one vector per token on every rank.
    """
    if model.layers is None:
        return None
    keeping = model.layers if model.attention_layers is None else model.attention_layers
    layers = math.ceil(keeping * stage_layers / model.layers)
    element = BYTES_PER_KV_ELEMENT[kv_cache_dtype]
    if model.latent_attention is not None:
        vector = model.latent_attention.kv_lora_rank + model.latent_attention.rope_head_dim
        return max(1, math.ceil(layers * vector * element / layout.context))
    if model.kv_heads is None or model.head_dim is None:
        return None
    heads = model.kv_heads if layout.attention_dp else math.ceil(model.kv_heads / layout.tensor)
    return max(1, math.ceil(2 * layers * heads * model.head_dim * element / layout.context))


def gib(size: float) -> str:
    """Return bytes as GiB with one decimal."""
    return f"{size / GIB:.1f}"
