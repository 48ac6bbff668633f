from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from trtllm_operator.api import Gpus
from trtllm_operator.facts import GpuPool
from trtllm_operator.gather import labels_of
from trtllm_operator.hardware import NodeGroup, Partition
from trtllm_operator.pools import gpu_offers, gpu_pools

H100, H200, A100, GB200 = "NVIDIA-H100-80GB-HBM3", "NVIDIA-H200", "NVIDIA-A100-SXM4-80GB", "NVIDIA-GB200"
L40S = "NVIDIA-L40S"
SLICE = f"{A100}-MIG-3g.40gb"
MIXED_ONLY = {"nvidia.com/gpu.product": A100, "nvidia.com/gpu.count": "8", "nvidia.com/gpu.replicas": "0"}
MIXED_SLICES = {
    **MIXED_ONLY,
    "nvidia.com/gpu.memory": "81920",
    "nvidia.com/mig.strategy": "mixed",
    "nvidia.com/mig-3g.40gb.product": SLICE,
    "nvidia.com/mig-3g.40gb.count": "16",
    "nvidia.com/mig-3g.40gb.replicas": "1",
    "nvidia.com/mig-3g.40gb.memory": "40448",
}
NEW = {"nvidia.com/gpu.product": "NVIDIA-R100", "nvidia.com/gpu.memory": "294912", "nvidia.com/gpu.count": "8"}


def labels(*groups: str, **changes: str) -> list[Mapping[str, str]]:
    """Labels of the nodes in these groups; ``count="4"`` sets nvidia.com/gpu.count on every one."""
    changed = {f"nvidia.com/gpu.{key.replace('_', '.')}": value for key, value in changes.items()}
    return [{**node, **changed} for node in labels_of(NodeGroup.parse(group) for group in groups)]


def pools(nodes: list[Mapping[str, str]], **wanted: Any) -> tuple[GpuPool, ...]:
    return gpu_pools(Gpus.model_validate(wanted, extra="forbid") if wanted else None, gpu_offers(nodes))[0]


def the_pool(nodes: list[Mapping[str, str]], **wanted: Any) -> GpuPool:
    (pool,) = pools(nodes, **wanted)
    return pool


def test_each_product_is_a_pool_with_what_all_its_nodes_have() -> None:
    found = pools(labels(f"1x8x{H200}", f"1x8x{H100}", f"1x4x{H100}"))
    assert [(pool.gpu.product, pool.gpus_per_node, pool.nodes) for pool in found] == [(H100, 4, 2), (H200, 8, 1)]


def test_the_spec_picks_one_product() -> None:
    assert the_pool(labels(f"1x8x{H200}", f"1x8x{H100}"), product=H200).gpu.product == H200


@pytest.mark.parametrize(
    ("product", "per_node"), [(H200, 8), (GB200, 4), ("NVIDIA-GB10", 1)], ids=["HGX", "NVL72", "one GPU"]
)
def test_a_product_without_nodes_has_the_usual_number_per_node(product: str, per_node: int) -> None:
    pool = the_pool([], product=product)
    assert (pool.gpus_per_node, pool.nodes) == (per_node, None)
    assert pool.gpu.nvlink_domain <= max(per_node, 1)


@pytest.mark.parametrize(
    ("count", "per_node"),
    [
        pytest.param("4", 4, id="said"),
        pytest.param("", 8, id="empty"),
        pytest.param("-4", 8, id="negative"),
        pytest.param("eight", 8, id="words"),
        pytest.param("٤", 8, id="digits of another script"),
        pytest.param("400", 8, id="more than hardware has"),
        pytest.param("4000000000", 8, id="huge"),
        pytest.param("9" * 5_000, 8, id="endless"),
    ],
)
def test_a_count_that_cannot_be_is_ignored(count: str, per_node: int) -> None:
    assert the_pool(labels(f"1x8x{H100}", count=count)).gpus_per_node == per_node


@pytest.mark.parametrize(
    ("product", "memory", "mib"),
    [
        pytest.param("NVIDIA-L20", "49140", 49140, id="ECC off"),
        pytest.param("NVIDIA-L20", "46068", 46068, id="ECC on"),
        pytest.param(H100, "80", 81559, id="GB for MiB"),
        pytest.param(H100, "0", 81559, id="zero"),
        pytest.param(H100, "", 81559, id="empty"),
        pytest.param(H100, "85520809984", 81559, id="bytes"),
        pytest.param(H100, "143771", 81559, id="of another GPU"),
        pytest.param(SLICE, "40448", 40448, id="MIG instance"),
    ],
)
def test_the_memory_a_node_reports_wins_where_it_can_be_true(product: str, memory: str, mib: int) -> None:
    assert the_pool(labels(f"1x8x{product}", memory=memory)).gpu.memory_mib == mib


def test_what_a_node_reports_is_verified() -> None:
    told, guessed = the_pool(labels(f"1x8x{SLICE}")).gpu, the_pool([], product=SLICE).gpu
    assert ("memoryMiB" in told.unverified, "memoryMiB" in guessed.unverified) == (False, True)


def test_the_smallest_memory_of_the_nodes_counts() -> None:
    nodes = labels("1x8xNVIDIA-L20", memory="49140") + labels("1x8xNVIDIA-L20", memory="46068")
    assert the_pool(nodes).gpu.memory_mib == 46068


