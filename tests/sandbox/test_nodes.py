from __future__ import annotations

import re

import pytest

from trtllm_operator.hardware import NodeGroup, catalogue
from trtllm_operator.sandbox.nodes import node_manifests

DNS_LABEL = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
LABEL_VALUE = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")


def names(*groups: str) -> list[str]:
    manifests = node_manifests([NodeGroup.parse(group) for group in groups], "1.36.3")
    return [manifest["metadata"]["name"] for manifest in manifests]


def test_names_are_readable_and_unique_across_groups() -> None:
    assert names("2x8xNVIDIA-H100-80GB-HBM3", "1x4xNVIDIA-H100-80GB-HBM3", "1x8xNVIDIA-H200") == [
        "gpu-h100-80gb-hbm3-0",
        "gpu-h100-80gb-hbm3-1",
        "gpu-h100-80gb-hbm3-2",
        "gpu-h200-0",
    ]


def test_node_offers_its_gpus() -> None:
    (node,) = node_manifests([NodeGroup.parse("1x4xNVIDIA-H200")], "1.36.3")
    expected = {"cpu": "128", "memory": "1Ti", "ephemeral-storage": "4Ti", "pods": "110", "nvidia.com/gpu": "4"}
    assert node["status"]["capacity"] == expected
    assert node["status"]["allocatable"] == expected
    assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.36.3"
    labels = node["metadata"]["labels"]
    assert labels["nvidia.com/gpu.count"] == "4"
    assert labels["kubernetes.io/hostname"] == node["metadata"]["name"]
    assert (labels["kubernetes.io/os"], labels["kubernetes.io/arch"]) == ("linux", "amd64")
    assert "spec" not in node


def test_shared_gpus_are_offered_more_than_once() -> None:
    (node,) = node_manifests([NodeGroup.parse("1x4xNVIDIA-H200-SHARED")], "1.36.3")
    labels = node["metadata"]["labels"]
    assert (labels["nvidia.com/gpu.count"], labels["nvidia.com/gpu.replicas"]) == ("4", "2")
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "8"


@pytest.mark.parametrize("product", catalogue())
def test_every_known_product_gives_valid_names_and_labels(product: str) -> None:
    (*_, node) = node_manifests([NodeGroup(nodes=11, gpus=8, product=product)], "1.36.3")
    assert DNS_LABEL.match(node["metadata"]["name"])
    assert all(LABEL_VALUE.match(value) for value in node["metadata"]["labels"].values())


def test_unknown_product_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="GPU product 'VOODOO' is not in the catalogue"):
        names("1x1xVOODOO")
