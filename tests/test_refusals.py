"""Every reason the planner refuses for, with the numbers and the field its message has to name."""

from __future__ import annotations

from typing import Any

import pytest

from builders import H100, a_latent_mixture, a_mixture, a_model, a_spec, placed
from trtllm_operator.api import Dtype
from trtllm_operator.facts import Experts, Facts, ModelFacts, StateSpace, UnknownModel
from trtllm_operator.model_files import FILES_NOT_READ
from trtllm_operator.plan import plan
from trtllm_operator.planned import Infeasible, Plan
from trtllm_operator.refusals import Reason

A100, MIG, SHARED = "NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-SXM4-80GB-MIG-3g.40gb", f"{H100}-SHARED"
FP8, INT4, NVFP4 = Dtype.FP8, Dtype.INT4, Dtype.NVFP4
HYBRID = a_model(state_space=StateSpace(layers=40, heads=48, head_dim=128, state_dim=128, conv_dim=8192, conv_kernel=4))
WIDE = {"parallelism": {"tensor": 8, "pipeline": 1}}

OF_THE_POD = {
    Reason.HOST_PATH_NOT_ALLOWED,
    Reason.INVALID_ENGINE_VALUE,
    Reason.MANAGED_OPTION,
    Reason.POD_SECURITY_VIOLATION,
    Reason.UNKNOWN_FLAG,
    Reason.UNSUPPORTED_BY_RELEASE,
}
"""Reasons for which a plan is not rendered; tests/test_pod.py reaches each."""