@pytest.mark.parametrize(
    ("more", "compute", "unverified"),
    [
        pytest.param({"compute_major": "11", "compute_minor": "0"}, (11, 0), ("nvlinkDomain",), id="labelled"),
        pytest.param({}, (8, 0), ("compute", "nvlinkDomain"), id="not labelled"),
        pytest.param({"compute_major": "x"}, (8, 0), ("compute", "nvlinkDomain"), id="malformed"),
    ],
)
def test_an_unknown_product_is_known_by_its_labels(
    more: dict[str, str], compute: tuple[int, int], unverified: tuple[str, ...]
) -> None:
    node = {**NEW, **{f"nvidia.com/gpu.{key.replace('_', '.')}": value for key, value in more.items()}}
    gpu = the_pool([node]).gpu
    assert (gpu.memory_mib, gpu.compute, gpu.nvlink_domain) == (294912, compute, 1)
    assert gpu.unverified == unverified


def test_the_oldest_node_of_an_unknown_product_counts() -> None:
    nodes = [
        {**NEW, "nvidia.com/gpu.compute.major": major, "nvidia.com/gpu.compute.minor": minor}
        for major, minor in [("9", "0"), ("8", "9")]
    ]
    assert the_pool(nodes).gpu.compute == (8, 9)


def test_the_spec_tells_the_memory_of_an_unknown_product_alone() -> None:
    assert the_pool([], product="X1", memory="80Gi").gpu.memory_mib == 81920
    assert the_pool([NEW], product="NVIDIA-R100", memory="1000Mi").gpu.memory_mib == 1000
    assert the_pool([], product=H100, memory="1Gi").gpu.memory_mib == 81559


@pytest.mark.parametrize("product", ["H100", "NVIDIA-H100-80GB-HBM3-MIG-INVALID"])
def test_what_nothing_tells_is_unknown(product: str) -> None:
    found, unknown = gpu_pools(Gpus(product=product), gpu_offers(labels(f"1x8x{H100}")))
    assert found == ()
    assert [(gpu.product, gpu.near[:1]) for gpu in unknown] == [(product, (H100,))]


@pytest.mark.parametrize(
    ("nodes", "partition"),
    [
        pytest.param(labels(f"1x8x{H100}"), Partition.WHOLE, id="whole"),
        pytest.param(labels(f"1x8x{H100}-SHARED"), Partition.SHARED, id="shared by its name"),
        pytest.param(labels(f"1x8x{H100}", replicas="4"), Partition.SHARED, id="shared under its own name"),
        pytest.param(labels(f"1x8x{SLICE}"), Partition.MIG, id="MIG single"),
        pytest.param([{**NEW, "nvidia.com/gpu.product": "NVIDIA-R100-SHARED"}], Partition.SHARED, id="unknown, shared"),
        pytest.param([{**NEW, "nvidia.com/gpu.product": "NVIDIA-R100-MIG-1g.36gb"}], Partition.MIG, id="unknown, MIG"),
    ],
)
def test_a_pool_says_how_much_of_a_gpu_a_unit_is(nodes: list[Mapping[str, str]], partition: Partition) -> None:
    gpu = the_pool(nodes).gpu
    assert gpu.partition == partition
    assert gpu.nvlink_domain == (8 if partition == Partition.WHOLE else 1)


@pytest.mark.parametrize(
    "node",
    [
        pytest.param({}, id="no labels"),
        pytest.param({"nvidia.com/gpu.product": ""}, id="empty product"),
        pytest.param({"nvidia.com/gpu.product": H100, "nvidia.com/gpu.count": "0"}, id="no GPUs left"),
        pytest.param(MIXED_ONLY, id="MIG has every GPU"),
        pytest.param(MIXED_SLICES, id="MIG mixed, nobody asked for instances"),
    ],
)
def test_a_node_without_a_free_gpu_is_in_no_pool(node: Mapping[str, str]) -> None:
    assert pools([node]) == ()
    assert the_pool([node, *labels(f"1x8x{A100}")]).nodes == 1


def test_mig_instances_with_a_resource_of_their_own_are_a_pool_when_asked_for() -> None:
    pool = the_pool([MIXED_SLICES], product=SLICE)
    assert (pool.gpu.resource_name, pool.gpu.product) == ("nvidia.com/mig-3g.40gb", SLICE)
    assert (pool.gpu.memory_mib, pool.gpus_per_node, pool.nodes) == (40448, 16, 1)
    assert the_pool(labels(f"1x8x{SLICE}")).gpu.resource_name == "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("product", "interconnect", "domain"),
    [
        (H100, "Auto", 8),
        (H100, "PCIe", 1),
        (H100, "NVLink", 8),
        (L40S, "Auto", 1),
        (L40S, "NVLink", 4),
        (f"{H100}-SHARED", "NVLink", 1),
        (SLICE, "NVLink", 1),
    ],
)
def test_the_spec_overrules_the_interconnect_of_whole_gpus(product: str, interconnect: str, domain: int) -> None:
    assert the_pool(labels(f"2x4x{product}"), product=product, interconnect=interconnect).gpu.nvlink_domain == domain


@pytest.mark.parametrize(
    ("cliques", "domain"),
    [
        pytest.param(["", ""], 4, id="not labelled"),
        pytest.param(["u.1", "u.1"], 8, id="one clique"),
        pytest.param(["u.1", "u.2"], 4, id="two cliques"),
        pytest.param(["u.1", ""], 4, id="one node outside"),
        pytest.param(["u.1"] * 20, 72, id="more nodes than a rack holds"),
    ],
)
def test_an_nvlink_domain_leaves_the_node_only_inside_one_clique(cliques: list[str], domain: int) -> None:
    nodes = [node for clique in cliques for node in labels(f"1x4x{GB200}", clique=clique)]
    assert the_pool(nodes).gpu.nvlink_domain == domain


def test_per_node_of_the_spec_wins() -> None:
    assert the_pool(labels(f"1x8x{H100}"), perNode=2).gpus_per_node == 2
