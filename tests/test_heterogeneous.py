from __future__ import annotations

from typing import Any

import pytest

from builders import a_model, placed
from trtllm_operator.api import Dtype
from trtllm_operator.apportion import apportion, stage_speeds
from trtllm_operator.facts import ModelFacts
from trtllm_operator.hardware import find_gpu
from trtllm_operator.planned import Caution, Infeasible, Plan
from trtllm_operator.ranks import ranks
from trtllm_operator.refusals import Reason

RTX_4090, RTX_3090, L4 = "NVIDIA-GeForce-RTX-4090", "NVIDIA-GeForce-RTX-3090", "NVIDIA-L4"
INT4 = a_model(checkpoint_dtype=Dtype.INT4)


def over(model: ModelFacts, pools: list[tuple[str, int]], **fields: Any) -> Plan | Infeasible:
    gpus = {"pools": [{"product": name, "count": count} for name, count in pools], "allowHeterogeneous": True}
    return placed(model, *(f"1x{count}x{name}" for name, count in pools), gpus=gpus, **fields)


@pytest.mark.parametrize(
    ("layers", "speeds", "caps", "expected"),
    [
        pytest.param(80, (1.5, 1.5, 1.0), (80, 80, 80), (30, 30, 20), id="by speed"),
        pytest.param(80, (1, 1, 1), (80, 80, 80), (27, 27, 26), id="the first stages take the rest"),
        pytest.param(80, (1.5, 1.5, 1.0), (25, 80, 80), (25, 33, 22), id="the excess of a full stage goes on"),
        pytest.param(80, (1, 1), (39, 41), (39, 41), id="exactly full"),
        pytest.param(80, (1, 1), (39, 40), None, id="one layer too many"),
        pytest.param(10, (100, 1), (10, 10), (9, 1), id="no stage is empty"),
        pytest.param(2, (1, 1, 1), (9, 9, 9), None, id="fewer layers than stages"),
        pytest.param(80, (1, 1), (80, 0), None, id="a stage that holds nothing"),
    ],
)
def test_apportion(
    layers: int, speeds: tuple[float, ...], caps: tuple[int, ...], expected: tuple[int, ...] | None
) -> None:
    assert apportion(layers, speeds, caps) == expected


def test_speeds_are_relative_to_the_slowest() -> None:
    fast, slow = find_gpu(RTX_4090), find_gpu(RTX_3090)
    assert fast is not None
    assert slow is not None
    assert stage_speeds((fast, fast, slow)) == (1.5, 1.5, 1.0)


def test_the_guide_s_own_example() -> None:
    made = over(INT4, [(RTX_4090, 2), (RTX_3090, 1)], engine={"maxSeqLen": 4096})
    assert isinstance(made, Plan), made
    assert made.layout.partition == (30, 30, 20)
    assert [(stage.first_layer, stage.last_layer) for stage in made.stages] == [(0, 29), (30, 59), (60, 79)]
    assert [stage.gpu.product for stage in made.stages] == [RTX_4090, RTX_4090, RTX_3090]
    assert (made.gpus_per_pod, made.nodes) == (1, 3)
    assert Caution.HETEROGENEOUS_EXPERIMENTAL in [notice.caution for notice in made.notices]
    assert "30/30/20" in made.because[1]


def test_memory_caps_what_speed_would_give() -> None:
    made = over(a_model(checkpoint_dtype=Dtype.FP8), [("NVIDIA-H200", 1), (L4, 1)])
    assert isinstance(made, Plan), made
    big, small = made.stages
    assert big.layers > 3 * small.layers
    for stage in made.stages:
        assert stage.memory is not None
        assert stage.memory.free > 0


def test_no_pod_is_on_two_products() -> None:
    made = over(INT4, [(RTX_4090, 4), (RTX_3090, 2)], engine={"maxSeqLen": 4096})
    assert isinstance(made, Plan), made
    assert (made.gpus_per_pod, made.nodes) == (2, 3)


def test_pods_of_one_size_for_products_in_equal_numbers() -> None:
    made = over(INT4, [(RTX_4090, 2), (RTX_3090, 2)], engine={"maxSeqLen": 4096})
    assert isinstance(made, Plan), made
    assert (made.gpus_per_pod, made.nodes) == (2, 2)
    assert {(rank.pod, rank.gpu_product) for rank in ranks(made)} == {(0, RTX_4090), (1, RTX_3090)}


@pytest.mark.parametrize(
    ("model", "pools", "reason", "holds"),
    [
        pytest.param(
            a_model(), [(RTX_4090, 2), (RTX_3090, 1)], Reason.INSUFFICIENT_MEMORY, "80 layers do not fit", id="memory"
        ),
        pytest.param(
            a_model(checkpoint_dtype=Dtype.FP8),
            [(RTX_4090, 2), (RTX_3090, 1)],
            Reason.DTYPE_UNSUPPORTED_ON_GPU,
            RTX_3090,
            id="fp8 on one of them",
        ),
        pytest.param(
            a_model(layers=None),
            [(RTX_4090, 2), (RTX_3090, 1)],
            Reason.INSUFFICIENT_MEMORY,
            "131.4 GiB of weights exceed the 72.0 GiB of 3 GPUs",
            id="more weights than GPUs, whatever the layers",
        ),
        pytest.param(
            a_model(layers=None, checkpoint_dtype=Dtype.INT4),
            [(RTX_4090, 2), (RTX_3090, 1)],
            Reason.MODEL_SIZE_UNKNOWN,
            "spec.model.shape.layers",
            id="nobody knows the layers",
        ),
    ],
)
def test_refusals(model: ModelFacts, pools: list[tuple[str, int]], reason: Reason, holds: str) -> None:
    refused = over(model, pools)
    assert isinstance(refused, Infeasible), refused
    assert refused.reason is reason
    assert holds in refused.message
