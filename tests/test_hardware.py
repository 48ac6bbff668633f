from __future__ import annotations

import pytest

from trtllm_operator.hardware import NodeGroup, catalogue, feature_labels, near_products


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


def test_every_product_is_a_label_value_and_has_memory() -> None:
    for product, gpu in catalogue().items():
        assert len(product) <= 63
        assert gpu.memory_mib > 10_000
        assert gpu.nvlink_domain >= 1


def test_labels_of_an_unknown_product_name_the_near_ones() -> None:
    with pytest.raises(ValueError, match="NVIDIA-H100-80GB-HBM3"):
        feature_labels(NodeGroup(nodes=1, gpus=8, product="H100"))
    assert near_products("nothing-like-it-at-all-zzz") == ()