CASES = [
    pytest.param(
        a_model(max_position_embeddings=131072),
        f"1x8x{H100}",
        {"engine": {"maxSeqLen": 131073}},
        Reason.CONTEXT_EXCEEDS_MODEL,
        ["spec.engine.maxSeqLen is 131073", "131072"],
        id="longer than the model",
    ),
    pytest.param(
        a_model(siblings=(("acme/llama-70b-fp8", FP8),)),
        f"1x8x{H100}",
        {"dtype": "fp8"},
        Reason.DTYPE_CHECKPOINT_MISMATCH,
        ["spec.dtype is fp8", "bfloat16", "spec.model.uri to hf://acme/llama-70b-fp8"],
        id="dtype of another checkpoint",
    ),
    pytest.param(
        a_model(checkpoint_dtype=FP8),
        f"1x8x{A100}",
        {},
        Reason.DTYPE_UNSUPPORTED_ON_GPU,
        [A100, "8.0", "fp8", "spec.gpus.product"],
        id="fp8 on Ampere",
    ),
    pytest.param(
        a_latent_mixture(),
        "1x8xNVIDIA-RTX-PRO-6000-Blackwell-Server-Edition",
        {},
        Reason.DTYPE_UNSUPPORTED_ON_GPU,
        ["12.0", "fp8"],
        id="fp8 in blocks on sm120",
    ),
    pytest.param(
        a_model(),
        f"1x8x{H100}",
        {"engine": {"kvCacheDtype": "nvfp4"}},
        Reason.DTYPE_UNSUPPORTED_ON_GPU,
        ["nvfp4", "spec.engine.kvCacheDtype"],
        id="KV cache of another GPU",
    ),
    pytest.param(
        a_mixture(),
        f"1x8x{H100}",
        {"parallelism": {"tensor": 4, "pipeline": 1, "expert": 3}},
        Reason.EXPERT_PARALLEL_INVALID,
        ["EP=3", "TP=4", "spec.parallelism.expert"],
        id="experts do not divide tensor",
    ),
    pytest.param(
        a_model(),
        f"1x8x{H100}",
        {"parallelism": {"tensor": 4, "expert": 2}},
        Reason.EXPERT_PARALLEL_ON_DENSE,
        ["0 experts", "which is 2"],
        id="experts of a dense model",
    ),
    pytest.param(
        a_mixture(),
        "4x4xNVIDIA-GB200",
        {"parallelism": {"tensor": 16, "pipeline": 1, "expert": 16, "allowTensorAcrossNodes": True}},
        Reason.EXPERTS_NOT_DIVISIBLE,
        ["8 experts", "EP=16"],
        id="more expert ranks than experts",
    ),
    pytest.param(
        a_model(parameters=8 * 10**9),
        "1x8xTesla-T4",
        {},
        Reason.GPU_ARCH_UNSUPPORTED,
        ["7.5", "8.0", "spec.gpus.product"],
        id="Turing",
    ),
    pytest.param(
        a_model(),
        f"1x8x{H100}",
        {"gpus": {"product": "H100"}},
        Reason.GPU_UNKNOWN,
        ["GPU product H100 ", H100, "spec.gpus.memory"],
        id="no such GPU",
    ),
    pytest.param(
        a_model(attention_heads=52, kv_heads=52),
        f"1x8x{H100}",
        WIDE,
        Reason.HEADS_NOT_DIVISIBLE,
        ["52 attention heads", "TP=8"],
        id="52 heads over 8",
    ),
    pytest.param(
        HYBRID,
        "4x8xNVIDIA-H200",
        {"parallelism": {"tensor": 32, "pipeline": 1, "allowTensorAcrossNodes": True}},
        Reason.HEADS_NOT_DIVISIBLE,
        ["48 recurrent heads", "TP=32"],
        id="recurrent heads",
    ),
    pytest.param(
        a_model(),
        f"1x8x{H100}",
        {"gpus": {"pools": [{"product": H100, "count": 2}, {"product": A100, "count": 1}]}},
        Reason.HETEROGENEOUS_NOT_ALLOWED,
        ["lists 2 products", "spec.gpus.allowHeterogeneous"],
        id="pools without leave",
    ),
    pytest.param(
        a_model(),
        f"1x8x{H100}",
        {
            "gpus": {
                "pools": [{"product": H100, "count": 2}, {"product": A100, "count": 1}],
                "allowHeterogeneous": True,
            },
            "parallelism": {"tensor": 3},
        },
        Reason.HETEROGENEOUS_TENSOR_PARALLEL,
        ["TP=3", "2 products", "spec.parallelism.tensor to 1"],
        id="tensor over different GPUs",
    ),
    pytest.param(
        a_model(),
        f"1x8x{H100}",
        {"gpus": {"count": 1}},
        Reason.INSUFFICIENT_MEMORY,
        ["131.4", "79.6", "GiB too many", "TP=2 would fit: set spec.gpus.count to 2"],
        id="too little memory for the weights",
    ),
    pytest.param(
        a_model(checkpoint_dtype=FP8),
        f"1x1x{H100}",
        {"engine": {"maxSeqLen": 131072}},
        Reason.INSUFFICIENT_MEMORY,
        ["KV tokens, 131072 needed for one sequence"],
        id="too little memory for one sequence",
    ),
    pytest.param(
        a_model(checkpoint_dtype=FP8),
        f"1x1x{H100}",
        {"workload": {"inputTokens": 4000, "outputTokens": 1000, "concurrency": 64}},
        Reason.INSUFFICIENT_MEMORY,
        ["320000 needed for spec.workload.concurrency of 64 sequences of 5000"],
        id="too little memory for the workload",
    ),
    pytest.param(
        a_model(intermediate_size=28670),
        f"1x8x{H100}",
        WIDE,
        Reason.INTERMEDIATE_INDIVISIBLE,
        ["28670", "TP=8"],
        id="feed-forward width",
    ),
    pytest.param(
        a_model(kv_heads=10, attention_heads=40),
        f"1x8x{H100}",
        {"parallelism": {"tensor": 4, "pipeline": 1}},
        Reason.KV_HEADS_INDIVISIBLE,
        ["10 key-value heads", "TP=4"],
        id="10 key-value heads over 4",
    ),
    pytest.param(
        a_mixture(experts=Experts(count=8, intermediate_size=16386)),
        f"1x8x{H100}",
        {"parallelism": {"tensor": 4, "pipeline": 1, "expert": 1}},
        Reason.MOE_INTERMEDIATE_INDIVISIBLE,
        ["16386", "TP=4 / EP=1"],
        id="width of an expert",
    ),
    pytest.param(
        a_model(),
        f"1x8x{H100}",
        {"gpus": {"maxCount": 4}, "parallelism": {"tensor": 8, "pipeline": 2}},
        Reason.NOT_ENOUGH_GPUS,
        ["needs 16 GPUs", "at most 4"],
        id="more than the budget",
    ),
    pytest.param(
        a_model(),
        f"1x8x{MIG}",
        {"gpus": {"count": 2}},
        Reason.PARTITIONED_GPU,
        ["needs 2 GPUs", "MIG", "spec.gpus.count to 1"],
        id="several MIG slices",
    ),
    pytest.param(
        a_model(checkpoint_dtype=FP8),
        f"1x8x{MIG}",
        {"parallelism": {"tensor": 2, "pipeline": 1}},
        Reason.PARTITIONED_GPU,
        ["needs 2 GPUs"],
        id="several MIG slices, before their precision",
    ),
    pytest.param(
        a_latent_mixture(experts=Experts(count=256, intermediate_size=1536, layers=58)),
        "1x8xNVIDIA-H200",
        {"parallelism": {"tensor": 8, "pipeline": 1, "expert": 1}},
        Reason.QUANT_BLOCK_INDIVISIBLE,
        ["1536", "192", "128"],
        id="a shard that ends within a block",
    ),
    pytest.param(
        a_model(),
        f"1x8x{SHARED}",
        {"gpus": {"count": 4}},
        Reason.SHARED_GPU,
        ["needs 4 GPUs", "time-sliced"],
        id="several time slices",
    ),
    pytest.param(
        a_model(),
        f"2x8x{H100}",
        {"parallelism": {"tensor": 16, "pipeline": 1}},
        Reason.TENSOR_PARALLEL_ACROSS_NODES,
        ["TP=16", "8 GPUs", "spec.parallelism.allowTensorAcrossNodes"],
        id="tensor over two nodes",
    ),
    pytest.param(
        a_model(layers=6),
        f"1x8x{H100}",
        {"parallelism": {"tensor": 1, "pipeline": 8}},
        Reason.TOO_MANY_STAGES,
        ["6 layers", "PP=8"],
        id="more stages than layers",
    ),
    pytest.param(
        a_model(),
        f"1x8x{H100}",
        {"model": {"uri": "s3://bucket/model"}},
        Reason.FIELD_NOT_SUPPORTED,
        ["spec.model.uri", "s3://bucket/model", "pvc://"],
        id="a field of a later release",
    ),
]


