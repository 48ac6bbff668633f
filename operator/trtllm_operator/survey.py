"""How many GPUs are free now: read when somebody waits for GPUs, and never otherwise.

A watch of every pod of the cluster would tell the same at a price that grows with pods that have no GPU. The pods'
requests are listed page by page, kept for a few seconds, and shared by all who ask meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from trtllm_operator.capacity import NodeRoom, Quota, Supply
from trtllm_operator.cluster import Cluster
from trtllm_operator.errors import Forbidden
from trtllm_operator.kinds import LIMIT_RANGE, POD, RESOURCE_QUOTA

Manifest = dict[str, Any]

_GPU_PREFIX = "nvidia.com/"
_ON_A_NODE = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"
_PAGE = 100
"""Pods held at once while adding up; some 10 kB each."""

_MOST_NAMESPACES = 256

Requests = Mapping[str, Mapping[str, int]]
"""GPUs requested, by node and resource."""


class Survey:
    """What the cluster offers. ``nodes`` returns the nodes, None when unreadable; ``clock`` is monotonic seconds."""

    def __init__(
        self, cluster: Cluster, nodes: Callable[[], Iterable[Manifest] | None], *, clock: Callable[[], float]
    ) -> None:
        self._cluster = cluster
        self._nodes = nodes
        self._clock = clock
        self._requests: tuple[float, Requests | None] | None = None
        self._rules: dict[str, tuple[float, Supply]] = {}
        self._reading = asyncio.Lock()

    async def supply(self, namespace: str, *, age: float) -> Supply:
        """Return nodes with their free GPUs, and the namespace's quotas and limits, at most ``age`` seconds old.

        Raises ClusterError.
        """
        async with self._reading:
            rules = await self._rules_of(namespace, age)
            nodes = self._nodes()
            requests = None if nodes is None else await self._current_requests(age)
        if nodes is None or requests is None:
            return Supply(nodes=None, quotas=rules.quotas, limits=rules.limits)
        rooms = tuple(_room(node, requests.get(node["metadata"]["name"], {})) for node in nodes)
        return Supply(nodes=rooms, quotas=rules.quotas, limits=rules.limits)

    async def _current_requests(self, age: float) -> Requests | None:
        if self._requests is None or self._clock() - self._requests[0] > age:
            try:
                self._requests = (self._clock(), await self._add_up())
            except Forbidden:
                self._requests = (self._clock(), None)
        return self._requests[1]

    async def _add_up(self) -> Requests:
        requested: dict[str, Counter[str]] = {}
        async for page in self._cluster.pages(POD, fields=_ON_A_NODE, limit=_PAGE):
            for pod in page:
                if wanted := gpu_requests(pod["spec"]):
                    requested.setdefault(pod["spec"]["nodeName"], Counter()).update(wanted)
        return requested

    async def _rules_of(self, namespace: str, age: float) -> Supply:
        known = self._rules.get(namespace)
        if known is None or self._clock() - known[0] > age:
            quotas, _ = await self._cluster.list(RESOURCE_QUOTA, namespace)
            limits, _ = await self._cluster.list(LIMIT_RANGE, namespace)
            known = (self._clock(), Supply(nodes=None, quotas=tuple(_quotas(quotas)), limits=tuple(_limits(limits))))
            self._rules[namespace] = known
            if len(self._rules) > _MOST_NAMESPACES:
                del self._rules[min(self._rules, key=lambda place: self._rules[place][0])]
        return known[1]


def gpu_requests(pod: Manifest) -> Mapping[str, int]:
    """Return the GPUs a pod spec asks for, by resource. Init containers run before the others: the larger counts."""
    running = _sum(pod.get("containers", ()))
    first: Counter[str] = Counter()
    for container in pod.get("initContainers", ()):
        first |= _sum([container])
    return running | first


def _sum(containers: Iterable[Manifest]) -> Counter[str]:
    wanted: Counter[str] = Counter()
    for container in containers:
        for resource, count in container.get("resources", {}).get("limits", {}).items():
            if resource.startswith(_GPU_PREFIX):
                wanted[resource] += int(count)
    return wanted


def _room(node: Manifest, requested: Mapping[str, int]) -> NodeRoom:
    offered = node["status"]["allocatable"]
    return NodeRoom(
        name=node["metadata"]["name"],
        labels=node["metadata"]["labels"],
        allocatable={key: int(count) for key, count in offered.items() if key.startswith(_GPU_PREFIX)},
        requested=requested,
        taints=tuple(node["spec"].get("taints", ())),
    )


def _quotas(manifests: Iterable[Manifest]) -> Iterable[Quota]:
    for manifest in manifests:
        status = manifest.get("status", {})
        for key, hard in status.get("hard", {}).items():
            resource = key.removeprefix("requests.")
            if resource.startswith(_GPU_PREFIX):
                used = int(status.get("used", {}).get(key, 0))
                yield Quota(name=manifest["metadata"]["name"], resource=resource, hard=int(hard), used=used)


def _limits(manifests: Iterable[Manifest]) -> Iterable[tuple[str, str, int]]:
    for manifest in manifests:
        for limit in manifest["spec"].get("limits", ()):
            for resource, most in limit.get("max", {}).items():
                if resource.startswith(_GPU_PREFIX):
                    yield manifest["metadata"]["name"], resource, int(most)
