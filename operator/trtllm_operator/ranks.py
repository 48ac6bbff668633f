"""Which rank of the MPI world does what, for people who debug NCCL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trtllm_operator.planned import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One process: its GPU in its pod, and its place in each dimension. Layers are counted from 0."""

    rank: int
    pod: int
    local_rank: int
    stage: int
    tensor_rank: int
    context_rank: int
    expert_rank: int
    first_layer: int
    last_layer: int
    gpu_product: str


def ranks(plan: Plan) -> Iterator[Rank]:
    """Yield the ranks of one replica: context innermost, then tensor, then pipeline (mapping.py of TensorRT-LLM)."""
    layout = plan.layout
    for rank in range(layout.gpus):
        within, context = divmod(rank, layout.context)
        stage, tensor = divmod(within, layout.tensor)
        yield Rank(
            rank=rank,
            pod=rank // plan.gpus_per_pod,
            local_rank=rank % plan.gpus_per_pod,
            stage=stage,
            tensor_rank=tensor,
            context_rank=context,
            expert_rank=tensor % layout.expert,
            first_layer=plan.stages[stage].first_layer,
            last_layer=plan.stages[stage].last_layer,
            gpu_product=plan.stages[stage].gpu.product,
        )
