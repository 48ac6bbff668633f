from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from builders import H100, a_latent_mixture, a_mixture, a_model, placed
from trtllm_operator.api import Dtype
from trtllm_operator.facts import ModelFacts
from trtllm_operator.planned import Caution, Estimate, Plan

A100, H200, B200, L4, L40S = (
    "NVIDIA-A100-SXM4-80GB",
    "NVIDIA-H200",
    "NVIDIA-B200",
    "NVIDIA-L4",
    "NVIDIA-L40S",
)
LLAMA_8B = a_model(
    parameters=8_030_261_248, layers=32, hidden_size=4096, intermediate_size=14336, attention_heads=32, kv_heads=8
)
LLAMA_70B = a_model()
LLAMA_70B_FP8 = a_model(checkpoint_dtype=Dtype.FP8)
LLAMA_405B = a_model(
    parameters=405_853_388_800, layers=126, hidden_size=16384, intermediate_size=53248, attention_heads=128
)
LLAMA_405B_FP8 = dataclasses.replace(LLAMA_405B, checkpoint_dtype=Dtype.FP8)
QWEN_32B = a_model(parameters=32_762_123_264, layers=64, hidden_size=5120, intermediate_size=25600, vocab_size=151936)


def a_layout(model: ModelFacts, *groups: str, **fields: Any) -> Plan:
    made = placed(model, *groups, **fields)
    assert isinstance(made, Plan), made
    return made


def sizes(made: Plan) -> tuple[int, int, int]:
    return made.layout.tensor, made.layout.pipeline, made.layout.expert


@pytest.mark.parametrize(
    ("model", "group", "expected"),
    [
        pytest.param(LLAMA_8B, f"1x8x{A100}", (1, 1, 1), id="under 20 GB: one GPU"),
        pytest.param(LLAMA_70B_FP8, f"1x8x{H100}", (2, 1, 1), id="under 80 GB: TP=2"),
        pytest.param(LLAMA_70B, f"1x8x{H100}", (4, 1, 1), id="under 320 GB: TP=4"),
        pytest.param(LLAMA_405B_FP8, f"2x8x{H100}", (8, 2, 1), id="more: TP=8 over two nodes"),
        pytest.param(LLAMA_405B_FP8, f"1x8x{H100}", (8, 1, 1), id="rung of 16 on one node of 8"),
        pytest.param(LLAMA_405B_FP8, f"4x4x{H100}", (4, 4, 1), id="rung of 16 on nodes of 4"),
        pytest.param(LLAMA_405B, f"1x8x{H200}", (8, 1, 1), id="812 GB on one node of 141 GB GPUs"),
        pytest.param(a_mixture(), f"1x8x{H100}", (4, 1, 4), id="experts as wide as tensor"),
        pytest.param(a_latent_mixture(), f"1x8x{H200}", (8, 1, 8), id="688 GB of latent attention and experts"),
        pytest.param(LLAMA_8B, f"1x8x{L4}", (1, 1, 1), id="16 GB on 24 GB"),
        pytest.param(QWEN_32B, f"1x8x{L4}", (1, 4, 1), id="PCIe means pipeline"),
        pytest.param(LLAMA_70B_FP8, f"1x8x{L40S}", (1, 2, 1), id="PCIe pipeline of two"),
        pytest.param(LLAMA_70B, f"1x2x{H100}", (2, 1, 1), id="fewer GPUs than the guide wants, when they fit"),
    ],
)
def test_the_guide_s_tree(model: ModelFacts, group: str, expected: tuple[int, int, int]) -> None:
    made = a_layout(model, group)
    assert sizes(made) == expected
    assert made.because[0].startswith("guide: ")


