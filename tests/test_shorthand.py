from __future__ import annotations

from collections import defaultdict

import pytest

from trtllm_operator.hardware import CatalogueRow, Partition, catalogue_rows
from trtllm_operator.shorthand import GpuGroup, Misread, _key, parse_gpus, short_gpu

H100, A100, A100_40 = "NVIDIA-H100-80GB-HBM3", "NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-SXM4-40GB"
RTX_4090, RTX_3090 = "NVIDIA-GeForce-RTX-4090", "NVIDIA-GeForce-RTX-3090"


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("H100", H100),
        ("H100-SXM", H100),
        ("h100 sxm5", H100),
        ("h100-pcie", "NVIDIA-H100-PCIe"),
        ("H100-NVL", "NVIDIA-H100-NVL"),
        ("H200", "NVIDIA-H200"),
        ("H200-SXM", "NVIDIA-H200"),
        ("H800-SXM", "NVIDIA-H800"),
        ("B200-SXM", "NVIDIA-B200"),
        ("GB200", "NVIDIA-GB200"),
        ("GB300", "NVIDIA-GB300"),
        ("A100", A100),
        ("a100-80", A100),
        ("A100-80-SXM", A100),
        ("a100-40", A100_40),
        ("A10G", "NVIDIA-A10G"),
        ("A10", "NVIDIA-A10"),
        ("L40S", "NVIDIA-L40S"),
        ("4090", RTX_4090),
        ("rtx-4090", RTX_4090),
        ("RTX4090", RTX_4090),
        ("GeForce RTX 4090", RTX_4090),
        ("RTX-3090", RTX_3090),
        ("RTX-PRO-6000", "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition"),
        ("DGX Spark", "NVIDIA-GB10"),
        ("T4", "Tesla-T4"),
        ("A100-SXM4-80GB", "A100-SXM4-80GB"),
        ("NVIDIA-H100-80GB-HBM3-SXM5", "NVIDIA-H100-80GB-HBM3-SXM5"),
        ("A100-80-MIG-3g.40gb", f"{A100}-MIG-3g.40gb"),
        ("H100-SXM-SHARED", f"{H100}-SHARED"),
    ],
)
def test_a_short_name_means_a_product(name: str, product: str) -> None:
    gpu = short_gpu(name)
    assert not isinstance(gpu, Misread), gpu
    assert gpu.product == product


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in catalogue_rows()])
def test_every_row_is_reached_by_each_of_its_names(row: CatalogueRow) -> None:
    for name in (row.name, *row.aliases, *row.products):
        gpu = short_gpu(name)
        assert not isinstance(gpu, Misread), gpu
        assert gpu.product in row.products


def test_no_name_means_two_rows() -> None:
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for row in catalogue_rows():
        for name in (row.name, *row.aliases, *row.products):
            owners[_key(name)].add(row.name)
    assert {name: rows for name, rows in owners.items() if len(rows) > 1} == {}


@pytest.mark.parametrize(
    ("name", "partition", "memory_mib"),
    [("A100-80-MIG-3g.40gb", Partition.MIG, 38146), ("H100-SXM-SHARED", Partition.SHARED, 81559)],
)
def test_a_part_may_follow_a_short_name(name: str, partition: Partition, memory_mib: int) -> None:
    gpu = short_gpu(name)
    assert not isinstance(gpu, Misread), gpu
    assert (gpu.partition, gpu.memory_mib, gpu.nvlink_domain) == (partition, memory_mib, 1)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        pytest.param("unknown-gpu", (), id="nothing alike"),
        pytest.param("", (), id="empty"),
        pytest.param("H10", ("H100-SXM", "H100-PCIe", "H100-NVL"), id="cut short"),
        pytest.param("RTX-4080", ("RTX-5080", "RTX-4090", "RTX-A4500"), id="one digit off"),
        pytest.param("A100-40-MIG-3g.80gb", ("A100-40-SXM", "A100-40-PCIe", "A100-80-SXM"), id="impossible slice"),
    ],
)
def test_an_unknown_name_names_the_near_ones(name: str, near: tuple[str, ...]) -> None:
    assert short_gpu(name) == Misread(text=name, expected="a GPU name such as H100 or RTX-4090", near=near)


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("8xH100", [(None, 8, H100)]),
        ("16xH100-SXM", [(None, 16, H100)]),
        ("2x8xH100", [(2, 8, H100)]),
        ("3x4090", [(None, 3, RTX_4090)]),
        ("3X4090", [(None, 3, RTX_4090)]),
        ("2x8x4090", [(2, 8, RTX_4090)]),
        ("2x4090,1x3090", [(None, 2, RTX_4090), (None, 1, RTX_3090)]),
        ("2xRTX-4090 + 1xRTX-3090", [(None, 2, RTX_4090), (None, 1, RTX_3090)]),
        ("2xA100-40,1xA100-80", [(None, 2, A100_40), (None, 1, A100)]),
        ("1x4xGB200,1x8xH100", [(1, 4, "NVIDIA-GB200"), (1, 8, H100)]),
        ("2xA100-80-MIG-3g.40gb", [(None, 2, f"{A100}-MIG-3g.40gb")]),
    ],
)
def test_gpus_are_read(text: str, groups: list[tuple[int | None, int, str]]) -> None:
    read = parse_gpus(text)
    assert not isinstance(read, Misread), read
    assert [(group.nodes, group.count, group.gpu.product) for group in read] == groups


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not COUNTxGPU or NODESxCOUNTxGPU, such as 8xH100 or 2x8xH100"),
        ("H100", "'H100' is not COUNTxGPU or NODESxCOUNTxGPU, such as 8xH100 or 2x8xH100"),
        ("8", "'8' is not COUNTxGPU or NODESxCOUNTxGPU, such as 8xH100 or 2x8xH100"),
        ("0xH100", "'0xH100' is not COUNTxGPU or NODESxCOUNTxGPU, such as 8xH100 or 2x8xH100"),
        ("99999xH100", "'99999xH100' is not COUNTxGPU or NODESxCOUNTxGPU, such as 8xH100 or 2x8xH100"),
        ("8xH100,", "'' is not COUNTxGPU or NODESxCOUNTxGPU, such as 8xH100 or 2x8xH100"),
        ("8xH10", "'H10' is not a GPU name such as H100 or RTX-4090; near names: H100-SXM, H100-PCIe, H100-NVL"),
        ("2x4090,1xrtx 4090", "'2x4090,1xrtx 4090' is not a list that names each GPU once, such as 3x4090"),
        ("1x" + "9" * 5_000, f"'{'9' * 80}...' is not a GPU name such as H100 or RTX-4090"),
    ],
    ids=["empty", "no count", "no GPU", "zero", "too many", "trailing comma", "unknown", "twice", "huge"],
)
def test_what_is_no_gpus_says_what_was_expected(text: str, message: str) -> None:
    assert str(parse_gpus(text)) == message


def test_a_group_counts_its_gpus() -> None:
    gpu = short_gpu("H100")
    assert not isinstance(gpu, Misread)
    assert [GpuGroup(gpu=gpu, count=8, nodes=nodes).total for nodes in (None, 1, 2)] == [8, 8, 16]
