from __future__ import annotations

from builders import H100, a_mixture, a_model, placed
from trtllm_operator.api import Dtype
from trtllm_operator.planned import Plan
from trtllm_operator.ranks import Rank, ranks


def test_tensor_is_innermost_and_stages_follow_the_pods() -> None:
    made = placed(a_model(), f"2x8x{H100}", gpus={"count": 16})
    assert isinstance(made, Plan)
    world = list(ranks(made))
    assert [rank.rank for rank in world] == list(range(16))
    assert world[9] == Rank(
        rank=9,
        pod=1,
        local_rank=1,
        stage=1,
        tensor_rank=1,
        context_rank=0,
        expert_rank=0,
        first_layer=40,
        last_layer=79,
        gpu_product=H100,
    )


def test_experts_and_context() -> None:
    mixture = placed(a_mixture(), f"1x8x{H100}", parallelism={"tensor": 4, "pipeline": 1, "expert": 2, "context": 2})
    assert isinstance(mixture, Plan), mixture
    world = list(ranks(mixture))
    assert [rank.context_rank for rank in world] == [0, 1] * 4
    assert [rank.tensor_rank for rank in world] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [rank.expert_rank for rank in world] == [0, 0, 1, 1, 0, 0, 1, 1]


def test_one_gpu() -> None:
    made = placed(a_model(parameters=8 * 10**9, checkpoint_dtype=Dtype.FP8))
    assert isinstance(made, Plan)
    assert [(rank.rank, rank.pod, rank.local_rank, rank.last_layer) for rank in ranks(made)] == [(0, 0, 0, 79)]