@pytest.mark.parametrize(
    ("model", "group", "expected"),
    [
        pytest.param(LLAMA_70B, f"1x8x{H100}", (2, 1), id="two GPUs are enough"),
        pytest.param(LLAMA_70B, f"1x8x{B200}", (1, 1), id="one large GPU is enough"),
        pytest.param(LLAMA_405B_FP8, f"1x8x{H200}", (4, 1), id="tensor before stages"),
        pytest.param(LLAMA_405B, f"2x8x{H100}", (8, 2), id="stages when one node is too small"),
        pytest.param(QWEN_32B, f"1x8x{L40S}", (1, 2), id="PCIe"),
    ],
)
def test_minimal_takes_the_smallest_that_fits(model: ModelFacts, group: str, expected: tuple[int, int]) -> None:
    made = a_layout(model, group, parallelism={"policy": "Minimal"})
    assert sizes(made)[:2] == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"gpus": {"count": 4}}, (4, 1)),
        ({"gpus": {"count": 8}}, (8, 1)),
        ({"gpus": {"count": 6}}, (2, 3)),
        ({"gpus": {"count": 16}}, (8, 2)),
        ({"gpus": {"count": 4}, "parallelism": {"tensor": 2}}, (2, 2)),
        ({"gpus": {"count": 8}, "parallelism": {"pipeline": 4}}, (2, 4)),
        ({"parallelism": {"tensor": 8}}, (8, 1)),
        ({"parallelism": {"tensor": 2, "pipeline": 2}}, (2, 2)),
        ({"parallelism": {"pipeline": 2}}, (1, 2)),
        ({"parallelism": {"mode": "Pipeline"}}, (1, 4)),
        ({"parallelism": {"mode": "Tensor"}, "gpus": {"interconnect": "PCIe"}}, (4, 1)),
        ({"gpus": {"count": 4, "interconnect": "PCIe"}}, (1, 4)),
        ({"gpus": {"maxCount": 2}}, (2, 1)),
        ({"gpus": {"perNode": 4, "count": 8}}, (4, 2)),
        ({"parallelism": {"context": 2, "tensor": 4, "pipeline": 1}}, (4, 1)),
        ({"parallelism": {"tensor": 16, "allowTensorAcrossNodes": True}}, (16, 1)),
    ],
)
def test_what_the_user_fixes(fields: dict[str, Any], expected: tuple[int, int]) -> None:
    assert sizes(a_layout(LLAMA_70B, f"2x8x{H100}", **fields))[:2] == expected


@pytest.mark.parametrize(
    ("model", "group", "fields", "pods"),
    [
        pytest.param(LLAMA_70B, f"2x8x{H100}", {}, (4, 1), id="part of a node"),
        pytest.param(LLAMA_405B_FP8, f"2x8x{H100}", {}, (8, 2), id="two whole nodes"),
        pytest.param(LLAMA_70B, f"4x4x{H100}", {"gpus": {"count": 8}}, (4, 2), id="nodes of four"),
        pytest.param(LLAMA_70B, f"2x8x{H100}", {"gpus": {"count": 12}}, (4, 3), id="whole stages per pod"),
        pytest.param(LLAMA_70B, f"4x8x{H100}", {"parallelism": {"tensor": 2, "pipeline": 10}}, (4, 5), id="divides"),
        pytest.param(LLAMA_405B_FP8, "4x4xNVIDIA-GB200", {"parallelism": {"tensor": 8}}, (4, 2), id="rack-scale"),
    ],
)
def test_pods_hold_whole_tensor_groups(
    model: ModelFacts, group: str, fields: dict[str, Any], pods: tuple[int, int]
) -> None:
    if "GB200" in group:
        fields = {**fields, "parallelism": {**fields["parallelism"], "allowTensorAcrossNodes": True}}
    made = a_layout(model, group, **fields)
    assert (made.gpus_per_pod, made.nodes) == pods
    assert made.gpus_per_pod * made.nodes == made.gpus


