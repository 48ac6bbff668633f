"""Bytes per GPU of a model under tensor and pipeline parallelism.

An estimate for dense and mixture-of-experts transformers with grouped-query attention. All sizes are bytes unless a
name says GiB. Calibrated by others on H100 and GB300 measurements of TensorRT-LLM to about 2.5 GiB per GPU; GPUs of 24
and 48 GB are not in that set, so the estimate is unverified there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from trtllm_operator.api import Dtype
from trtllm_operator.facts import ModelFacts

GIB = 1024**3

KV_FRACTION = 0.9
"""TensorRT-LLM's free_gpu_memory_fraction: a share of what weights and buffers leave free, not of the whole GPU."""

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

_CHUNK_TOKENS = {"Fits": 8192, "Tight": 2048}
_BASE_OVERHEAD = {"Fits": 3.5 * GIB, "Tight": 2.0 * GIB}
_COMMUNICATION = {"Fits": 0.7 * GIB, "Tight": 0.3 * GIB}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMemory:
    """Estimated bytes on the fullest GPU of a replica."""

    capacity: int
    weights: int
    overhead: int
    kv_bytes_per_token: int | None

    @property
    def kv_cache(self) -> int:
        """Bytes TensorRT-LLM will give to the KV cache; 0 when nothing is left."""
        return max(0, int(KV_FRACTION * (self.capacity - self.weights - self.overhead)))

    @property
    def kv_tokens(self) -> int | None:
        """Tokens the KV cache holds, or None when the model's shape is unknown."""
        return None if self.kv_bytes_per_token is None else self.kv_cache // self.kv_bytes_per_token


def embedding_bytes(model: ModelFacts) -> float:
    """Bytes of embedding and output head, which stay 16-bit in quantised checkpoints."""
    if model.vocab_size is None or model.hidden_size is None:
        return 0.0
    return 2.0 * model.vocab_size * model.hidden_size * 2


def weight_bytes(model: ModelFacts) -> int:
    """Bytes of all weights at the checkpoint's dtype."""
    embedding = embedding_bytes(model)
    linear = model.parameters - embedding / 2
    return int(linear * BYTES_PER_WEIGHT[model.checkpoint_dtype] + embedding)


def gpu_memory(model: ModelFacts, capacity: int, tensor: int, pipeline: int, *, verdict: str = "Fits") -> GpuMemory:
    """Estimate the fullest GPU. ``verdict`` picks the overhead: conservative for Fits, optimistic for Tight."""
    embedding = embedding_bytes(model)
    layers = model.layers or pipeline
    stage = math.ceil(layers / pipeline) / layers
    on_stage = embedding if pipeline == 1 else embedding / 2
    weights = (weight_bytes(model) - embedding) * stage / tensor + on_stage / tensor
    return GpuMemory(
        capacity=capacity,
        weights=int(weights),
        overhead=int(_overhead(model, capacity, tensor, pipeline, verdict)),
        kv_bytes_per_token=_kv_bytes_per_token(model, tensor, stage),
    )


def _overhead(model: ModelFacts, capacity: int, tensor: int, pipeline: int, verdict: str) -> float:
    coefficient = {1: 11.0, 2: 6.5}.get(tensor, 5.0) * (2 if model.experts else 1)
    activations = 2.0 * _CHUNK_TOKENS[verdict] * (model.hidden_size or 8192) * coefficient
    communication = _COMMUNICATION[verdict] if tensor * pipeline > 1 else 0.0
    return _BASE_OVERHEAD[verdict] + 0.01 * capacity + activations + communication


def _kv_bytes_per_token(model: ModelFacts, tensor: int, stage: float) -> int | None:
    if model.layers is None or model.kv_heads is None or model.head_dim is None:
        return None
    element = 1 if model.checkpoint_dtype in (Dtype.FP8, Dtype.NVFP4) else 2
    heads = math.ceil(model.kv_heads / tensor)
    return 2 * round(model.layers * stage) * heads * model.head_dim * element
