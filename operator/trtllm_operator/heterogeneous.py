"""Pipelines over GPUs of several products: one GPU per stage, layers shared out by speed and capped by memory."""

from __future__ import annotations

import math
from dataclasses import replace

from trtllm_operator.apportion import apportion, stage_speeds
from trtllm_operator.candidates import Candidate, Origin
from trtllm_operator.examine import Subject, memory_shortage, place, stage_shortage
from trtllm_operator.facts import Facts, GpuPool
from trtllm_operator.feasibility import unsupported_by
from trtllm_operator.hardware import Gpu
from trtllm_operator.memory import gib, stage_memory, weight_bytes
from trtllm_operator.notices import notices
from trtllm_operator.parallel import Layout
from trtllm_operator.planned import Fit, Infeasible, Plan, Rejection
from trtllm_operator.refusals import Reason, Refusal
from trtllm_operator.request import Request


def pipeline_refusal(request: Request) -> Refusal | None:
    """Return why a pipeline over the listed products is not even looked at."""
    if not request.allow_heterogeneous:
        listed = ", ".join(product for product, _ in request.pools)
        return Refusal(
            Reason.HETEROGENEOUS_NOT_ALLOWED,
            f"spec.gpus.pools lists {len(request.pools)} products ({listed}); one TensorRT-LLM world over several "
            "is unverified: set spec.gpus.allowHeterogeneous, or one spec.gpus.product",
        )
    if (request.tensor or 1) > 1:
        return Refusal(
            Reason.HETEROGENEOUS_TENSOR_PARALLEL,
            f"TP={request.tensor} needs GPUs alike, and spec.gpus.pools lists {len(request.pools)} products: "
            "set spec.parallelism.tensor to 1 for a pipeline, or one spec.gpus.product",
        )
    return None


def plan_pipeline(subject: Subject, pools: tuple[GpuPool, ...]) -> Plan | Infeasible:
    """Plan one stage per GPU over ``pools``, which are those of the request, in its order."""
    request, model = subject.request, subject.model
    for pool in pools:
        refusal = unsupported_by(pool.gpu, request, model)
        if refusal is not None:
            return Infeasible(reason=refusal.reason, message=refusal.sentence, model=model)
    gpus = stage_gpus(request, pools)
    fits, tight = (examine_stages(subject, gpus, verdict) for verdict in ("Fits", "Tight"))
    made = fits if isinstance(fits, Plan) else tight
    if isinstance(made, Plan):
        return _explained(request, made, min(pool.gpus_per_node for pool in pools))
    refused = fits if isinstance(fits, Rejection) else made
    message = f"{model.name} in {model.checkpoint_dtype} over spec.gpus.pools: {refused.detail}"
    return Infeasible(reason=Reason(refused.reason), message=message, model=model, rejected=(refused,))


def listed_pools(request: Request, facts: Facts) -> tuple[GpuPool, ...] | None:
    """Return the pools of spec.gpus.pools in its order, or None when one of the products is not among the facts."""
    by_product = {pool.gpu.product: pool for pool in facts.pools}
    if any(product not in by_product for product, _ in request.pools):
        return None
    return tuple(by_product[product] for product, _ in request.pools)


def stage_gpus(request: Request, pools: tuple[GpuPool, ...]) -> tuple[Gpu, ...]:
    """Return the GPU of each stage."""
    return tuple(pool.gpu for pool, (_, count) in zip(pools, request.pools, strict=True) for _ in range(count))


def _explained(request: Request, made: Plan, gpus_per_node: int) -> Plan:
    shares = "/".join(str(layers) for layers in made.layout.partition)
    because = (
        f"spec.gpus.pools: {made.gpus} GPUs of {len(request.pools)} products, one pipeline stage each",
        f"{made.model.layers} layers shared out by speed, capped by memory: {shares}",
    )
    # Every pod of a TensorRT-LLM world holds equally many GPUs, and a pod is on one product.
    common = math.gcd(*(count for _, count in request.pools))
    per_pod = next(size for size in range(min(common, gpus_per_node), 0, -1) if common % size == 0)
    return replace(
        made,
        gpus_per_pod=per_pod,
        nodes=made.gpus // per_pod,
        because=because,
        notices=notices(request, made, Candidate(layout=made.layout, origin=Origin.COUNT), None),
    )


def examine_stages(subject: Subject, gpus: tuple[Gpu, ...], verdict: Fit) -> Plan | Rejection:
    """Check a pipeline with one of ``gpus`` per stage."""
    layout = Layout(tensor=1, pipeline=len(gpus))
    layers = subject.model.layers
    if layers is None:
        held, total = weight_bytes(subject.model), sum(gpu.memory_bytes for gpu in gpus)
        if held > total:
            short = f"{gib(held)} GiB of weights exceed the {gib(total)} GiB of {len(gpus)} GPUs together"
            return Rejection(layout=layout, reason=Reason.INSUFFICIENT_MEMORY, detail=short)
        return Rejection(
            layout=layout,
            reason=Reason.MODEL_SIZE_UNKNOWN,
            detail="the number of layers is unknown; set spec.model.shape.layers to share them out over the GPUs",
        )
    if len(gpus) > layers:
        detail = f"{layers} layers cannot fill PP={len(gpus)} stages"
        return Rejection(layout=layout, reason=Reason.TOO_MANY_STAGES, detail=detail)
    caps = tuple(_most_layers(subject, layers, len(gpus), stage, gpu, verdict) for stage, gpu in enumerate(gpus))
    shares = apportion(layers, stage_speeds(gpus), caps)
    if shares is None:
        room = ", ".join(f"{gpu.product} {cap}" for gpu, cap in zip(gpus, caps, strict=True))
        detail = f"{layers} layers do not fit stages that hold at most {sum(caps)} ({room})"
        return Rejection(layout=layout, reason=Reason.INSUFFICIENT_MEMORY, detail=detail)
    made = place(subject, replace(layout, partition=shares), verdict, gpus)
    shortage = memory_shortage(subject.request, made)
    if shortage is None:
        return made
    return Rejection(layout=layout, reason=Reason.INSUFFICIENT_MEMORY, detail=shortage, memory=made.memory)


def _most_layers(subject: Subject, layers: int, stages: int, stage: int, gpu: Gpu, verdict: Fit) -> int:
    """Layers a stage holds beside its overhead and the wanted tokens."""
    load = subject.request.load(optimistic=verdict == "Tight")
    most = 0
    for count in range(1, layers - stages + 2):
        others = _even(layers - count, stages - 1)
        shares = (*others[:stage], count, *others[stage:])
        layout = Layout(tensor=1, pipeline=stages, partition=shares)
        memory = stage_memory(subject.model, gpu.memory_bytes, layout, stage, load)
        if stage_shortage(subject.request, layout, memory) is not None:
            break
        most = count
    return most


def _even(layers: int, stages: int) -> tuple[int, ...]:
    return Layout(tensor=1, pipeline=stages).stage_layers(layers) if stages else ()
