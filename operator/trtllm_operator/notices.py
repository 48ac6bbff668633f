"""What to know before relying on a plan. Each function yields the notices of one kind."""

from __future__ import annotations

from collections.abc import Iterator

from trtllm_operator.api import Interconnect
from trtllm_operator.candidates import Candidate, Origin, nvlink_domain, rung
from trtllm_operator.feasibility import disputed
from trtllm_operator.hardware import find_gpu
from trtllm_operator.memory import GIB
from trtllm_operator.planned import Caution, Estimate, Notice, Plan
from trtllm_operator.request import Request

_CALIBRATED_GIB = 79
_BUSY_SEQUENCES_PER_GPU = 16


def notices(request: Request, made: Plan, candidate: Candidate, smaller: Plan | None) -> tuple[Notice, ...]:
    """Return every notice of a plan. ``smaller`` is a plan with fewer GPUs that would fit too."""
    kinds = (_memory(made), _guide(made, candidate, smaller), _communication(request, made), _model(request, made))
    return tuple(notice for kind in kinds for notice in kind)


def _memory(made: Plan) -> Iterator[Notice]:
    if made.estimate is Estimate.NONE:
        yield Notice(Caution.SIZE_UNCHECKED, f"the size of {made.model.name} is unknown, so no memory was checked")
        return
    if made.estimate is Estimate.COARSE:
        yield Notice(
            Caution.COARSE_ESTIMATE,
            "only the number of parameters is known; set spec.model.shape for KV capacity and divisibility checks",
        )
    if made.verdict == "Tight":
        yield Notice(
            Caution.MEMORY_TIGHT,
            f"fits only with the optimistic overhead and maxNumTokens {made.max_num_tokens}; "
            "the estimate is good to about 2.5 GiB per GPU",
        )
    capacity = made.pool.gpu.memory_bytes / GIB
    if capacity < _CALIBRATED_GIB:
        yield Notice(
            Caution.SMALL_GPU_UNVERIFIED,
            f"the overhead was measured on GPUs of 80 GiB and more, not on {capacity:.0f} GiB",
        )


def _guide(made: Plan, candidate: Candidate, smaller: Plan | None) -> Iterator[Notice]:
    wanted = min(tensor * stages for tensor, stages in rung(made.model).sizes)
    if candidate.origin not in (Origin.PINNED, Origin.COUNT, Origin.MINIMAL) and made.gpus < wanted:
        yield Notice(Caution.TREE_DOWNGRADED, f"the guide wants {wanted} GPUs; {made.gpus} fit by the memory estimate")
    if smaller is not None:
        gpus = "1 GPU" if smaller.gpus == 1 else f"{smaller.gpus} GPUs"
        yield Notice(
            Caution.TREE_OVERSIZES,
            f"{smaller.layout} on {gpus} would fit too: set spec.parallelism.policy to Minimal",
        )


def _communication(request: Request, made: Plan) -> Iterator[Notice]:
    layout, pool = made.layout, made.pool
    if layout.tensor > 1 and nvlink_domain(pool) < layout.tensor:
        yield Notice(
            Caution.PCIE_TENSOR_PARALLEL, f"TP={layout.tensor} without NVLink is slow; the guide wants a pipeline"
        )
    if request.interconnect == Interconnect.AUTO and find_gpu(pool.gpu.product) is None and layout.gpus > 1:
        yield Notice(
            Caution.INTERCONNECT_ASSUMED,
            f"nothing tells whether {pool.gpu.product} has NVLink, PCIe is assumed; set spec.gpus.interconnect",
        )
    if made.nodes > 1 and pool.gpu.nvlink_domain < layout.gpus:
        yield Notice(
            Caution.SLOW_INTER_NODE,
            f"{made.nodes} nodes talk over the network; the guide wants InfiniBand between them",
        )
    if made.heterogeneous:
        yield Notice(
            Caution.HETEROGENEOUS_EXPERIMENTAL,
            "stages on different GPU products in one TensorRT-LLM world are unverified, as is pp_partition",
        )
    if layout.context > 1:
        yield Notice(
            Caution.CONTEXT_PARALLEL_UNVERIFIED,
            f"memory under CP={layout.context} is modelled as an even share of the tokens, unverified",
        )
    total = pool.total
    if total is not None and total < made.gpus and not made.heterogeneous:
        yield Notice(Caution.NOT_ENOUGH_GPUS, f"a replica needs {made.gpus} GPUs, the nodes have {total}")
    offered = request.max_count
    if offered is not None and request.count is None and made.gpus < offered < 2 * made.gpus:
        yield Notice(Caution.UNUSED_GPUS, f"{offered - made.gpus} of {offered} GPUs stay unused")


def _model(request: Request, made: Plan) -> Iterator[Notice]:
    model, layout = made.model, made.layout
    heads = model.kv_heads
    if heads is not None and layout.tensor > heads and not layout.attention_dp and model.latent_attention is None:
        yield Notice(
            Caution.KV_REPLICATED,
            f"{heads} key-value heads over TP={layout.tensor}: each is kept {layout.tensor // heads} times",
        )
    counts = {stage.layers for stage in made.stages}
    if len(counts) > 1 and not made.heterogeneous:
        yield Notice(Caution.UNEVEN_STAGES, f"stages of {max(counts)} and {min(counts)} layers wait for each other")
    for sentence in disputed(made.pool.gpu, request, model):
        yield Notice(Caution.DTYPE_DISPUTED, sentence)
    busy = request.concurrency is not None and request.concurrency >= _BUSY_SEQUENCES_PER_GPU * made.gpus
    if model.experts is not None and busy and not layout.attention_dp and layout.gpus > 1:
        yield Notice(
            Caution.ATTENTION_DP_RECOMMENDED,
            f"{request.concurrency} sequences on {made.gpus} GPUs: others serve such load with "
            "spec.parallelism.attentionDataParallel",
        )
    if model.notes:
        yield Notice(Caution.FACTS_UNVERIFIED, "; ".join(model.notes))
    if made.pool.gpu.unverified:
        fields = ", ".join(made.pool.gpu.unverified)
        yield Notice(Caution.FACTS_UNVERIFIED, f"{made.pool.gpu.product}: {fields} not verified")
