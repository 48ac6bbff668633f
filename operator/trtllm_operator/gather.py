"""From a spec and the labels of GPU nodes to the planner's facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.facts import Facts, GpuPool, UnknownGpu
from trtllm_operator.hardware import (
    COMPUTE_MAJOR_LABEL,
    COMPUTE_MINOR_LABEL,
    COUNT_LABEL,
    MEMORY_LABEL,
    PRODUCT_LABEL,
    Gpu,
    NodeGroup,
    feature_labels,
    find_gpu,
    near_products,
)
from trtllm_operator.models import model_facts
from trtllm_operator.plan import DEFAULT_GPUS_PER_NODE

NodeLabels = Mapping[str, str]


def gather(spec: LLMDeploymentSpec, nodes: Sequence[NodeLabels]) -> Facts:
    """Return the facts for one spec; ``nodes`` are the labels of every node that has GPUs."""
    wanted = spec.gpus.product if spec.gpus else None
    products = (
        [wanted] if wanted is not None else sorted({node[PRODUCT_LABEL] for node in nodes if PRODUCT_LABEL in node})
    )
    pools: list[GpuPool] = []
    unknown: list[UnknownGpu] = []
    for product in products:
        found = _pool(spec, product, [node for node in nodes if node.get(PRODUCT_LABEL) == product])
        if isinstance(found, GpuPool):
            pools.append(found)
        else:
            unknown.append(found)
    return Facts(model=model_facts(spec.model, spec.dtype), pools=tuple(pools), unknown_gpus=tuple(unknown))


def labels_of(groups: Iterable[NodeGroup]) -> Iterator[NodeLabels]:
    """Yield the labels of the nodes in these groups, for planning without a cluster.

    Raises ValueError for a product the catalogue does not know.
    """
    for group in groups:
        labels = feature_labels(group)
        for _ in range(group.nodes):
            yield labels


def _pool(spec: LLMDeploymentSpec, product: str, nodes: Sequence[NodeLabels]) -> GpuPool | UnknownGpu:
    gpu = _gpu(spec, product, nodes)
    if gpu is None:
        return UnknownGpu(product=product, near=near_products(product))
    stated = spec.gpus.per_node if spec.gpus else None
    labelled = min((_number(node, COUNT_LABEL) for node in nodes), default=0)
    return GpuPool(gpu=gpu, gpus_per_node=stated or labelled or DEFAULT_GPUS_PER_NODE, nodes=len(nodes) or None)


def _gpu(spec: LLMDeploymentSpec, product: str, nodes: Sequence[NodeLabels]) -> Gpu | None:
    known = find_gpu(product)
    if known is not None:
        return known
    typed = _mib(spec.gpus.memory) if spec.gpus and spec.gpus.memory else 0
    memory = typed or min((_number(node, MEMORY_LABEL) for node in nodes), default=0)
    if not memory:
        return None
    # 8.0 is the oldest capability TensorRT-LLM serves, so an unlabelled product is trusted with 16-bit weights only.
    majors = [_number(node, COMPUTE_MAJOR_LABEL) for node in nodes if COMPUTE_MAJOR_LABEL in node]
    minors = [_number(node, COMPUTE_MINOR_LABEL) for node in nodes if COMPUTE_MINOR_LABEL in node]
    return Gpu(
        product=product,
        memory_mib=memory,
        compute_major=min(majors, default=8),
        compute_minor=min(minors, default=0),
        nvlink_domain=1,
    )


def _number(labels: NodeLabels, key: str) -> int:
    text = labels.get(key, "")
    return int(text) if text.isdecimal() else 0


def _mib(quantity: str) -> int:
    return int(quantity[:-2]) * (1024 if quantity.endswith("Gi") else 1)
