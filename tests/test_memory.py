from __future__ import annotations

from typing import Any

import pytest

from builders import a_latent_mixture, a_mixture, a_model
from trtllm_operator.api import Dtype
from trtllm_operator.facts import Experts, ModelFacts, StateSpace
from trtllm_operator.memory import GIB, Load, stage_memory, weight_bytes, weights
from trtllm_operator.parallel import Layout

CAPACITY = 80 * GIB
LLAMA_8B = a_model(
    parameters=8_030_261_248, layers=32, hidden_size=4096, intermediate_size=14336, attention_heads=32, kv_heads=8
)
LLAMA_405B = a_model(parameters=405_853_388_800, layers=126, hidden_size=16384, attention_heads=128)
GPT_OSS = a_model(
    parameters=116_829_156_672,
    checkpoint_dtype=Dtype.MXFP4,
    only_experts_quantized=True,
    layers=36,
    hidden_size=2880,
    head_dim=64,
    vocab_size=201088,
    experts=Experts(count=128, intermediate_size=2880),
)


@pytest.mark.parametrize(
    ("model", "gb"),
    [
        pytest.param(LLAMA_8B, 16.1, id="8B bfloat16"),
        pytest.param(a_model(), 141.1, id="70B bfloat16"),
        pytest.param(a_model(checkpoint_dtype=Dtype.FP8), 72.7, id="70B fp8: embedding and head stay 16-bit"),
        pytest.param(a_model(parameters=405_853_388_800, layers=126, hidden_size=16384), 811.7, id="405B bfloat16"),
        pytest.param(
            a_model(parameters=405_853_388_800, hidden_size=16384, checkpoint_dtype=Dtype.FP8), 410.1, id="405B fp8"
        ),
        pytest.param(
            a_model(parameters=405_853_388_800, hidden_size=16384, checkpoint_dtype=Dtype.NVFP4), 234.3, id="405B nvfp4"
        ),
        pytest.param(
            a_model(parameters=405_853_388_800, hidden_size=16384, checkpoint_dtype=Dtype.INT4), 217.1, id="405B int4"
        ),
        # 60.7 GiB by the planning sheet: only the experts are 4-bit.
        pytest.param(GPT_OSS, 65.2, id="gpt-oss-120b"),
        pytest.param(a_model(weight_bytes=150 * 10**9), 150.0, id="a known total wins"),
    ],
)
def test_weights(model: ModelFacts, gb: float) -> None:
    assert weight_bytes(model) / 1e9 == pytest.approx(gb, abs=0.1)


def test_what_a_known_total_adds_goes_to_the_linear_layers() -> None:
    known = weights(a_mixture(weight_bytes=285 * 10**9))
    computed = weights(a_mixture())
    assert (known.embedding, known.experts) == (computed.embedding, computed.experts)
    assert known.linear - computed.linear == pytest.approx(285e9 - computed.total, abs=2)


def test_a_total_below_its_parts_shrinks_all_of_them() -> None:
    known, computed = weights(a_mixture(weight_bytes=140 * 10**9)), weights(a_mixture())
    assert known.total == pytest.approx(140e9, abs=2)
    assert known.experts / computed.experts == pytest.approx(known.embedding / computed.embedding)


