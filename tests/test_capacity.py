from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import H100, a_plan, a_spec
from support import ROOT
from trtllm_operator.capacity import PLACED, CapacityReason, Need, NodeRoom, Quota, Supply, assess, need_of
from trtllm_operator.hardware import GPU_RESOURCE, PRODUCT_LABEL
from trtllm_operator.render import Owner, render
from trtllm_operator.settings import Settings

A100 = "NVIDIA-A100-SXM4-80GB"
NVIDIA_TAINT = {"key": GPU_RESOURCE, "effect": "NoSchedule"}
TOLERATED = {"key": GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule"}
NEED = Need(gpus=4, resource=GPU_RESOURCE, pods=1, selector={PRODUCT_LABEL: H100}, tolerations=(TOLERATED,))


def _node(name: str, used: int, *, product: str = H100, gpus: int = 8, **more: Any) -> NodeRoom:
    return NodeRoom(
        name=name,
        labels={PRODUCT_LABEL: product, **more.pop("labels", {})},
        allocatable={GPU_RESOURCE: gpus},
        requested={GPU_RESOURCE: used},
        **more,
    )


def _quota(used: int, hard: int = 8) -> Quota:
    return Quota(name="team-a", resource=GPU_RESOURCE, hard=hard, used=used)


CASES = [
    pytest.param(1, [_node("a", 4)], {}, "GPUsAvailable", "finds them free", 1, id="just-enough"),
    pytest.param(3, [_node("a", 0), _node("b", 4)], {}, "GPUsAvailable", "finds them free", 3, id="over-two-nodes"),
    pytest.param(
        1, [_node("gpu-3", 6), _node("gpu-4", 7), _node("gpu-5", 5)], {}, "GPUsFragmented",
        "needs 4 free GPUs on one node; largest free block is 3 (gpu-5); 6 free in total (fragmented); move other "
        "pods, or lower spec.gpus.count", 0,
        id="fragmented",
    ),
    pytest.param(
        2, [_node("a", 4)], {}, "GPUsBusy",
        "needs 4 free GPUs on one node for each of 2 pods; largest free block is 4 (a); 4 free in total", 1, id="busy",
    ),
    pytest.param(
        1, [_node("a", 8, labels={"karpenter.sh/nodepool": "x"})], {}, "GPUsBusy", "a node autoscaler may add them", 0,
        id="busy-and-autoscaled",
    ),
    pytest.param(
        1, [_node("a", 0, product=A100), _node("b", 0, product=A100)], {}, "NoMatchingNodes",
        f"no node has {PRODUCT_LABEL}={H100}; present: {A100} x16", 0, id="another-product",
    ),
    pytest.param(1, [], {}, "NoMatchingNodes", "present: no GPUs at all", 0, id="no-nodes"),
    pytest.param(
        1, [_node("a", 0, taints=({"key": "team", "value": "b", "effect": "NoExecute"},))], {}, "TaintsNotTolerated",
        "team=b:NoExecute; add spec.tolerations", 0, id="a-taint-of-another-team",
    ),
    pytest.param(
        1, [_node("a", 0, taints=({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},))], {},
        "TaintsNotTolerated", "the 1 matching node has taints that are not tolerated: "
        "node.kubernetes.io/unschedulable:NoSchedule; run kubectl uncordon", 0, id="cordoned",
    ),
    pytest.param(
        1, [_node(name, 0, taints=({"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"},)) for name in "ab"],
        {}, "TaintsNotTolerated", "all 2 matching nodes have taints that are not tolerated: "
        "node.kubernetes.io/not-ready:NoExecute; see kubectl describe node", 0, id="not-ready",
    ),
    pytest.param(1, [_node("a", 0, taints=(NVIDIA_TAINT,))], {}, "GPUsAvailable", "", 2, id="a-tolerated-taint"),
    pytest.param(
        1, [_node("a", 0, taints=({"key": "x", "effect": "PreferNoSchedule"},))], {}, "GPUsAvailable", "", 2,
        id="a-taint-that-only-prefers",
    ),
    pytest.param(
        1, [_node("a", 0)], {"quotas": (_quota(6),)}, "QuotaShort",
        f'ResourceQuota "team-a": requests.{GPU_RESOURCE} hard 8, used 6, this plan needs 4 more (2 short)', 0,
        id="quota",
    ),
    pytest.param(1, [_node("a", 0)], {"quotas": (_quota(4),)}, "GPUsAvailable", "", 1, id="quota-for-one"),
    pytest.param(
        1, [_node("a", 0)], {"quotas": (replace(_quota(8), resource="nvidia.com/mig-1g.10gb"),)}, "GPUsAvailable", "",
        2, id="a-quota-of-another-resource",
    ),
    pytest.param(
        1, [_node("a", 0)], {"limits": (("small", GPU_RESOURCE, 2),)}, "LimitRangeTooSmall",
        f'LimitRange "small" allows a container 2 {GPU_RESOURCE}, each pod of this plan needs 4', 0, id="limit-range",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("missing", "nodes", "rules", "reason", "text", "headroom"), CASES)
def test_the_forecast_and_its_sentence(
    missing: int, nodes: list[NodeRoom], rules: dict[str, Any], reason: str, text: str, headroom: int
) -> None:
    told = assess(NEED, missing, Supply(nodes=tuple(nodes), **rules))
    assert (told.reason, told.headroom) == (reason, headroom)
    assert text in told.message
    assert told.available == (reason == "GPUsAvailable")
    assert told.excluded == (reason in {"LimitRangeTooSmall", "NoMatchingNodes", "TaintsNotTolerated"})


def test_the_numbers_count_only_nodes_that_are_open_to_the_pods() -> None:
    closed = _node("b", 0, taints=({"key": "x", "effect": "NoSchedule"},))
    told = assess(NEED, 1, Supply(nodes=(_node("a", 5), closed, _node("c", 7)), quotas=(_quota(2),)))
    assert (told.matching_nodes, told.free, told.largest_block, told.quota) == (3, 4, 3, "team-a: 2 of 8 used")


def test_without_nodes_nothing_is_claimed_but_a_quota_still_speaks() -> None:
    assert assess(NEED, 1, Supply(nodes=None)).available is None
    assert assess(NEED, 1, Supply(nodes=None)).headroom is None
    assert assess(NEED, 1, Supply(nodes=None, quotas=(_quota(8),))).reason == "QuotaShort"


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        pytest.param({"operator": "Exists"}, True, id="everything"),
        pytest.param({"key": "team", "operator": "Exists"}, True, id="key"),
        pytest.param({"key": "team", "value": "b"}, True, id="value"),
        pytest.param({"key": "team", "value": "b", "effect": "NoExecute"}, False, id="another-effect"),
        pytest.param({"key": "team", "value": "c"}, False, id="another-value"),
        pytest.param({"key": "teams", "operator": "Exists"}, False, id="another-key"),
    ],
)
def test_tolerations_are_read_as_the_scheduler_reads_them(toleration: dict[str, str], tolerated: bool) -> None:
    taint = {"key": "team", "value": "b", "effect": "NoSchedule"}
    supply = Supply(nodes=(_node("a", 0, taints=(taint,)),))
    assert assess(replace(NEED, tolerations=(toleration,)), 1, supply).available == tolerated


def test_what_a_rendered_replica_needs() -> None:
    spec = a_spec(gpus={"count": 4})
    need = need_of(render(Owner(name="x", namespace="y"), spec, a_plan(spec), Settings()))
    assert need is not None
    assert (need.gpus, need.resource, need.pods) == (4, GPU_RESOURCE, 1)
    assert need.selector == {PRODUCT_LABEL: H100}
    assert need.tolerations == (TOLERATED,)


def test_a_group_needs_every_pod_of_it() -> None:
    limits = {"containers": [{"resources": {"limits": {GPU_RESOURCE: 8}}}]}
    group = {"size": 2, "workerTemplate": {"spec": limits}}
    need = need_of([{"kind": "Service"}, {"kind": "LeaderWorkerSet", "spec": {"leaderWorkerTemplate": group}}])
    assert need is not None
    assert (need.gpus, need.pods) == (8, 2)


@pytest.mark.parametrize("reason", CapacityReason)
def test_every_reason_is_in_the_troubleshooting_page(reason: str) -> None:
    assert f"| `{reason}` |" in (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def test_what_is_placed_needs_no_forecast() -> None:
    assert PLACED.available
