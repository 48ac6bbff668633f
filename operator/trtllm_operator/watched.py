"""What a pass reads, as the watches and the survey of free GPUs hold it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from trtllm_operator.capacity import Supply
from trtllm_operator.errors import ClusterError
from trtllm_operator.kinds import Kind
from trtllm_operator.pools import Offer
from trtllm_operator.render import Manifest
from trtllm_operator.workqueue import Key


class Memory(Protocol):
    """What the watches hold in memory."""

    def deployment(self, key: Key) -> Manifest | None:
        """Return the LLMDeployment, or None when it is gone."""

    def remember(self, manifest: Manifest) -> None:
        """Take a newer version of an LLMDeployment in."""

    def forget(self, key: Key, uid: str) -> None:
        """Drop an LLMDeployment of which the watch has not said yet that it was deleted."""

    def child(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """Return a child by its name."""

    def absence(self, kind: Kind) -> ClusterError | None:
        """Return why the cluster can have no child of this kind, or None when it can."""

    def gateway(self, namespace: str, name: str) -> Manifest | None:
        """Return a Gateway by its name, where the operator can see it."""

    def children(self, kind: Kind, owner_uid: str) -> Iterable[Manifest]:
        """Return the children of one kind that this owner controls."""

    def observe(self, kind: Kind, manifest: Manifest) -> None:
        """Take the answer to our own write in."""

    def pods(self, key: Key) -> Iterable[Manifest]:
        """Return the serving pods of an LLMDeployment."""

    def download_pods(self, key: Key) -> Iterable[Manifest]:
        """Return the pods that download the model of an LLMDeployment."""

    def gpu_offers(self) -> Sequence[Offer]:
        """Return what every node that has GPUs offers; nothing when nodes may not be read."""

    def readable_nodes(self) -> Iterable[Manifest] | None:
        """Return the nodes, or None when they may not be read."""


class Supplier(Protocol):
    """What tells how many GPUs are free."""

    async def supply(self, namespace: str, *, age: float) -> Supply:
        """Return what the cluster offers pods of a namespace, at most ``age`` seconds old. Raises ClusterError."""
