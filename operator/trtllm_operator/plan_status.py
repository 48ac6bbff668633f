"""The plan and the model as users read them in the status and on the command line."""

from __future__ import annotations

from trtllm_operator.api_status import MemoryStatus, ModelStatus, PlanStatus, Rejected, StageStatus
from trtllm_operator.facts import ModelFacts
from trtllm_operator.memory import GpuMemory, gib, weight_bytes
from trtllm_operator.planned import Estimate, Plan

SERVED = (
    "gpu_product",
    "gpus",
    "nodes",
    "tensor",
    "pipeline",
    "expert",
    "context",
    "attention_data_parallel",
    "pipeline_partition",
    "kv_cache_dtype",
    "max_batch_size",
    "max_num_tokens",
)
"""Fields of PlanStatus that change what is served."""


def model_status(model: ModelFacts) -> ModelStatus:
    """Return what the planner took the model for."""
    known = model.parameters is not None
    return ModelStatus(
        name=model.name,
        architecture=model.architecture,
        parameters=f"{(model.parameters or 0) / 1e9:.1f}B" if known else None,
        weights=f"{gib(weight_bytes(model))}Gi" if known else None,
        layers=model.layers,
        attention_heads=model.attention_heads,
        kv_heads=model.kv_heads,
        checkpoint_dtype=model.checkpoint_dtype,
        source=model.source if known else None,
    )


def plan_status(made: Plan) -> PlanStatus:
    """Return a plan as its status; ``sticky.keep`` reads it back."""
    layout = made.layout
    return PlanStatus(
        id=made.id,
        planner_version=made.planner_version,
        tensor=layout.tensor,
        pipeline=layout.pipeline,
        expert=layout.expert,
        context=layout.context,
        attention_data_parallel=layout.attention_dp,
        gpus=made.gpus,
        nodes=made.nodes,
        gpus_per_pod=made.gpus_per_pod,
        gpu_product=made.pool.gpu.product,
        gpu_product_named=made.product_named,
        pipeline_partition=layout.partition,
        verdict=made.verdict,
        estimate=None if made.estimate is Estimate.NONE else made.estimate.value,
        memory_per_gpu=None if made.memory is None else memory_status(made.memory),
        stages=_stages(made),
        kv_cache_dtype=made.kv_cache_dtype,
        max_batch_size=made.max_batch_size,
        max_num_tokens=made.max_num_tokens,
        max_kv_tokens=made.max_kv_tokens,
        max_concurrent_sequences=made.max_concurrent_sequences,
        summary=made.summary,
        because=made.because,
        rejected=tuple(
            Rejected(tensor=no.layout.tensor, pipeline=no.layout.pipeline, reason=no.reason, detail=no.detail)
            for no in made.rejected
        ),
        warnings=tuple(str(notice) for notice in made.notices),
    )


def memory_status(memory: GpuMemory) -> MemoryStatus:
    """Return the estimated memory of one GPU."""
    return MemoryStatus(
        total=f"{gib(memory.capacity)}Gi",
        weights=f"{gib(memory.weights)}Gi",
        overhead=f"{gib(memory.overhead)}Gi",
        kv_cache=f"{gib(memory.kv_cache)}Gi",
    )


def _stages(made: Plan) -> tuple[StageStatus, ...]:
    if len(made.stages) == 1:
        return ()
    return tuple(
        StageStatus(
            stage=stage.index,
            first_layer=stage.first_layer,
            last_layer=stage.last_layer,
            gpus=made.layout.tensor * made.layout.context,
            gpu_product=stage.gpu.product,
            weights=None if stage.memory is None else f"{gib(stage.memory.weights)}Gi",
            kv_cache=None if stage.memory is None else f"{gib(stage.memory.kv_cache)}Gi",
        )
        for stage in made.stages
    )