@pytest.mark.parametrize(
    ("model", "layout", "kv_dtype", "expected"),
    [
        pytest.param(LLAMA_8B, Layout(tensor=1), "bfloat16", 131_072, id="8B"),
        pytest.param(a_model(), Layout(tensor=1), "bfloat16", 327_680, id="70B"),
        pytest.param(a_model(), Layout(tensor=4), "bfloat16", 327_680 // 4, id="tensor divides heads"),
        pytest.param(a_model(), Layout(tensor=4, pipeline=2), "bfloat16", 327_680 // 8, id="stages divide layers"),
        pytest.param(a_model(), Layout(tensor=1), "fp8", 327_680 // 2, id="fp8 cache"),
        pytest.param(a_model(), Layout(tensor=1), "nvfp4", 327_680 * 9 // 32, id="nvfp4 cache with its scales"),
        pytest.param(LLAMA_405B, Layout(tensor=1), "bfloat16", 516_096, id="405B"),
        pytest.param(LLAMA_405B, Layout(tensor=16), "bfloat16", 516_096 // 8, id="8 heads over 16 GPUs are copied"),
        pytest.param(a_mixture(), Layout(tensor=1), "bfloat16", 229_376, id="Mixtral-8x22B"),
        pytest.param(a_latent_mixture(), Layout(tensor=1), "bfloat16", 70_272, id="latent attention: one vector"),
        pytest.param(a_latent_mixture(), Layout(tensor=8), "bfloat16", 70_272, id="latent attention: on every rank"),
        pytest.param(
            a_model(), Layout(tensor=8, attention_dp=True), "bfloat16", 327_680, id="whole under attention DP"
        ),
        pytest.param(a_model(), Layout(tensor=4, context=2), "bfloat16", 327_680 // 8, id="tokens shared by context"),
        pytest.param(a_model(attention_layers=49), Layout(tensor=1), "bfloat16", 49 * 4096, id="49 of 80 keep tokens"),
        pytest.param(
            a_model(attention_layers=7),
            Layout(tensor=1, pipeline=2),
            "bfloat16",
            4 * 4096,
            id="4 of 7 on the first stage",
        ),
        pytest.param(a_model(layers=None), Layout(tensor=1), "bfloat16", None, id="unknown layers"),
        pytest.param(a_model(kv_heads=None), Layout(tensor=1), "bfloat16", None, id="unknown heads"),
    ],
)
def test_kv_bytes_per_token_and_gpu(model: ModelFacts, layout: Layout, kv_dtype: str, expected: int | None) -> None:
    load = Load(kv_cache_dtype=Dtype(kv_dtype))
    assert stage_memory(model, CAPACITY, layout, 0, load).kv_bytes_per_token == expected


def held(model: ModelFacts, layout: Layout, stage: int = 0) -> float:
    return stage_memory(model, CAPACITY, layout, stage, Load()).weights / 1e9


def test_tensor_parallelism_divides_everything() -> None:
    assert held(a_model(), Layout(tensor=4)) == pytest.approx(141.1 / 4, abs=0.1)


def test_the_ends_of_a_pipeline_hold_embedding_and_head() -> None:
    layout = Layout(tensor=1, pipeline=4)
    first, inner, last = (held(a_model(), layout, stage) for stage in (0, 1, 3))
    table = 128256 * 8192 * 2 / 1e9
    assert first == pytest.approx(inner + table, abs=0.01)
    assert last == pytest.approx(inner + table, abs=0.01)
    assert first + last + 2 * inner == pytest.approx(141.1, abs=0.1)


def test_a_tied_embedding_is_held_at_both_ends() -> None:
    tied = a_model(tied_embeddings=True)
    layout = Layout(tensor=1, pipeline=2)
    table = 128256 * 8192 * 2
    assert held(tied, layout, 0) + held(tied, layout, 1) == pytest.approx((weight_bytes(tied) + table) / 1e9, abs=0.01)


def test_an_uneven_partition_weighs_by_its_layers() -> None:
    layout = Layout(tensor=1, pipeline=3, partition=(30, 30, 20))
    assert held(a_model(), layout, 1) / held(a_model(), layout, 2) > 1.3


def test_expert_parallelism_changes_no_memory() -> None:
    mixture = a_mixture()
    assert held(mixture, Layout(tensor=4, expert=4)) == held(mixture, Layout(tensor=4, expert=1))


def test_attention_data_parallelism_copies_all_but_the_experts() -> None:
    mixture = a_mixture()
    split = weights(mixture)
    expected = (split.embedding + split.head + split.linear + split.experts / 8) / 1e9
    assert held(mixture, Layout(tensor=8, expert=8, attention_dp=True)) == pytest.approx(expected, abs=0.01)


def test_latent_down_projections_are_on_every_rank() -> None:
    deepseek = a_latent_mixture()
    down = 61 * 7168 * (1536 + 512 + 64) / 1e9
    assert held(deepseek, Layout(tensor=8)) == pytest.approx(weight_bytes(deepseek) / 8e9 + down * 7 / 8, abs=0.01)


def overhead(model: ModelFacts, layout: Layout, **load: Any) -> float:
    return stage_memory(model, CAPACITY, layout, 0, Load(**load)).overhead / GIB


def test_overhead_of_one_gpu() -> None:
    # 3.5 GiB, 1 % of 80 GiB, and 2 bytes x 8192 tokens x 8192 wide x 11.
    assert overhead(a_model(), Layout(tensor=1)) == pytest.approx(3.5 + 0.8 + 2 * 8192 * 8192 * 11 / GIB, abs=0.01)


@pytest.mark.parametrize(
    ("more", "less"),
    [
        pytest.param({"max_num_tokens": 8192}, {"max_num_tokens": 2048}, id="a larger chunk"),
        pytest.param({}, {"optimistic": True}, id="not optimistic"),
    ],
)
def test_what_costs_more_overhead(more: dict[str, Any], less: dict[str, Any]) -> None:
    layout = Layout(tensor=2)
    assert overhead(a_model(), layout, **more) > overhead(a_model(), layout, **less)


def test_experts_double_the_activations() -> None:
    dense, mixture = a_model(), a_model(experts=Experts(count=8))
    activations = 2 * 8192 * 8192 * 11 / GIB
    extra = overhead(mixture, Layout(tensor=1)) - overhead(dense, Layout(tensor=1))
    assert extra == pytest.approx(activations, abs=0.01)


def test_recurrent_state_is_kept_for_every_slot_of_every_stage() -> None:
    state = StateSpace(layers=36, heads=32, head_dim=128, state_dim=128, conv_dim=8192, conv_kernel=4)
    hybrid, plain = a_model(state_space=state, layers=48), a_model(layers=48)
    per_slot = 36 * (8192 * 3 * 2 + 32 * 128 * 128 * 4)
    for layout, slots in ((Layout(tensor=1), 64), (Layout(tensor=1, pipeline=2), 64), (Layout(tensor=4), 16)):
        extra = overhead(hybrid, layout, state_slots=64) - overhead(plain, layout, state_slots=64)
        assert extra == pytest.approx(per_slot * slots / GIB, abs=0.01)


def test_nothing_is_left_when_the_weights_alone_are_too_much() -> None:
    memory = stage_memory(a_model(), CAPACITY, Layout(tensor=1), 0, Load())
    assert (memory.kv_cache, memory.kv_tokens) == (0, 0)
    assert memory.free < 0


def test_the_kv_cache_takes_its_fraction_of_what_is_free() -> None:
    memory = stage_memory(a_model(), CAPACITY, Layout(tensor=4), 0, Load(kv_fraction=0.5))
    assert memory.kv_cache == pytest.approx(memory.free / 2, abs=1)
