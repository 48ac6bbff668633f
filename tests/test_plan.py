from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from builders import H100, LLAMA_70B, a_plan, a_refusal, a_spec, some_facts
from trtllm_operator.api_status import PlanStatus
from trtllm_operator.facts import Facts
from trtllm_operator.models import catalogue, model_facts
from trtllm_operator.plan import Plan, plan
from trtllm_operator.status import LLMDeploymentStatus, Outcome, status

A100 = "NVIDIA-A100-SXM4-80GB"
LLAMA_8B = "hf://meta-llama/Llama-3.1-8B-Instruct"
LLAMA_405B = "hf://meta-llama/Llama-3.1-405B-Instruct"
LLAMA_405B_FP8 = "hf://nvidia/Llama-3.1-405B-Instruct-FP8"
LLAMA_70B_FP8 = "hf://nvidia/Llama-3.3-70B-Instruct-FP8"
MIXTRAL = "hf://mistralai/Mixtral-8x22B-Instruct-v0.1"


@pytest.mark.parametrize(
    ("uri", "groups", "expected"),
    [
        pytest.param(LLAMA_8B, [f"1x8x{A100}"], (1, 1, 1), id="under-20-GB-one-GPU"),
        pytest.param(LLAMA_70B_FP8, [f"1x8x{H100}"], (2, 1, 1), id="under-80-GB-TP2"),
        pytest.param(LLAMA_70B, [f"1x8x{H100}"], (4, 1, 1), id="under-320-GB-TP4"),
        pytest.param(LLAMA_405B_FP8, [f"1x8x{H100}"], (8, 1, 1), id="rung-of-16-downgraded-to-8"),
        pytest.param(MIXTRAL, [f"1x8x{H100}"], (4, 1, 4), id="experts-as-wide-as-tensor"),
        pytest.param(LLAMA_8B, ["1x8xNVIDIA-L4"], (1, 1, 1), id="16-GB-on-24-GB"),
        pytest.param("hf://Qwen/Qwen3-32B", ["1x8xNVIDIA-L4"], (1, 4, 1), id="PCIe-means-pipeline"),
        pytest.param(LLAMA_405B, ["1x8xNVIDIA-H200"], (8, 1, 1), id="bf16-405B-on-one-H200-node"),
    ],
)
def test_the_guide_s_tree(uri: str, groups: list[str], expected: tuple[int, int, int]) -> None:
    made = a_plan(a_spec(uri), *groups)
    assert (made.tensor, made.pipeline, made.expert) == expected
    assert made.because[0].startswith("guide: ")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"gpus": {"count": 4}}, (4, 1)),
        ({"gpus": {"count": 8}}, (8, 1)),
        ({"gpus": {"count": 6}}, (2, 3)),
        ({"gpus": {"count": 4}, "parallelism": {"tensor": 2}}, (2, 2)),
        ({"parallelism": {"tensor": 8}}, (8, 1)),
        ({"parallelism": {"tensor": 2, "pipeline": 2}}, (2, 2)),
        ({"parallelism": {"pipeline": 2}}, (1, 2)),
        ({"gpus": {"count": 4, "interconnect": "PCIe"}}, (1, 4)),
    ],
)
def test_pinned_sizes(fields: dict[str, Any], expected: tuple[int, int]) -> None:
    if "pipeline" in fields.get("parallelism", {}) and "tensor" not in fields["parallelism"]:
        made = a_plan(a_spec(LLAMA_70B, **fields), "1x8xNVIDIA-H200")
    else:
        made = a_plan(a_spec(LLAMA_70B, **fields))
    assert (made.tensor, made.pipeline) == expected


@pytest.mark.parametrize(
    ("uri", "fields", "groups", "reason", "numbers"),
    [
        pytest.param(
            "hf://acme/secret-llm",
            {},
            [],
            "ModelSizeUnknown",
            ["acme/secret-llm", "spec.model.shape.parameters"],
        ),
        pytest.param(LLAMA_70B, {"dtype": "fp8"}, [], "DtypeCheckpointMismatch", ["nvidia/Llama-3.3-70B-Instruct-FP8"]),
        pytest.param(LLAMA_70B, {"gpus": {"product": "H100"}}, [], "GPUUnknown", ["H100", H100, "spec.gpus.memory"]),
        pytest.param(
            LLAMA_70B,
            {"gpus": {"count": 1}},
            [],
            "InsufficientMemory",
            ["131.4", "79.6", "spec.gpus.count to 2"],
        ),
        pytest.param(
            LLAMA_70B,
            {"gpus": {"count": 3}, "parallelism": {"tensor": 3}},
            [],
            "HeadsNotDivisible",
            ["64 attention heads", "TP=3", "spec.parallelism.tensor"],
        ),
        pytest.param(LLAMA_70B_FP8, {}, [f"1x8x{A100}"], "DtypeUnsupportedOnGPU", ["8.0", "8.9", A100]),
        pytest.param(LLAMA_8B, {}, ["1x8xTesla-T4"], "GPUArchUnsupported", ["7.5", "8.0"]),
        pytest.param(LLAMA_405B, {}, [f"1x8x{H100}"], "InsufficientMemory", ["94.5", "79.6", "405B-Instruct-FP8"]),
        pytest.param(LLAMA_70B, {"gpus": {"count": 16}}, [], "MultipleNodesUnsupported", ["16 GPUs", "nodes of 8"]),
        pytest.param(LLAMA_70B, {"gpus": {"maxCount": 1}}, [], "InsufficientMemory", ["131.4"]),
        pytest.param(LLAMA_70B, {"parallelism": {"tensor": 16}}, [], "TensorParallelAcrossNodes", ["TP=16", "8 GPUs"]),
        pytest.param(LLAMA_70B, {"parallelism": {"tensor": 4, "expert": 2}}, [], "ExpertParallelOnDense", ["is 2"]),
        pytest.param(
            MIXTRAL,
            {"parallelism": {"tensor": 4, "expert": 3}},
            [],
            "ExpertParallelInvalid",
            ["EP=3", "TP=4"],
        ),
        pytest.param(LLAMA_8B, {"engine": {"maxSeqLen": 131073}}, [], "ContextExceedsModel", ["131073", "131072"]),
    ],
)
def test_refusals_name_the_number_and_the_field(
    uri: str, fields: dict[str, Any], groups: list[str], reason: str, numbers: list[str]
) -> None:
    refused = a_refusal(a_spec(uri, **fields), *groups)
    assert refused.reason == reason
    for number in numbers:
        assert number in refused.message


