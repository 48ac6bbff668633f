"""From the labels of GPU nodes, and what the spec says of GPUs, to the planner's pools.

Nodes come as their labels alone: which GPUs exist is a fact of the hardware, and a cordon, a reboot or a full node must
not change a plan. Whether a pod finds room is the scheduler's answer, not the planner's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from trtllm_operator.api_planning import Gpus, Interconnect
from trtllm_operator.facts import GpuPool, UnknownGpu
from trtllm_operator.hardware import (
    CLIQUE_LABEL,
    COMPUTE_MAJOR_LABEL,
    COMPUTE_MINOR_LABEL,
    GPU_RESOURCE,
    Gpu,
    Partition,
    find_gpu,
    near_products,
    shared_gpu,
    split_partition,
)

NodeLabels = Mapping[str, str]

_MIG_PRODUCT_LABEL = re.compile(r"^(?P<resource>nvidia\.com/mig-[A-Za-z0-9.-]+)\.product$")
_NUMBER = re.compile(r"^[0-9]{1,9}$")
_MOST_UNITS = 128
"""More than any node offers: 16 GPUs cut into 7 MIG instances are 112."""
_MOST_MIB = 4 * 1024**2
_OLDEST_SERVED = (8, 0)
"""What an unlabelled product is trusted with: the oldest compute capability TensorRT-LLM serves, so 16-bit weights."""
_MEMORY_TOLERANCE = 0.15
"""How far a label may be from the catalogue: ECC takes 6 %, and MIG instances miss their nominal size by up to 11 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What one node offers of one resource, as GPU feature discovery labels it; 0, None and "" are not said."""

    resource_name: str
    product: str
    count: int
    memory_mib: int
    replicas: int
    compute: tuple[int, int] | None
    clique: str


def gpu_offers(nodes: Iterable[NodeLabels]) -> tuple[Offer, ...]:
    """Return what nodes of these labels offer."""
    return tuple(offer for labels in nodes for offer in _offers(labels))


def gpu_pools(wanted: Gpus | None, offers: Sequence[Offer]) -> tuple[tuple[GpuPool, ...], tuple[UnknownGpu, ...]]:
    """Return the pools the spec allows, in the order of their products, and the products too little is known of.

    Without a product in the spec every pool of whole, shared or uniformly cut GPUs counts. MIG instances that have a
    resource of their own (strategy ``mixed``) are a pool only when the spec names their product.
    """
    products = _stated(wanted) or sorted({offer.product for offer in offers if offer.resource_name == GPU_RESOURCE})
    found = [_pool(wanted, product, [offer for offer in offers if offer.product == product]) for product in products]
    return (
        tuple(pool for pool in found if isinstance(pool, GpuPool)),
        tuple(unknown for unknown in found if isinstance(unknown, UnknownGpu)),
    )


def _stated(wanted: Gpus | None) -> list[str]:
    if wanted is None:
        return []
    return [pool.product for pool in wanted.pools] or ([wanted.product] if wanted.product else [])


def _offers(labels: NodeLabels) -> Iterator[Offer]:
    """Yield what a node offers. Zero replicas or a count of zero say that no unit is left: MIG has them all."""
    resources = [GPU_RESOURCE, *(match["resource"] for label in labels if (match := _MIG_PRODUCT_LABEL.match(label)))]
    for resource in resources:
        product = labels.get(f"{resource}.product", "")
        if product and "0" not in (labels.get(f"{resource}.count"), labels.get(f"{resource}.replicas")):
            yield Offer(
                resource_name=resource,
                product=product,
                count=_number(labels, f"{resource}.count", _MOST_UNITS),
                memory_mib=_number(labels, f"{resource}.memory", _MOST_MIB),
                replicas=_number(labels, f"{resource}.replicas", _MOST_UNITS),
                compute=_compute(labels),
                clique=labels.get(CLIQUE_LABEL, ""),
            )


def _pool(wanted: Gpus | None, product: str, offers: Sequence[Offer]) -> GpuPool | UnknownGpu:
    gpu = _gpu(wanted, product, offers)
    if gpu is None:
        return UnknownGpu(product=product, near=near_products(product))
    stated = wanted.per_node if wanted else None
    labelled = min((offer.count for offer in offers if offer.count), default=0)
    per_node = stated or labelled or gpu.gpus_per_node
    connected = _connected(gpu, (wanted and wanted.interconnect) or Interconnect.AUTO, per_node, offers)
    return GpuPool(gpu=connected, gpus_per_node=per_node, nodes=len(offers) or None)


def _gpu(wanted: Gpus | None, product: str, offers: Sequence[Offer]) -> Gpu | None:
    labelled = min((offer.memory_mib for offer in offers if offer.memory_mib), default=0)
    known = find_gpu(product)
    if known is not None:
        gpu = _measured(known, labelled)
    else:
        typed = _mib(wanted.memory) if wanted and wanted.memory else 0
        if not (typed or labelled):
            return None
        gpu = _unlisted(product, typed or labelled, [offer.compute for offer in offers if offer.compute])
    if offers:
        gpu = replace(gpu, resource_name=offers[0].resource_name)
    shared = gpu.partition == Partition.WHOLE and any(offer.replicas > 1 for offer in offers)
    return shared_gpu(gpu) if shared else gpu


def _measured(known: Gpu, labelled_mib: int) -> Gpu:
    """Prefer the memory a node reports to the catalogue's, unless it cannot be that GPU's."""
    if abs(labelled_mib - known.memory_mib) > known.memory_mib * _MEMORY_TOLERANCE:
        return known
    unverified = tuple(field for field in known.unverified if field != "memoryMiB")
    return replace(known, memory_mib=labelled_mib, unverified=unverified)


def _unlisted(product: str, memory_mib: int, computes: Sequence[tuple[int, int]]) -> Gpu:
    """Describe a product outside the catalogue; nothing tells its NVLink, so it is planned for as PCIe."""
    major, minor = min(computes, default=_OLDEST_SERVED)
    _, profile, shared = split_partition(product)
    gpu = Gpu(
        product=product,
        memory_mib=memory_mib,
        compute_major=major,
        compute_minor=minor,
        nvlink_domain=1,
        unverified=("nvlinkDomain",) if computes else ("compute", "nvlinkDomain"),
    )
    if profile:
        return replace(gpu, partition=Partition.MIG, mig_profile=profile)
    return shared_gpu(gpu) if shared else gpu


def _connected(gpu: Gpu, wanted: Interconnect, per_node: int, offers: Sequence[Offer]) -> Gpu:
    """Settle how many GPUs are one NVLink domain: the spec's word, else the product's.

    A domain wider than a node (NVL72) is certain only when every node of the pool carries the same clique; otherwise it
    ends at the node.
    """
    if gpu.partition != Partition.WHOLE or wanted == Interconnect.PCIE:
        return replace(gpu, nvlink_domain=1, nvlink_gbps=0)
    if gpu.nvlink_domain > gpu.gpus_per_node:
        cliques = {offer.clique for offer in offers}
        one_clique = len(cliques) == 1 and "" not in cliques
        gpu = replace(gpu, nvlink_domain=min(gpu.nvlink_domain, per_node * (len(offers) if one_clique else 1)))
    if wanted == Interconnect.NVLINK:
        return replace(gpu, nvlink_domain=max(gpu.nvlink_domain, per_node))
    return gpu


def _compute(labels: NodeLabels) -> tuple[int, int] | None:
    major = _number(labels, COMPUTE_MAJOR_LABEL, 99)
    return (major, _number(labels, COMPUTE_MINOR_LABEL, 99)) if major else None


def _number(labels: NodeLabels, key: str, most: int) -> int:
    """Read a label as a number; 0 where it is missing, malformed or beyond what hardware can be."""
    text = labels.get(key, "")
    number = int(text) if _NUMBER.match(text) else 0
    return number if number <= most else 0


def _mib(quantity: str) -> int:
    return int(quantity[:-2]) * (1024 if quantity.endswith("Gi") else 1)
