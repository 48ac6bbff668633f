"""Whether the pods that are still to be placed will find GPUs: the arithmetic, and the sentence with its numbers.

A forecast, not a reservation: somebody else may be faster, and a node autoscaler may add what is missing, so that the
answer is a condition beside ``Ready`` and never keeps anything from being applied. CPU, memory, affinity and the
scheduler's own plugins are left to the scheduler, which has the last word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from trtllm_operator.hardware import PRODUCT_LABEL

Manifest = dict[str, Any]

_CORDONED = "node.kubernetes.io/unschedulable"
_EVICTING = ("NoSchedule", "NoExecute")
_NODE_AUTOSCALER_LABELS = ("karpenter.sh/nodepool", "cloud.google.com/gke-nodepool", "eks.amazonaws.com/nodegroup")


class CapacityReason(StrEnum):
    """Whether GPUs are there for the pods that have no node yet."""

    GPUS_AVAILABLE = "GPUsAvailable"
    GPUS_BUSY = "GPUsBusy"
    GPUS_FRAGMENTED = "GPUsFragmented"
    LIMIT_RANGE_TOO_SMALL = "LimitRangeTooSmall"
    NODES_UNREADABLE = "NodesUnreadable"
    NO_MATCHING_NODES = "NoMatchingNodes"
    QUOTA_SHORT = "QuotaShort"
    TAINTS_NOT_TOLERATED = "TaintsNotTolerated"


_NODES_EXCLUDED = (
    CapacityReason.LIMIT_RANGE_TOO_SMALL,
    CapacityReason.NO_MATCHING_NODES,
    CapacityReason.TAINTS_NOT_TOLERATED,
)
"""What stays so however many GPUs become free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Pods alike that a replica consists of, and where they may run. ``gpus`` is per pod."""

    gpus: int
    resource: str
    pods: int
    selector: Mapping[str, str]
    tolerations: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRoom:
    """A node, what it offers of each GPU resource, and what its pods request of it."""

    name: str
    labels: Mapping[str, str]
    allocatable: Mapping[str, int]
    requested: Mapping[str, int]
    taints: tuple[Mapping[str, str], ...] = ()

    def free(self, resource: str) -> int:
        """GPUs that no pod requests."""
        return max(0, self.allocatable.get(resource, 0) - self.requested.get(resource, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A ResourceQuota's line about one GPU resource."""

    name: str
    resource: str
    hard: int
    used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """What the cluster offers. ``nodes`` is None when they, or the pods on them, may not be read.

    ``limits`` are the most GPUs a LimitRange allows one container, by the range's name and the resource.
    """

    nodes: tuple[NodeRoom, ...] | None
    quotas: tuple[Quota, ...] = ()
    limits: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """The forecast. ``headroom`` counts the pods that would find room now; None when nobody can tell."""

    reason: CapacityReason
    message: str
    headroom: int | None
    matching_nodes: int | None = None
    free: int | None = None
    largest_block: int | None = None
    quota: str | None = None

    @property
    def available(self) -> bool | None:
        """Whether there is room; None when nobody can tell."""
        if self.reason is CapacityReason.NODES_UNREADABLE:
            return None
        return self.reason is CapacityReason.GPUS_AVAILABLE

    @property
    def excluded(self) -> bool:
        """Whether no node takes such pods, even if everything that runs were stopped."""
        return self.reason in _NODES_EXCLUDED


PLACED = Assessment(
    reason=CapacityReason.GPUS_AVAILABLE, message="every replica has its GPUs, or finds them free", headroom=None
)
"""Every pod has a node: nothing is left to forecast."""


