"""The objects made for one LLMDeployment: brought to what was rendered, and read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from types import MappingProxyType

from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.apply import apply, hold_replicas, prune, scale
from trtllm_operator.autoscaling import unscaled_floor
from trtllm_operator.cluster import Cluster
from trtllm_operator.download_gate import Gate, gate
from trtllm_operator.errors import NotFound
from trtllm_operator.facts import Observed, Problem
from trtllm_operator.findings import LiveObjects
from trtllm_operator.kinds import (
    AUTOSCALER_KINDS,
    CHILD_KINDS,
    CONFIG_MAP,
    JOB,
    KINDS,
    LEADER_WORKER_SET,
    LLM_DEPLOYMENT,
    REPORTING_KINDS,
    WORKLOAD_KINDS,
    Kind,
)
from trtllm_operator.observe import observe
from trtllm_operator.ownership import controller_uid
from trtllm_operator.render import Manifest, Owner
from trtllm_operator.replacement import prunable
from trtllm_operator.ssh_key import ensure_key
from trtllm_operator.upgrade import held, without_pods
from trtllm_operator.watched import Memory
from trtllm_operator.workqueue import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Children:
    """What one pass does to the objects of an LLMDeployment."""

    cluster: Cluster
    memory: Memory

    def servable(self, rendered: Iterable[Manifest]) -> list[Manifest]:
        """Return the manifests whose API the cluster has."""
        return [one for one in rendered if self.memory.absence(CHILD_KINDS[one["kind"]]) is None]

    def download_gate(self, owner: Owner, manifests: Sequence[Manifest]) -> Gate:
        """Return what of the manifests may be applied, as a download and another release's pods allow."""
        found = self._owned(owner, (JOB, *WORKLOAD_KINDS))
        download = gate(manifests, found[JOB], chain.from_iterable(found[kind] for kind in WORKLOAD_KINDS))
        if held(manifests, self.memory.child) is None:
            return download
        return replace(download, admitted=without_pods(download.admitted))

    async def bring(
        self,
        owner: Owner,
        spec: LLMDeploymentSpec,
        wanted: Kind,
        manifests: Sequence[Manifest],
        download: Gate,
        *,
        first_pass: bool,
    ) -> None:
        """Apply what may be applied and delete what is no longer among the manifests. Raises OperatorError.

        ``wanted`` is the kind that runs the pods.
        """
        earlier = held(manifests, self.memory.child)
        if not first_pass and any(self._is_missing(manifest) for manifest in download.admitted):
            await self._confirm(owner)
        await prune(self.cluster, owner, (), {JOB: download.superseded})
        if download.is_open and self._lacks_key(owner, wanted):
            await ensure_key(self.cluster, owner)
        if download.may_prune:
            # Two autoscalers fight over one workload, and KEDA refuses a workload that has one: the old one goes first.
            await prune(self.cluster, owner, manifests, self._owned(owner, AUTOSCALER_KINDS))
        admitted = download.admitted
        await apply(self.cluster, owner, admitted, self.memory.child, self.memory.observe, first_pass=first_pass)
        if not download.may_prune:
            return
        if earlier is not None:
            await self._scale(earlier, manifests)
        floor = unscaled_floor(spec.scaling, frozenset(manifest["kind"] for manifest in manifests))
        if floor is not None:
            await hold_replicas(self.cluster, self._owned(owner, (wanted,)), floor, self.memory.observe)
        unneeded = prunable(wanted, self._owned(owner, WORKLOAD_KINDS), self._observed(owner, wanted))
        if earlier is not None:
            unneeded = tuple(kind for kind in unneeded if kind is not CONFIG_MAP)
        await prune(self.cluster, owner, manifests, self._owned(owner, unneeded))

    async def _scale(self, workload: Manifest, manifests: Iterable[Manifest]) -> None:
        for manifest in manifests:
            if manifest["kind"] == workload["kind"] and "replicas" in manifest["spec"]:
                replicas = manifest["spec"]["replicas"]
                await scale(self.cluster, CHILD_KINDS[workload["kind"]], workload, replicas, self.memory.observe)

    def workload(self, key: Key, uid: str, kind: Kind) -> Manifest | None:
        """Return the live workload of a kind, unless it is somebody else's."""
        workload = self.memory.child(kind, key.namespace, key.name)
        return None if workload is None or controller_uid(workload) != uid else workload

    def observe(
        self,
        key: Key,
        uid: str,
        kinds: Iterable[Kind] = WORKLOAD_KINDS,
        unstarted: Mapping[str, Problem] = MappingProxyType({}),
    ) -> Observed | None:
        """Read the first workload of these kinds that exists, and its pods; ``unstarted`` is what Events tell."""
        for kind in kinds:
            if (workload := self.workload(key, uid, kind)) is not None:
                return observe(kind, workload, list(self.memory.pods(key)), unstarted)
        return None

    def around(
        self, key: Key, uid: str, gateway: tuple[str, str] | None, unstarted: Mapping[str, Problem]
    ) -> LiveObjects:
        """Read the objects around the workload; ``gateway`` is namespace and name of the one the spec asks for."""
        seen = ((kind, self.memory.child(kind, key.namespace, key.name)) for kind in REPORTING_KINDS)
        return LiveObjects(
            found={kind: child for kind, child in seen if child is not None and controller_uid(child) == uid},
            absent={kind: why for kind in KINDS if (why := self.memory.absence(kind)) is not None},
            gateway=None if gateway is None else self.memory.gateway(*gateway),
            jobs=tuple(self.memory.children(JOB, uid)),
            download_pods=tuple(self.memory.download_pods(key)),
            unstarted=unstarted,
            workloads=tuple(chain.from_iterable(self.memory.children(kind, uid) for kind in WORKLOAD_KINDS)),
        )

    def _lacks_key(self, owner: Owner, wanted: Kind) -> bool:
        """Whether pods may wait for the Secret of their key, which the operator cannot look up."""
        if wanted != LEADER_WORKER_SET or self.memory.absence(wanted) is not None:
            return False
        observed = self._observed(owner, wanted)
        return observed is None or not observed.settled

    def _observed(self, owner: Owner, kind: Kind) -> Observed | None:
        return self.observe(Key(owner.namespace, owner.name), owner.uid, (kind,))

    def _owned(self, owner: Owner, kinds: Iterable[Kind]) -> dict[Kind, list[Manifest]]:
        return {kind: list(self.memory.children(kind, owner.uid)) for kind in kinds}

    def _is_missing(self, manifest: Manifest) -> bool:
        kind, metadata = CHILD_KINDS[manifest["kind"]], manifest["metadata"]
        return self.memory.child(kind, metadata["namespace"], metadata["name"]) is None

    async def _confirm(self, owner: Owner) -> None:
        """Read the object itself before a lost child is made again.

        A watch can miss a deletion; then the children vanish because their owner did, and making them again would feed
        the garbage collector for ever. Raises NotFound.
        """
        live = await self.cluster.get(LLM_DEPLOYMENT, owner.namespace, owner.name)
        if live is None or live["metadata"]["uid"] != owner.uid:
            key = Key(owner.namespace, owner.name)
            self.memory.forget(key, owner.uid)
            raise NotFound(f"LLMDeployment {key} of uid {owner.uid} does not exist any more", status=404)
