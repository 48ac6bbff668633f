from __future__ import annotations

import json
from collections import Counter

import pytest

from support import ROOT
from trtllm_operator.hardware import (
    CatalogueRow,
    NodeGroup,
    Partition,
    catalogue,
    catalogue_rows,
    feature_labels,
    find_gpu,
    near_products,
    stem,
)

H100 = "NVIDIA-H100-80GB-HBM3"
ROWS = [pytest.param(row, id=row.name) for row in catalogue_rows()]
FIELDS = json.loads((ROOT / "operator/trtllm_operator/data/gpus.json").read_text(encoding="utf-8"))["gpus"][0].keys()


def test_node_group_reads_what_it_prints() -> None:
    group = NodeGroup.parse("2x8xNVIDIA-H100-80GB-HBM3")
    assert group == NodeGroup(nodes=2, gpus=8, product="NVIDIA-H100-80GB-HBM3")
    assert str(group) == "2x8xNVIDIA-H100-80GB-HBM3"


@pytest.mark.parametrize(
    "text", ["", "8xH100", "0x8xH100", "2x0xH100", "2x100xH100", "2x8x", "2x8xA B", "2x8x-x", "axbxc"]
)
def test_node_group_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="NODESxGPUSxPRODUCT"):
        NodeGroup.parse(text)


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_plausible(row: CatalogueRow) -> None:
    gpu = row.gpu
    assert all(len(product) <= 63 for product in row.products)
    assert 10_000 < gpu.memory_mib < 300_000
    assert (gpu.nvlink_domain > 1) == (gpu.nvlink_gbps > 0)
    assert gpu.memory_bandwidth_gbps is not None
    assert gpu.tflops is not None
    assert 0.02 < gpu.tflops / gpu.memory_bandwidth_gbps < 0.7
    assert (7, 0) <= gpu.compute <= (12, 1)
    assert row.source
    assert set(gpu.unverified) <= set(FIELDS)


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_found_by_each_of_its_labels(row: CatalogueRow) -> None:
    for product in row.products:
        found = find_gpu(product)
        assert found is not None
        assert (found.product, found.memory_mib, found.tflops) == (product, row.gpu.memory_mib, row.gpu.tflops)


def test_throughput_gives_the_stage_speeds_of_the_heterogeneous_example() -> None:
    """Two RTX 4090 and one RTX 3090 share 80 layers 30/30/20: 3 to 2 by the root of bandwidth times TFLOPS."""
    speeds = []
    for product in ("NVIDIA-GeForce-RTX-4090", "NVIDIA-GeForce-RTX-3090"):
        gpu = catalogue()[product]
        assert gpu.memory_bandwidth_gbps is not None
        assert gpu.tflops is not None
        speeds.append((gpu.memory_bandwidth_gbps * gpu.tflops) ** 0.5)
    assert round(2 * speeds[0] / speeds[1]) / 2 == 1.5


def test_no_two_rows_share_a_label() -> None:
    owners = Counter(name for row in catalogue_rows() for name in {stem(product) for product in row.products})
    assert [name for name, count in owners.items() if count > 1] == []


@pytest.mark.parametrize(
    ("label", "product"),
    [
        pytest.param("nvidia-h100-80gb-hbm3", H100, id="lower case"),
        pytest.param("H100-80GB-HBM3", H100, id="no vendor"),
        pytest.param("NVIDIA-H100-80GB-HBM3-SXM5", H100, id="form factor added"),
        pytest.param("NVIDIA-H200-141GB-HBM3e", "NVIDIA-H200", id="memory added"),
        pytest.param("NVIDIA-H100-PCIe-80GB", "NVIDIA-H100-PCIe", id="memory added to PCIe"),
        pytest.param("NVIDIA-B300-SXM6-LC", None, id="nothing known is a beginning of it"),
        pytest.param("GeForce-RTX-3090", "NVIDIA-GeForce-RTX-3090", id="old GeForce driver"),
        pytest.param("NVIDIA-RTX-4090", "NVIDIA-GeForce-RTX-4090", id="no brand"),
        pytest.param("NVIDIA-Tesla-T4", "Tesla-T4", id="both vendor prefixes"),
        pytest.param("A100-SXM4-40GB", "NVIDIA-A100-SXM4-40GB", id="old A100 driver"),
    ],
)
def test_a_label_may_be_spelt_otherwise(label: str, product: str | None) -> None:
    found = find_gpu(label)
    if product is None:
        assert found is None
        return
    assert found is not None
    row = catalogue()[product]
    assert found.product == label
    assert (found.memory_mib, found.nvlink_domain, found.tflops) == (row.memory_mib, row.nvlink_domain, row.tflops)