@pytest.mark.parametrize(
    ("model", "kv_cache", "expected"),
    [
        pytest.param(LLAMA_70B, None, "bfloat16", id="16-bit weights"),
        pytest.param(LLAMA_70B_FP8, None, "fp8", id="fp8 weights"),
        pytest.param(LLAMA_70B_FP8, "bfloat16", "bfloat16", id="as stated"),
        pytest.param(LLAMA_70B, "auto", "bfloat16", id="auto is the default"),
        pytest.param(a_model(kv_cache_dtype=Dtype.FP8), None, "fp8", id="as the checkpoint says"),
    ],
)
def test_the_kv_cache_s_format(model: ModelFacts, kv_cache: str | None, expected: str) -> None:
    fields = {"engine": {"kvCacheDtype": kv_cache}} if kv_cache else {}
    assert a_layout(model, **fields).kv_cache_dtype == expected


def test_a_workload_sizes_the_cache() -> None:
    work = {"workload": {"inputTokens": 6000, "outputTokens": 1000, "concurrency": 80}}
    small, large = a_layout(LLAMA_70B), a_layout(LLAMA_70B, **work)
    assert (small.gpus, large.gpus) == (4, 8)
    assert large.max_kv_tokens is not None
    assert large.max_kv_tokens >= 80 * 7000
    assert "80 sequences of 7000" in large.rejected[0].detail


def test_attention_data_parallelism_serves_requests_apart() -> None:
    wide = a_layout(a_latent_mixture(), f"1x8x{H200}", parallelism={"attentionDataParallel": True})
    narrow = a_layout(a_latent_mixture(), f"1x8x{H200}")
    assert wide.memory is not None
    assert wide.memory.kv_tokens is not None
    assert wide.max_kv_tokens == 8 * wide.memory.kv_tokens
    assert narrow.max_kv_tokens is not None
    assert wide.max_kv_tokens > 4 * narrow.max_kv_tokens


@pytest.mark.parametrize(
    ("model", "group", "fields", "caution", "holds"),
    [
        (LLAMA_405B_FP8, f"1x8x{H100}", {}, Caution.TREE_DOWNGRADED, "the guide wants 16 GPUs; 8 fit"),
        (LLAMA_70B, f"1x8x{B200}", {}, Caution.TREE_OVERSIZES, "TP=1 on 1 GPU"),
        (LLAMA_70B_FP8, f"1x3x{H100}", {"gpus": {"maxCount": 3}}, Caution.UNUSED_GPUS, "1 of 3 GPUs"),
        (LLAMA_70B, f"1x8x{L40S}", {"parallelism": {"tensor": 8}}, Caution.PCIE_TENSOR_PARALLEL, "TP=8"),
        (LLAMA_405B_FP8, f"2x8x{H100}", {}, Caution.SLOW_INTER_NODE, "2 nodes"),
        (LLAMA_70B, f"1x8x{H100}", {"gpus": {"count": 6}}, Caution.UNEVEN_STAGES, "27 and 26 layers"),
        (a_model(kv_heads=4), f"1x8x{H100}", {"gpus": {"count": 8}}, Caution.KV_REPLICATED, "kept 2 times"),
        (LLAMA_70B, f"1x2x{H100}", {"gpus": {"count": 4}}, Caution.NOT_ENOUGH_GPUS, "needs 4 GPUs, the nodes have 2"),
        (LLAMA_8B, f"1x8x{L4}", {}, Caution.SMALL_GPU_UNVERIFIED, "22 GiB"),
        (a_model(checkpoint_dtype=Dtype.INT4), f"1x8x{B200}", {}, Caution.DTYPE_DISPUTED, "AWQ"),
        (a_model(layers=None), f"1x8x{H100}", {}, Caution.COARSE_ESTIMATE, "spec.model.shape"),
        (a_model(notes=("vision tower from memory",)), f"1x8x{H100}", {}, Caution.FACTS_UNVERIFIED, "vision tower"),
        (LLAMA_70B, f"2x8x{H100}", {"parallelism": {"context": 2}}, Caution.CONTEXT_PARALLEL_UNVERIFIED, "CP=2"),
        (
            a_latent_mixture(),
            f"1x8x{H200}",
            {"workload": {"inputTokens": 100, "outputTokens": 100, "concurrency": 256}},
            Caution.ATTENTION_DP_RECOMMENDED,
            "256 sequences on 8 GPUs",
        ),
        (
            a_model(checkpoint_dtype=Dtype.INT4),
            "1x2xNVIDIA-GeForce-RTX-3090",
            {"gpus": {"count": 2}, "engine": {"maxSeqLen": 4096}},
            Caution.MEMORY_TIGHT,
            "maxNumTokens 2048",
        ),
    ],
)
def test_what_a_plan_warns_of(
    model: ModelFacts, group: str, fields: dict[str, Any], caution: Caution, holds: str
) -> None:
    made = a_layout(model, group, **fields)
    said = {notice.caution: notice.sentence for notice in made.notices}
    assert caution in said, said
    assert holds in said[caution]


