"""Keeping the plan in force, so that nothing but the user's own edit re-shards a model that is being served."""

from __future__ import annotations

from dataclasses import replace

from trtllm_operator.api_status import PlanStatus
from trtllm_operator.constraints import Case, first_refusal
from trtllm_operator.examine import Subject, place
from trtllm_operator.facts import Facts, GpuPool, ModelFacts
from trtllm_operator.hardware import Gpu, find_gpu
from trtllm_operator.heterogeneous import listed_pools, stage_gpus
from trtllm_operator.identity import plan_id
from trtllm_operator.memory import ESTIMATE_ERROR
from trtllm_operator.parallel import Layout
from trtllm_operator.planned import Notice, Plan, Rejection
from trtllm_operator.request import Request


def keep(request: Request, model: ModelFacts, facts: Facts, current: PlanStatus) -> Plan | None:
    """Return the plan in force when it was made from these very inputs and breaks no hard constraint.

    Memory is estimated anew, but what is served has proved that it fits: only an estimate that is wrong beyond its
    error gives the plan up.
    """
    named_another = request.product not in (None, current.gpu_product)
    if (
        named_another
        or _taken_back(request, facts, current)
        or current.id != plan_id(request, model, current.gpu_product)
    ):
        return None
    placed = _over_pools(request, facts) if request.pools else _on_one_pool(facts, current)
    if placed is None:
        return None
    pool, gpus = placed
    layout = _layout(current)
    if len(gpus) not in (1, layout.pipeline) or _broken(request, model, pool, layout):
        return None
    subject = Subject(plan_id=current.id, request=request, model=model, pool=pool, budget=None)
    made = place(subject, layout, current.verdict or "Tight", gpus=gpus * (layout.pipeline // len(gpus)))
    return _as_told(made, current) if _plausible(made) else None


def _taken_back(request: Request, facts: Facts, current: PlanStatus) -> bool:
    """Whether the product that was named is named no more, and no node has it: a mistake that was undone.

    A product that the planner chose stays while its nodes are away, and so does one that nodes have.
    """
    products = {pool.gpu.product for pool in facts.pools}
    unnamed = current.gpu_product_named and request.product is None
    return unnamed and bool(products) and current.gpu_product not in products


def _plausible(made: Plan) -> bool:
    return all(stage.memory is None or stage.memory.free > -ESTIMATE_ERROR for stage in made.stages)


def _as_told(made: Plan, current: PlanStatus) -> Plan:
    return replace(
        made,
        nodes=current.nodes,
        gpus_per_pod=current.gpus_per_pod,
        max_batch_size=current.max_batch_size or made.max_batch_size,
        max_num_tokens=current.max_num_tokens or made.max_num_tokens,
        because=current.because,
        rejected=tuple(
            Rejection(layout=Layout(tensor=row.tensor, pipeline=row.pipeline), reason=row.reason, detail=row.detail)
            for row in current.rejected
        ),
        notices=tuple(_notice(text) for text in current.warnings),
        planner_version=current.planner_version,
    )


def _layout(current: PlanStatus) -> Layout:
    return Layout(
        tensor=current.tensor,
        pipeline=current.pipeline,
        expert=current.expert,
        context=current.context or 1,
        attention_dp=bool(current.attention_data_parallel),
        partition=current.pipeline_partition,
    )


def _broken(request: Request, model: ModelFacts, pool: GpuPool, layout: Layout) -> bool:
    return first_refusal(Case(request=request, model=model, pool=pool, layout=layout, budget=None)) is not None


def _notice(text: str) -> Notice:
    caution, _, sentence = text.partition(": ")
    return Notice(caution, sentence)


def _over_pools(request: Request, facts: Facts) -> tuple[GpuPool, tuple[Gpu, ...]] | None:
    pools = listed_pools(request, facts)
    return None if pools is None else (pools[0], stage_gpus(request, pools))


def _on_one_pool(facts: Facts, current: PlanStatus) -> tuple[GpuPool, tuple[Gpu, ...]] | None:
    found = next((pool for pool in facts.pools if pool.gpu.product == current.gpu_product), None)
    if found is not None:
        return replace(found, gpus_per_node=max(found.gpus_per_node, current.gpus_per_pod)), (found.gpu,)
    gpu = find_gpu(current.gpu_product)
    return None if gpu is None else (GpuPool(gpu=gpu, gpus_per_node=current.gpus_per_pod), (gpu,))
