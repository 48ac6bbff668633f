"""The GPU catalogue, and the groups of nodes that carry GPUs.

A ``Gpu`` is one product as GPU feature discovery names it; a ``NodeGroup`` is a number of nodes alike.
The planner, the offline commands and the sandbox all describe hardware in these words.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib import resources

PRODUCT_LABEL = "nvidia.com/gpu.product"
COUNT_LABEL = "nvidia.com/gpu.count"
MEMORY_LABEL = "nvidia.com/gpu.memory"
REPLICAS_LABEL = "nvidia.com/gpu.replicas"
CLIQUE_LABEL = "nvidia.com/gpu.clique"
COMPUTE_MAJOR_LABEL = "nvidia.com/gpu.compute.major"
COMPUTE_MINOR_LABEL = "nvidia.com/gpu.compute.minor"
GPU_RESOURCE = "nvidia.com/gpu"

SIMULATED_REPLICAS = 2
"""Units of the GPU resource for each GPU of a simulated node whose product ends in -SHARED."""

_NODE_GROUP = re.compile(
    r"^(?P<nodes>[1-9]\d{0,3})x(?P<gpus>[1-9]\d?)x(?P<product>[A-Za-z0-9][A-Za-z0-9._-]{0,62})$", re.ASCII
)
_MIG_PROFILE = re.compile(r"^(?:\d+c\.)?\d+g\.(?P<gigabytes>\d{1,3})gb(?:[.+-][a-z.+-]+)?$", re.ASCII)
_VENDOR_PREFIXES = ("nvidia-", "tesla-", "geforce-")
_VARIANT = re.compile(r"^(?:sxm\d?|hbm\d+e?|ac|lc|(?P<gigabytes>\d{1,3})gb)$", re.ASCII)


class Partition(StrEnum):
    """How much of a GPU one unit of its resource is."""

    WHOLE = "Whole"
    MIG = "MIG"
    SHARED = "Shared"
    """Time-slicing or MPS: several pods on one GPU, and two units may be the same GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU product, or the part of one that a unit of its resource stands for.

    ``memory_mib`` is what nvidia-smi totals; bandwidths are GB/s, ``nvlink_gbps`` in both directions and 0 without
    NVLink; ``tflops`` is dense 16-bit tensor throughput; None is unknown. ``nvlink_domain`` counts the GPUs that reach
    each other over NVLink (1: PCIe only); ``gpus_per_node`` is what nodes of this product usually have. Pods request
    ``resource_name``, and the label with the product is that name followed by ``.product``. ``unverified`` names the
    catalogue's fields that neither a vendor document nor a node backs.
    """

    product: str
    memory_mib: int
    compute_major: int
    compute_minor: int
    nvlink_domain: int
    nvlink_gbps: int = 0
    memory_bandwidth_gbps: int | None = None
    tflops: float | None = None
    gpus_per_node: int = 8
    partition: Partition = Partition.WHOLE
    mig_profile: str = ""
    resource_name: str = GPU_RESOURCE
    unverified: tuple[str, ...] = ()

    @property
    def memory_bytes(self) -> int:
        """Memory in bytes."""
        return self.memory_mib * 1024**2

    @property
    def compute(self) -> tuple[int, int]:
        """Compute capability as (major, minor)."""
        return self.compute_major, self.compute_minor


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueRow:
    """One GPU of the catalogue with its names: ``name`` and ``aliases`` are what people type, ``products`` labels."""

    name: str
    aliases: tuple[str, ...]
    products: tuple[str, ...]
    source: str
    gpu: Gpu


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGroup:
    """``nodes`` nodes alike, each with ``gpus`` GPUs of one product."""

    nodes: int
    gpus: int
    product: str

    @classmethod
    def parse(cls, text: str) -> NodeGroup:
        """Read ``2x8xNVIDIA-H100-80GB-HBM3``: nodes x GPUs per node x product.

        Raises ValueError, naming what was expected, for anything else.
        """
        match = _NODE_GROUP.match(text)
        if match is None:
            raise ValueError(
                f"{text!r} is not NODESxGPUSxPRODUCT with 1-9999 nodes of 1-99 GPUs, "
                "for example 2x8xNVIDIA-H100-80GB-HBM3"
            )
        return cls(nodes=int(match["nodes"]), gpus=int(match["gpus"]), product=match["product"])

    def __str__(self) -> str:
        return f"{self.nodes}x{self.gpus}x{self.product}"


@cache
def catalogue_rows() -> tuple[CatalogueRow, ...]:
    """Every row of the catalogue, in its order."""
    text = resources.files("trtllm_operator").joinpath("data/gpus.json").read_text(encoding="utf-8")
    return tuple(
        CatalogueRow(
            name=row["name"],
            aliases=tuple(row["aliases"]),
            products=tuple(row["products"]),
            source=row["source"],
            gpu=Gpu(
                product=row["products"][0],
                memory_mib=row["memoryMiB"],
                compute_major=int(row["compute"].split(".")[0]),
                compute_minor=int(row["compute"].split(".")[1]),
                nvlink_domain=row["nvlinkDomain"],
                nvlink_gbps=row["nvlinkGBps"],
                memory_bandwidth_gbps=row["memoryBandwidthGBps"],
                tflops=row["denseTflops"],
                gpus_per_node=row["gpusPerNode"],
                unverified=tuple(row["unverified"]),
            ),
        )
        for row in json.loads(text)["gpus"]
    )


@cache
def catalogue() -> Mapping[str, Gpu]:
    """Every known GPU by its ``nvidia.com/gpu.product`` label, in catalogue order."""
    return {product: replace(row.gpu, product=product) for row in catalogue_rows() for product in row.products}


def find_gpu(product: str) -> Gpu | None:
    """Return the GPU behind a product label, or None.

    A label may differ from the catalogue's in case, in the vendor's prefix and in variants that change nothing here
    (``-SXM5``, ``-HBM3``); ``-MIG-3g.40gb`` and ``-SHARED`` give the part of the GPU they say. The result carries the
    label as it was given, because pods select nodes by it.
    """
    whole, profile, shared = split_partition(product)
    gpu = _longest_match(stem(whole))
    return gpu and part_of(replace(gpu, product=product), profile, shared=shared)


def split_partition(product: str) -> tuple[str, str | None, bool]:
    """Split a label into the product, its MIG profile (None without MIG) and whether it is shared."""
    shared = product.lower().endswith("-shared")
    whole = product[: -len("-shared")] if shared else product
    at = whole.lower().rfind("-mig-")
    if at < 0:
        return whole, None, shared
    return whole[:at], whole[at + len("-mig-") :].lower(), shared


def stem(product: str) -> str:
    """Return a product's name in lower case, with dashes for spaces and without the vendor's prefixes."""
    name = re.sub(r"[\s_]+", "-", product.strip().lower())
    for prefix in _VENDOR_PREFIXES:
        name = name.removeprefix(prefix)
    return name


def part_of(gpu: Gpu, profile: str | None, *, shared: bool) -> Gpu | None:
    """Return the part of a GPU that a MIG profile and sharing leave; None for a profile it cannot have."""
    if profile is not None:
        return _mig_slice(gpu, profile)
    return shared_gpu(gpu) if shared else gpu


def shared_gpu(gpu: Gpu) -> Gpu:
    """Return a GPU that several pods share. Two of its units may be one GPU, so they are no NVLink domain."""
    return replace(gpu, partition=Partition.SHARED, nvlink_domain=1, nvlink_gbps=0)


def near_products(product: str) -> tuple[str, ...]:
    """Return at most three known products whose names resemble ``product``, best first."""
    return near_names(product, catalogue())


def near_names(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return at most three of the known names that hold or resemble ``name``, best first."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    wanted = name.lower()
    close = difflib.get_close_matches(wanted, by_lower, n=3, cutoff=0.5)
    holding = [candidate for candidate in by_lower if wanted and wanted in candidate]
    return tuple(by_lower[candidate] for candidate in dict.fromkeys([*holding, *close]))[:3]


def feature_labels(group: NodeGroup) -> dict[str, str]:
    """Return the node labels that GPU feature discovery sets for a node of this group.

    Raises ValueError for a product the catalogue does not know, naming the near ones.
    """
    gpu = find_gpu(group.product)
    if gpu is None:
        near = ", ".join(near_products(group.product)) or "none"
        raise ValueError(f"GPU product {group.product!r} is not in the catalogue; near names: {near}")
    shared = gpu.partition == Partition.SHARED
    return {
        PRODUCT_LABEL: gpu.product,
        COUNT_LABEL: str(group.gpus),
        MEMORY_LABEL: str(gpu.memory_mib),
        COMPUTE_MAJOR_LABEL: str(gpu.compute_major),
        COMPUTE_MINOR_LABEL: str(gpu.compute_minor),
        REPLICAS_LABEL: str(SIMULATED_REPLICAS if shared else 1),
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.sharing-strategy": "time-slicing" if shared else "none",
        "nvidia.com/mig.strategy": "single",
    }


def _mig_slice(gpu: Gpu, profile: str) -> Gpu | None:
    """Return one MIG instance, or None for a profile that names no size this GPU can have.

    The profile's size is read as decimal GB. That is below what nvidia-smi prints for nearly every profile (3g.20gb of
    an A100 is 19968 MiB) and stays unverified until a node's label tells. NCCL does not connect MIG instances.
    """
    match = _MIG_PROFILE.match(profile)
    memory = int(match["gigabytes"]) * 10**9 // 1024**2 if match else 0
    if not 0 < memory < gpu.memory_mib:
        return None
    return replace(
        gpu,
        partition=Partition.MIG,
        mig_profile=profile,
        memory_mib=memory,
        memory_bandwidth_gbps=None,
        tflops=None,
        nvlink_domain=1,
        nvlink_gbps=0,
        unverified=tuple(dict.fromkeys([*gpu.unverified, "memoryMiB"])),
    )


@cache
def _by_stem() -> Mapping[str, Gpu]:
    return {stem(product): gpu for product, gpu in catalogue().items()}


def _longest_match(name: str) -> Gpu | None:
    """Find the row whose stem is the name, or the longest beginning of it that leaves only harmless variants."""
    known = _by_stem()
    best = max((start for start in known if f"{name}-".startswith(f"{start}-")), key=len, default=None)
    if best is None:
        return None
    gpu, variants = known[best], name.removeprefix(best).split("-")[1:]
    return gpu if all(_is_harmless(variant, gpu) for variant in variants) else None


def _is_harmless(variant: str, gpu: Gpu) -> bool:
    """Whether a word behind a known name leaves the GPU the same: no other memory, form factor or edition."""
    match = _VARIANT.match(variant)
    if match is None or (variant.startswith("sxm") and gpu.nvlink_domain == 1):
        return False
    size = match["gigabytes"]
    # A size in a name is the nominal one: 80GB is 81559 MiB and 141GB is 143771 MiB.
    return size is None or abs(int(size) * 1024 - gpu.memory_mib) < gpu.memory_mib // 20