def assess(need: Need, missing: int, supply: Supply) -> Assessment:
    """Return the forecast for ``missing`` pods; the first thing that is short is told."""
    quota = min(
        (quota for quota in supply.quotas if quota.resource == need.resource),
        key=lambda quota: quota.hard - quota.used,
        default=None,
    )
    told = None if quota is None else f"{quota.name}: {quota.used} of {quota.hard} used"
    room = _room(need, missing, supply)
    refusal = _limited(need, supply) or _over_quota(need, missing, quota)
    if refusal is None:
        return _with_quota(room, told, None if quota is None else max(0, quota.hard - quota.used) // need.gpus)
    reason, message = refusal
    return Assessment(
        reason=reason,
        message=message,
        headroom=0,
        matching_nodes=room.matching_nodes,
        free=room.free,
        largest_block=room.largest_block,
        quota=told,
    )


def _with_quota(room: Assessment, quota: str | None, allowed: int | None) -> Assessment:
    known = [pods for pods in (room.headroom, allowed) if pods is not None]
    return Assessment(
        reason=room.reason,
        message=room.message,
        headroom=None if room.headroom is None else min(known),
        matching_nodes=room.matching_nodes,
        free=room.free,
        largest_block=room.largest_block,
        quota=quota,
    )


def _limited(need: Need, supply: Supply) -> tuple[CapacityReason, str] | None:
    for name, resource, most in supply.limits:
        if resource == need.resource and most < need.gpus:
            told = f'LimitRange "{name}" allows a container {most} {resource}, each pod of this plan needs {need.gpus}'
            return CapacityReason.LIMIT_RANGE_TOO_SMALL, told
    return None


def _over_quota(need: Need, missing: int, quota: Quota | None) -> tuple[CapacityReason, str] | None:
    if quota is None:
        return None
    short = need.gpus * missing - (quota.hard - quota.used)
    if short <= 0:
        return None
    return CapacityReason.QUOTA_SHORT, (
        f'ResourceQuota "{quota.name}": requests.{quota.resource} hard {quota.hard}, used {quota.used}, '
        f"this plan needs {need.gpus * missing} more ({short} short)"
    )


def _room(need: Need, missing: int, supply: Supply) -> Assessment:
    if supply.nodes is None:
        return Assessment(
            reason=CapacityReason.NODES_UNREADABLE,
            message="the operator may not read nodes and their pods, so free GPUs are not known",
            headroom=None,
        )
    matching = [node for node in supply.nodes if _selects(need.selector, node.labels)]
    open_to_us = [node for node in matching if not _refusing(node, need.tolerations)]
    blocks = [(node.free(need.resource), node.name) for node in open_to_us]
    headroom = sum(free // need.gpus for free, _ in blocks)
    reason, message = _verdict(need, missing, supply.nodes, matching, blocks)
    return Assessment(
        reason=reason,
        message=message,
        headroom=headroom,
        matching_nodes=len(matching),
        free=sum(free for free, _ in blocks),
        largest_block=max((free for free, _ in blocks), default=0),
    )


def _verdict(
    need: Need, missing: int, nodes: Sequence[NodeRoom], matching: Sequence[NodeRoom], blocks: Sequence[tuple[int, str]]
) -> tuple[CapacityReason, str]:
    if sum(free // need.gpus for free, _ in blocks) >= missing:
        return PLACED.reason, PLACED.message
    autoscaled = any(label in node.labels for node in nodes for label in _NODE_AUTOSCALER_LABELS)
    suffix = "; a node autoscaler may add them" if autoscaled else ""
    if not matching:
        return CapacityReason.NO_MATCHING_NODES, _nobody(need, nodes) + suffix
    if not blocks:
        taints = sorted({_taint(taint) for node in matching for taint in _refusing(node, need.tolerations)})
        nodes_have = "the 1 matching node has" if len(matching) == 1 else f"all {len(matching)} matching nodes have"
        told = f"{nodes_have} taints that are not tolerated: {', '.join(taints)}"
        return CapacityReason.TAINTS_NOT_TOLERATED, f"{told}; {_remedy(taints)}{suffix}"
    largest, where = max(blocks)
    total = sum(free for free, _ in blocks)
    pods = "" if missing == 1 else f" for each of {missing} pods"
    wanted = f"needs {need.gpus} free GPUs on one node{pods}; largest free block is {largest} ({where})"
    fragmented = total >= need.gpus * missing
    reason = CapacityReason.GPUS_FRAGMENTED if fragmented else CapacityReason.GPUS_BUSY
    remedy = "move other pods" if fragmented else "free some"
    counted = f"{total} free in total{' (fragmented)' if fragmented else ''}"
    return reason, f"{wanted}; {counted}; {remedy}, or lower spec.gpus.count{suffix}"


def _remedy(taints: Sequence[str]) -> str:
    """Kubernetes's own taints (cordoned, not ready, under pressure) pass; others are there for somebody else."""
    if any(not taint.startswith("node.kubernetes.io/") for taint in taints):
        return "add spec.tolerations"
    if any(taint.startswith(_CORDONED) for taint in taints):
        return "run kubectl uncordon, or wait for the maintenance to end"
    return "see kubectl describe node"


def _nobody(need: Need, nodes: Iterable[NodeRoom]) -> str:
    present: dict[str, int] = {}
    for node in nodes:
        if product := node.labels.get(PRODUCT_LABEL):
            present[product] = present.get(product, 0) + sum(node.allocatable.values())
    wanted = ", ".join(f"{key}={value}" for key, value in sorted(need.selector.items()))
    there = ", ".join(f"{product} x{count}" for product, count in sorted(present.items())) or "no GPUs at all"
    return f"no node has {wanted}; present: {there}; set spec.gpus.product to one of them, or add nodes"


def _selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())


def _refusing(node: NodeRoom, tolerations: Iterable[Mapping[str, str]]) -> list[Mapping[str, str]]:
    tolerations = tuple(tolerations)
    return [
        taint
        for taint in node.taints
        if taint.get("effect") in _EVICTING and not any(_tolerates(toleration, taint) for toleration in tolerations)
    ]


def _tolerates(toleration: Mapping[str, str], taint: Mapping[str, str]) -> bool:
    """Whether a toleration covers a taint, as the scheduler reads it: an empty key or effect matches all."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("operator") == "Exists":
        return not toleration.get("key") or toleration["key"] == taint["key"]
    return toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", "")


def _taint(taint: Mapping[str, str]) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint['key']}{value}:{taint['effect']}"


def need_of(manifests: Iterable[Manifest]) -> Need | None:
    """Return what one replica of rendered manifests needs, or None when no pod of it asks for GPUs."""
    for manifest in manifests:
        if manifest["kind"] == "Deployment":
            return _need(manifest["spec"]["template"]["spec"], 1)
        if manifest["kind"] == "LeaderWorkerSet":
            group = manifest["spec"]["leaderWorkerTemplate"]
            return _need(group["workerTemplate"]["spec"], group["size"])
    return None


def _need(pod: Manifest, pods: int) -> Need | None:
    for container in pod["containers"]:
        for resource, count in container.get("resources", {}).get("limits", {}).items():
            if resource.startswith("nvidia.com/"):
                return Need(
                    gpus=int(count),
                    resource=resource,
                    pods=pods,
                    selector=pod.get("nodeSelector", {}),
                    tolerations=tuple(pod.get("tolerations", ())),
                )
    return None