def test_no_gpus() -> None:
    spec = a_spec()
    refused = plan(spec, Facts(model=model_facts(spec.model, spec.dtype)))
    assert getattr(refused, "reason", None) == "NoGPUs"


def test_a_typed_shape_plans_a_model_nobody_knows() -> None:
    spec = a_spec(
        "hf://acme/secret-llm", model={"uri": "hf://acme/secret-llm", "shape": {"parameters": 70_000_000_000}}
    )
    made = a_plan(spec)
    assert made.tensor == 4
    assert any(warning.startswith("CoarseEstimate") for warning in made.warnings)


def test_weights_of_the_guide_s_examples() -> None:
    from trtllm_operator.memory import weight_bytes

    sizes = {name: weight_bytes(model) / 1e9 for name, model in catalogue().items()}
    assert sizes["meta-llama/llama-3.3-70b-instruct"] == pytest.approx(141.1, abs=0.1)
    assert sizes["nvidia/llama-3.3-70b-instruct-fp8"] == pytest.approx(72.7, abs=0.1)
    assert sizes["nvidia/llama-3.1-405b-instruct-fp8"] == pytest.approx(410.1, abs=0.1)


def test_the_best_pool_is_the_one_that_needs_fewest_gpus() -> None:
    made = a_plan(a_spec(LLAMA_405B_FP8), f"1x8x{H100}", "1x8xNVIDIA-B200")
    assert made.pool.gpu.product in (H100, "NVIDIA-B200")
    assert made.gpus == 8
    smaller = a_plan(a_spec(LLAMA_70B), f"1x8x{H100}", "1x8xNVIDIA-H200")
    assert smaller.gpus == 4


def _in_force(made: Plan) -> PlanStatus:
    from datetime import UTC, datetime

    now = datetime(2026, 1, 1, tzinfo=UTC)
    told = status(LLMDeploymentStatus(), "x", "default", 1, Outcome(verdict=made), now).plan
    assert told is not None
    return told


def test_a_plan_in_force_survives_the_loss_of_its_nodes() -> None:
    spec = a_spec()
    made = a_plan(spec)
    kept = plan(spec, some_facts(spec, "1x8xNVIDIA-H200"), current=_in_force(made))
    assert isinstance(kept, Plan)
    assert (kept.id, kept.tensor, kept.pool.gpu.product) == (made.id, made.tensor, H100)
    assert _in_force(kept) == _in_force(made)


def test_an_edit_of_the_spec_ends_the_plan_in_force() -> None:
    made = a_plan(a_spec())
    edited = a_spec(gpus={"count": 8})
    fresh = plan(edited, some_facts(edited), current=_in_force(made))
    assert isinstance(fresh, Plan)
    assert fresh.tensor == 8
    assert fresh.id != made.id


def test_a_pin_that_is_lifted_ends_the_plan_in_force() -> None:
    pinned = a_plan(a_spec(gpus={"count": 8}))
    free = a_spec()
    fresh = plan(free, some_facts(free), current=_in_force(pinned))
    assert isinstance(fresh, Plan)
    assert fresh.tensor == 4


def test_a_forged_plan_in_force_is_checked() -> None:
    spec = a_spec()
    forged = _in_force(a_plan(spec)).model_copy(update={"tensor": 1, "gpus": 1})
    fresh = plan(spec, some_facts(spec), current=forged)
    assert isinstance(fresh, Plan)
    assert fresh.tensor == 4


def test_equal_inputs_give_equal_plans() -> None:
    first, second = a_plan(a_spec()), a_plan(a_spec())
    assert dataclasses.asdict(first) == dataclasses.asdict(second)


@pytest.mark.parametrize("name", sorted(catalogue()))
@pytest.mark.parametrize("product", [H100, A100, "NVIDIA-H200", "NVIDIA-L40S", "NVIDIA-L4", "NVIDIA-B200"])
def test_no_plan_exceeds_a_gpu(name: str, product: str) -> None:
    spec = a_spec(f"hf://{name}")
    verdict = plan(spec, some_facts(spec, f"1x8x{product}"))
    if isinstance(verdict, Plan):
        memory = verdict.memory
        assert memory.weights + memory.overhead + memory.kv_cache <= memory.capacity
        assert memory.kv_tokens is not None
        assert memory.kv_tokens >= verdict.max_seq_len
        assert verdict.gpus == verdict.tensor * verdict.pipeline <= 8
        assert verdict.model.attention_heads is not None
        assert verdict.model.attention_heads % verdict.tensor == 0
    else:
        assert verdict.message


def test_fewer_gpus_than_the_guide_wants_are_used_when_they_fit() -> None:
    assert a_plan(a_spec(), f"1x2x{H100}").tensor == 2
    assert a_plan(a_spec(gpus={"maxCount": 2})).tensor == 2
