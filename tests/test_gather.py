from __future__ import annotations

from builders import H100, a_spec
from trtllm_operator.gather import gather, labels_of
from trtllm_operator.hardware import NodeGroup

LABELS = list(labels_of([NodeGroup(nodes=1, gpus=8, product=H100), NodeGroup(nodes=1, gpus=4, product=H100)]))
NEW = {"nvidia.com/gpu.product": "NVIDIA-R100", "nvidia.com/gpu.memory": "294912", "nvidia.com/gpu.count": "8"}


def test_a_pool_has_the_gpus_that_each_of_its_nodes_has() -> None:
    (pool,) = gather(a_spec(), LABELS).pools
    assert (pool.gpus_per_node, pool.nodes, pool.total) == (4, 2, 8)


def test_each_product_is_a_pool() -> None:
    labels = list(labels_of([NodeGroup.parse("1x8xNVIDIA-H200"), NodeGroup.parse(f"2x8x{H100}")]))
    assert [(pool.gpu.product, pool.nodes) for pool in gather(a_spec(), labels).pools] == [
        (H100, 2),
        ("NVIDIA-H200", 1),
    ]


def test_a_product_of_the_spec_that_no_node_has_comes_from_the_catalogue() -> None:
    (pool,) = gather(a_spec(gpus={"product": "NVIDIA-H200"}), LABELS).pools
    assert (pool.gpu.memory_mib, pool.gpus_per_node, pool.nodes) == (143771, 8, None)


def test_an_unknown_product_is_known_by_its_labels() -> None:
    (pool,) = gather(
        a_spec(), [{**NEW, "nvidia.com/gpu.compute.major": "11", "nvidia.com/gpu.compute.minor": "0"}]
    ).pools
    assert (pool.gpu.memory_mib, pool.gpu.compute_major, pool.gpu.nvlink_domain) == (294912, 11, 1)
    (modest,) = gather(a_spec(), [NEW]).pools
    assert (modest.gpu.compute_major, modest.gpu.compute_minor) == (8, 0)


def test_an_unknown_product_is_known_by_the_spec() -> None:
    (pool,) = gather(a_spec(gpus={"product": "X1", "memory": "80Gi", "perNode": 4}), []).pools
    assert (pool.gpu.memory_mib, pool.gpus_per_node) == (81920, 4)


def test_what_nothing_tells_is_unknown() -> None:
    facts = gather(a_spec(gpus={"product": "H100"}), LABELS)
    assert facts.pools == ()
    assert facts.unknown_gpus[0].near[0] == H100