@pytest.mark.parametrize(("model", "group", "fields", "reason", "holds"), CASES)
def test_a_refusal_names_the_number_and_the_field(
    model: ModelFacts, group: str, fields: dict[str, Any], reason: Reason, holds: list[str]
) -> None:
    refused = placed(model, group, **fields)
    assert isinstance(refused, Infeasible), refused
    assert refused.reason is reason, refused.message
    for text in holds:
        assert text in refused.message


def test_no_gpus() -> None:
    spec = a_spec()
    refused = plan(spec, Facts(model=a_model()))
    assert isinstance(refused, Infeasible)
    assert refused.reason is Reason.NO_GPUS
    assert "0 nodes" in refused.message


def test_an_unknown_model_names_what_would_tell_and_its_neighbours() -> None:
    spec = a_spec("hf://acme/secret-llm")
    refused = plan(spec, Facts(model=UnknownModel(name="acme/secret-llm", near=("acme/secret-7b",))))
    assert isinstance(refused, Infeasible)
    assert refused.reason is Reason.MODEL_SIZE_UNKNOWN
    for text in ("acme/secret-llm", "spec.model.shape.parameters", "acme/secret-7b"):
        assert text in refused.message


def test_every_reason_is_reached() -> None:
    elsewhere = {
        Reason.NO_GPUS,
        Reason.MODEL_SIZE_UNKNOWN,
        Reason.HETEROGENEOUS_WORKERS,
        *FILES_NOT_READ,
        *OF_THE_POD,
    }
    reached = {case.values[3] for case in CASES} | elsewhere
    assert reached == set(Reason)


@pytest.mark.parametrize(
    ("model", "group", "fields"),
    [
        (a_model(), f"1x8x{H100}", {"gpus": {"count": 1}}),
        (a_model(), f"1x8x{H100}", {"parallelism": {"tensor": 1, "pipeline": 1}}),
        (a_model(attention_heads=52, kv_heads=52), f"1x8x{H100}", WIDE),
        (a_latent_mixture(), f"4x8x{H100}", {"gpus": {"maxCount": 8}}),
    ],
)
def test_the_suggested_layout_fits(model: ModelFacts, group: str, fields: dict[str, Any]) -> None:
    refused = placed(model, group, **fields)
    assert isinstance(refused, Infeasible)
    assert refused.suggestion is not None
    layout = refused.suggestion.layout
    pinned = {"tensor": layout.tensor, "pipeline": layout.pipeline, "expert": layout.expert}
    assert isinstance(placed(model, group, parallelism=pinned), Plan)


def test_the_dtypes_that_would_fit_are_named() -> None:
    refused = placed(a_model(), f"1x1x{H100}", gpus={"maxCount": 1})
    assert isinstance(refused, Infeasible)
    assert refused.dtypes == (FP8, INT4)
    assert "fp8 or int4" in refused.message
    assert NVFP4 not in refused.dtypes


def test_nvfp4_is_named_where_the_gpu_runs_it() -> None:
    larger = a_model(parameters=150_000_000_000, siblings=(("acme/llama-150b-nvfp4", NVFP4),))
    refused = placed(larger, "1x1xNVIDIA-B200", gpus={"maxCount": 1})
    assert isinstance(refused, Infeasible)
    assert NVFP4 in refused.dtypes
    assert "hf://acme/llama-150b-nvfp4" in refused.message
