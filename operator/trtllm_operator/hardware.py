"""The GPU catalogue, and the groups of nodes that carry GPUs.

A ``Gpu`` is one product as GPU feature discovery names it; a ``NodeGroup`` is a number of nodes alike.
The planner, the offline commands and the sandbox all describe hardware in these words.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

PRODUCT_LABEL = "nvidia.com/gpu.product"
COUNT_LABEL = "nvidia.com/gpu.count"
MEMORY_LABEL = "nvidia.com/gpu.memory"
COMPUTE_MAJOR_LABEL = "nvidia.com/gpu.compute.major"
COMPUTE_MINOR_LABEL = "nvidia.com/gpu.compute.minor"
GPU_RESOURCE = "nvidia.com/gpu"

_NODE_GROUP = re.compile(r"^(?P<nodes>[1-9]\d{0,3})x(?P<gpus>[1-9]\d?)x(?P<product>[A-Za-z0-9][A-Za-z0-9._-]{0,62})$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU product: memory in MiB as nvidia-smi totals it, NVLink domain in GPUs (1: PCIe only)."""

    product: str
    memory_mib: int
    compute_major: int
    compute_minor: int
    nvlink_domain: int

    @property
    def memory_bytes(self) -> int:
        """Memory in bytes."""
        return self.memory_mib * 1024**2


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
def catalogue() -> Mapping[str, Gpu]:
    """Every known GPU by its ``nvidia.com/gpu.product`` label, in catalogue order."""
    text = resources.files("trtllm_operator").joinpath("data/gpus.json").read_text(encoding="utf-8")
    gpus: dict[str, Gpu] = {}
    for row in json.loads(text)["gpus"]:
        major, minor = row["compute"].split(".")
        for product in row["products"]:
            gpus[product] = Gpu(
                product=product,
                memory_mib=row["memoryMiB"],
                compute_major=int(major),
                compute_minor=int(minor),
                nvlink_domain=row["nvlinkDomain"],
            )
    return gpus


def find_gpu(product: str) -> Gpu | None:
    """Return the catalogue's row for a product label, or None."""
    return catalogue().get(product)


def near_products(product: str) -> tuple[str, ...]:
    """Return at most three known products whose names resemble ``product``, best first."""
    known = {name.lower(): name for name in catalogue()}
    close = difflib.get_close_matches(product.lower(), known, n=3, cutoff=0.5)
    holding = [name for name in known if product.lower() in name]
    return tuple(known[name] for name in dict.fromkeys([*holding, *close]))[:3]


def feature_labels(group: NodeGroup) -> dict[str, str]:
    """Return the node labels that GPU feature discovery sets for a node of this group.

    Raises ValueError for a product the catalogue does not know, naming the near ones.
    """
    gpu = find_gpu(group.product)
    if gpu is None:
        near = ", ".join(near_products(group.product)) or "none"
        raise ValueError(f"GPU product {group.product!r} is not in the catalogue; near names: {near}")
    return {
        PRODUCT_LABEL: gpu.product,
        COUNT_LABEL: str(group.gpus),
        MEMORY_LABEL: str(gpu.memory_mib),
        COMPUTE_MAJOR_LABEL: str(gpu.compute_major),
        COMPUTE_MINOR_LABEL: str(gpu.compute_minor),
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.sharing-strategy": "none",
        "nvidia.com/mig.strategy": "single",
    }