@pytest.mark.parametrize(
    "label",
    [
        pytest.param("", id="empty"),
        pytest.param("-", id="dash"),
        pytest.param("NVIDIA-", id="vendor alone"),
        pytest.param("H100", id="short name"),
        pytest.param("NVIDIA-A100-SXM4", id="no memory size"),
        pytest.param("NVIDIA-A100-SXM4-64GB", id="custom A100"),
        pytest.param("NVIDIA-H200-80GB", id="wrong memory size"),
        pytest.param("NVIDIA-H20-3e", id="H20 with 141 GB"),
        pytest.param("NVIDIA-H200-PCIe", id="wrong form factor"),
        pytest.param("NVIDIA-L40S-SXM4", id="SXM of a PCIe card"),
        pytest.param("NVIDIA-GeForce-RTX-4090-Laptop-GPU", id="laptop"),
        pytest.param("NVIDIA-GeForce-RTX-3090-Ti", id="another model"),
        pytest.param("NVIDIA-L400", id="a name that only begins alike"),
        pytest.param("NVIDIA-H100-80GB-HBM3-MIG-INVALID", id="MIG INVALID"),
        pytest.param("NVIDIA-H100-80GB-HBM3-MIG-", id="MIG without a profile"),
        pytest.param("NVIDIA-A100-SXM4-40GB-MIG-3g.80gb", id="a slice larger than the GPU"),
        pytest.param("NVIDIA-A100-SXM4-40GB-MIG-1g.0gb", id="a slice of nothing"),
        pytest.param("NVIDIA-H100-80GB-HBM3-MIG-1g.٣gb", id="digits of another script"),
        pytest.param("x" * 100_000, id="huge"),
        pytest.param("-".join(["NVIDIA"] * 1_000), id="many words"),
    ],
)
def test_a_label_that_may_be_another_gpu_is_unknown(label: str) -> None:
    assert find_gpu(label) is None


@pytest.mark.parametrize(
    ("label", "partition", "profile", "memory_mib"),
    [
        pytest.param("NVIDIA-A100-SXM4-80GB", Partition.WHOLE, "", 81920, id="whole"),
        pytest.param("NVIDIA-A100-SXM4-80GB-MIG-3g.40gb", Partition.MIG, "3g.40gb", 38146, id="MIG"),
        pytest.param("NVIDIA-A100-SXM4-80GB-MIG-1c.3g.40gb", Partition.MIG, "1c.3g.40gb", 38146, id="compute instance"),
        pytest.param("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb.me", Partition.MIG, "1g.10gb.me", 9536, id="media engines"),
        pytest.param("NVIDIA-A100-SXM4-80GB-SHARED", Partition.SHARED, "", 81920, id="shared"),
        pytest.param("NVIDIA-A100-SXM4-80GB-MIG-3g.40gb-SHARED", Partition.MIG, "3g.40gb", 38146, id="shared slice"),
    ],
)
def test_a_label_may_name_a_part_of_a_gpu(label: str, partition: Partition, profile: str, memory_mib: int) -> None:
    gpu = find_gpu(label)
    assert gpu is not None
    assert (gpu.product, gpu.partition, gpu.mig_profile, gpu.memory_mib) == (label, partition, profile, memory_mib)
    assert gpu.nvlink_domain == (8 if partition == Partition.WHOLE else 1)
    assert ("memoryMiB" in gpu.unverified) == (partition == Partition.MIG)
    assert (gpu.tflops is None) == (partition == Partition.MIG)


def test_labels_of_an_unknown_product_name_the_near_ones() -> None:
    with pytest.raises(ValueError, match="NVIDIA-H100-80GB-HBM3"):
        feature_labels(NodeGroup(nodes=1, gpus=8, product="H100"))
    assert near_products("nothing-like-it-at-all-zzz") == ()
    assert near_products("") == ()


@pytest.mark.parametrize(
    ("product", "replicas", "strategy"),
    [(H100, "1", "none"), (f"{H100}-SHARED", "2", "time-slicing"), (f"{H100}-MIG-3g.40gb", "1", "none")],
)
def test_labels_say_how_a_gpu_is_shared(product: str, replicas: str, strategy: str) -> None:
    labels = feature_labels(NodeGroup(nodes=1, gpus=8, product=product))
    assert (labels["nvidia.com/gpu.replicas"], labels["nvidia.com/gpu.sharing-strategy"]) == (replicas, strategy)
