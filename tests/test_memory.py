from __future__ import annotations

import pytest

from trtllm_operator.hardware import find_gpu
from trtllm_operator.memory import GIB, gpu_memory, weight_bytes
from trtllm_operator.models import catalogue

LLAMA_8B = "meta-llama/llama-3.1-8b-instruct"
LLAMA_70B = "meta-llama/llama-3.3-70b-instruct"
LLAMA_70B_FP8 = "nvidia/llama-3.3-70b-instruct-fp8"
LLAMA_405B = "meta-llama/llama-3.1-405b-instruct"


@pytest.mark.parametrize(
    ("name", "gb"),
    [(LLAMA_8B, 16.1), (LLAMA_70B, 141.1), (LLAMA_70B_FP8, 72.7), (LLAMA_405B, 811.7)],
)
def test_weights(name: str, gb: float) -> None:
    assert weight_bytes(catalogue()[name]) / 1e9 == pytest.approx(gb, abs=0.1)


@pytest.mark.parametrize(
    ("name", "tensor", "pipeline", "kv_bytes"),
    [
        (LLAMA_8B, 1, 1, 131_072),
        (LLAMA_70B, 1, 1, 327_680),
        (LLAMA_70B, 4, 1, 327_680 // 4),
        (LLAMA_70B, 4, 2, 327_680 // 8),
        (LLAMA_70B_FP8, 1, 1, 327_680 // 2),
        (LLAMA_405B, 1, 1, 516_096),
        # 8 key-value heads over 16 GPUs are copied, not split further.
        (LLAMA_405B, 16, 1, 516_096 // 8),
    ],
)
def test_kv_bytes_per_token_and_gpu(name: str, tensor: int, pipeline: int, kv_bytes: int) -> None:
    assert gpu_memory(catalogue()[name], 80 * GIB, tensor, pipeline).kv_bytes_per_token == kv_bytes


def test_weights_are_split_by_tensor_and_stage() -> None:
    model = catalogue()[LLAMA_70B]
    whole = gpu_memory(model, 80 * GIB, 1, 1).weights
    assert gpu_memory(model, 80 * GIB, 4, 1).weights == pytest.approx(whole / 4, rel=1e-6)
    assert gpu_memory(model, 80 * GIB, 2, 2).weights == pytest.approx(whole / 4, rel=1e-6)
    # 80 layers over 3 stages: the fullest holds 27.
    assert gpu_memory(model, 80 * GIB, 1, 3).weights > whole / 3


def test_the_optimistic_estimate_leaves_more_room() -> None:
    model, gpu = catalogue()[LLAMA_70B_FP8], find_gpu("NVIDIA-H100-80GB-HBM3")
    assert gpu is not None
    fits = gpu_memory(model, gpu.memory_bytes, 1, 1)
    tight = gpu_memory(model, gpu.memory_bytes, 1, 1, verdict="Tight")
    assert tight.overhead < fits.overhead
    assert tight.kv_cache > fits.kv_cache


def test_nothing_is_left_when_the_weights_alone_are_too_much() -> None:
    memory = gpu_memory(catalogue()[LLAMA_70B], 80 * GIB, 1, 1)
    assert (memory.kv_cache, memory.kv_tokens) == (0, 0)