def test_an_ordinary_plan_warns_of_nothing() -> None:
    assert a_layout(LLAMA_8B).notices == ()


def test_a_tight_plan_is_served_in_smaller_chunks() -> None:
    made = a_layout(
        a_model(checkpoint_dtype=Dtype.INT4),
        "1x2xNVIDIA-GeForce-RTX-3090",
        gpus={"count": 2},
        engine={"maxSeqLen": 4096},
    )
    assert (made.verdict, made.max_num_tokens) == ("Tight", 2048)


def test_an_unknown_size_is_planned_where_the_user_fixes_everything() -> None:
    from builders import a_spec, some_facts
    from trtllm_operator.plan import plan

    spec = a_spec("hf://acme/secret-llm", parallelism={"tensor": 4, "pipeline": 1})
    made = plan(spec, some_facts(spec))
    assert isinstance(made, Plan)
    assert (made.estimate, made.memory, made.max_kv_tokens) == (Estimate.NONE, None, None)
    assert [notice.caution for notice in made.notices] == [Caution.SIZE_UNCHECKED]


@pytest.mark.parametrize(
    ("model", "estimate"),
    [
        (a_model(weight_bytes=141_107_412_992), Estimate.EXACT),
        (a_model(), Estimate.CATALOGUE),
        (a_model(layers=None), Estimate.COARSE),
    ],
)
def test_what_the_estimate_rests_on(model: ModelFacts, estimate: Estimate) -> None:
    assert a_layout(model).estimate is estimate


def test_the_best_pool_needs_the_fewest_gpus_and_is_not_tight() -> None:
    made = a_layout(LLAMA_405B_FP8, f"2x8x{H100}", f"1x8x{H200}")
    assert (made.pool.gpu.product, made.gpus) == (H200, 8)


def test_more_gpus_of_one_product_are_better_than_a_tight_fit_on_another() -> None:
    int4 = a_model(checkpoint_dtype=Dtype.INT4, max_position_embeddings=4096)
    tight = a_layout(int4, "1x2xNVIDIA-GeForce-RTX-3090", gpus={"maxCount": 4})
    assert (tight.verdict, tight.gpus) == ("Tight", 2)
    made = a_layout(int4, "1x2xNVIDIA-GeForce-RTX-3090", "1x8xNVIDIA-A30", gpus={"maxCount": 4})
    assert (made.verdict, made.pool.gpu.product, made.gpus) == ("Fits", "NVIDIA-A30", 4)


def test_equal_inputs_give_equal_plans() -> None:
    assert a_layout(LLAMA_70B) == a_layout(LLAMA_70B)


def test_the_batch_follows_the_cache() -> None:
    assert a_layout(LLAMA_70B).max_batch_size == 256
    assert a_layout(LLAMA_70B, engine={"maxBatchSize": 32}).max_batch_size == 32
