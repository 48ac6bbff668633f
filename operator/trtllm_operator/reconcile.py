"""One pass for one LLMDeployment: read, plan, render, apply, observe, tell.

The queue hands over a key and nothing else; everything is read again. This is the only place that turns errors into
conditions. An error while writing the status leaves the pass and makes the queue come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from pydantic import ValidationError

from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.api_status import ConditionType, LLMDeploymentStatus
from trtllm_operator.apply import apply, hold_replicas, prune
from trtllm_operator.autoscaling import unscaled_floor
from trtllm_operator.cluster import Cluster
from trtllm_operator.engine_versions import find_release
from trtllm_operator.errors import ClusterError, Conflict, InvalidObject, NotFound, OperatorError
from trtllm_operator.facts import Observed
from trtllm_operator.features import Features, features
from trtllm_operator.findings import LiveObjects
from trtllm_operator.gather import gather
from trtllm_operator.kinds import (
    AUTOSCALER_KINDS,
    CHILD_KINDS,
    DEPLOYMENT,
    EVENT,
    KINDS,
    LLM_DEPLOYMENT,
    REPORTING_KINDS,
    WORKLOAD_KINDS,
    Kind,
)
from trtllm_operator.naming import API_VERSION, FIELD_MANAGER, KIND
from trtllm_operator.objects import image_tag
from trtllm_operator.observe import observe
from trtllm_operator.ownership import controller_uid
from trtllm_operator.plan import plan
from trtllm_operator.planned import Infeasible, Plan
from trtllm_operator.render import Manifest, Owner, Renderings
from trtllm_operator.servable import servable
from trtllm_operator.settings import Settings
from trtllm_operator.status import Outcome, Transition, parse_status, status, transitions
from trtllm_operator.workqueue import Key

CHANGED_MEANWHILE = 1.0
"""Seconds until the next pass when the object changed during this one; the event of an edit makes it earlier."""


class Memory(Protocol):
    """What the watches hold in memory."""

    def deployment(self, key: Key) -> Manifest | None:
        """Return the LLMDeployment, or None when it is gone."""

    def remember(self, manifest: Manifest) -> None:
        """Take a newer version of an LLMDeployment in."""

    def forget(self, key: Key, uid: str) -> None:
        """Drop an LLMDeployment of which the watch never said that it was deleted."""

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

    def gpu_nodes(self) -> Sequence[Mapping[str, str]]:
        """Return the labels of every node that has GPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciler:
    """Brings one LLMDeployment one step closer to its spec. ``now`` returns UTC."""

    cluster: Cluster
    memory: Memory
    settings: Settings
    now: Callable[[], datetime]
    renderings: Renderings = field(default_factory=Renderings)

    async def __call__(self, key: Key) -> float | None:
        """Run one pass; the seconds until the next visit when an error may heal, else None.

        Raises OperatorError when the status cannot be written.
        """
        stored = self.memory.deployment(key)
        if stored is None or "deletionTimestamp" in stored["metadata"]:
            return None
        before = parse_status(stored.get("status"))
        new = before.observed_generation < 0 and self._observe(key, stored) is None
        outcome = await self._step(key, stored, before)
        if new and outcome.error is None and outcome.observed is not None:
            # Told when those that wait have their children too: in a burst every pod starts before any status is told.
            return 0.0
        if outcome.error is not None and outcome.error.__class__ is NotFound:
            return None  # the namespace or the object went away in between: garbage collection does the rest
        generation = stored["metadata"]["generation"]
        after = status(before, key.name, generation, outcome, self.now())
        if _dump(after) != _dump(before) and not await self._tell(key, stored, before, after):
            return CHANGED_MEANWHILE
        if outcome.error is not None and not isinstance(outcome.error, InvalidObject):
            raise outcome.error
        return None

    async def _step(self, key: Key, stored: Manifest, before: LLMDeploymentStatus) -> Outcome:
        spec: LLMDeploymentSpec | None = None
        verdict: Plan | Infeasible | None = None
        failure: OperatorError | None = None
        try:
            spec = _parse(stored)
            verdict = servable(plan(spec, gather(spec, self.memory.gpu_nodes()), current=before.plan))
            if isinstance(verdict, Plan):
                await self._apply(key, stored, spec, verdict, first_pass=before.observed_generation < 0)
        except OperatorError as error:
            failure = error
        observed = self._observe(key, stored)
        around = None
        if spec is not None and isinstance(verdict, Plan):
            around = self._features(key, stored, spec, verdict, observed)
        return Outcome(verdict=verdict, observed=observed, features=around, error=failure)

    async def _apply(
        self, key: Key, stored: Manifest, spec: LLMDeploymentSpec, made: Plan, *, first_pass: bool
    ) -> None:
        owner = Owner(name=key.name, namespace=key.namespace, uid=stored["metadata"]["uid"])
        rendered = self.renderings.of(owner, spec, made, self.settings)
        manifests = [one for one in rendered if self.memory.absence(CHILD_KINDS[one["kind"]]) is None]
        if not first_pass and any(self._is_missing(manifest) for manifest in manifests):
            await self._confirm(key, owner)
        # Two autoscalers fight over one workload, and KEDA refuses a workload that has one: the old one goes first.
        await prune(self.cluster, owner, manifests, self._owned(owner, AUTOSCALER_KINDS))
        await apply(self.cluster, owner, manifests, self.memory.child, self.memory.observe, first_pass=first_pass)
        floor = unscaled_floor(spec.scaling, frozenset(manifest["kind"] for manifest in manifests))
        if floor is not None:
            workloads = self._owned(owner, WORKLOAD_KINDS)
            await hold_replicas(self.cluster, workloads, floor, self.memory.observe)
        await prune(self.cluster, owner, manifests, self._owned(owner, KINDS))

    def _owned(self, owner: Owner, kinds: Iterable[Kind]) -> dict[Kind, list[Manifest]]:
        return {kind: list(self.memory.children(kind, owner.uid)) for kind in kinds}

    def _features(
        self, key: Key, stored: Manifest, spec: LLMDeploymentSpec, made: Plan, observed: Observed | None
    ) -> Features:
        uid = stored["metadata"]["uid"]
        seen = ((kind, self.memory.child(kind, key.namespace, key.name)) for kind in REPORTING_KINDS)
        wanted = gateway_of(stored)
        live = LiveObjects(
            found={kind: child for kind, child in seen if child is not None and controller_uid(child) == uid},
            absent={kind: why for kind in KINDS if (why := self.memory.absence(kind)) is not None},
            gateway=None if wanted is None else self.memory.gateway(*wanted),
        )
        return features(
            name=key.name,
            namespace=key.namespace,
            spec=spec,
            plan=made,
            release=find_release(image_tag(spec, self.settings)),
            live=live,
            observed=observed,
        )

    def _is_missing(self, manifest: Manifest) -> bool:
        kind, metadata = CHILD_KINDS[manifest["kind"]], manifest["metadata"]
        return self.memory.child(kind, metadata["namespace"], metadata["name"]) is None

    async def _confirm(self, key: Key, owner: Owner) -> None:
        """Read the object itself before a lost child is made again.

        A watch can miss a deletion; then the children vanish because their owner did, and making them again would feed
        the garbage collector for ever. Raises NotFound.
        """
        live = await self.cluster.get(LLM_DEPLOYMENT, key.namespace, key.name)
        if live is None or live["metadata"]["uid"] != owner.uid:
            self.memory.forget(key, owner.uid)
            raise NotFound(f"LLMDeployment {key} of uid {owner.uid} does not exist any more", status=404)

    def _observe(self, key: Key, stored: Manifest) -> Observed | None:
        workload = self.memory.child(DEPLOYMENT, key.namespace, key.name)
        if workload is not None and controller_uid(workload) != stored["metadata"]["uid"]:
            workload = None
        return observe(workload, list(self.memory.pods(key)))

    async def _tell(self, key: Key, stored: Manifest, before: LLMDeploymentStatus, after: LLMDeploymentStatus) -> bool:
        """Write the status; False when the object is not the version it was computed for any more."""
        metadata = stored["metadata"]
        manifest = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": key.name,
                "namespace": key.namespace,
                "uid": metadata["uid"],
                # A watch that goes on from an old version tells old statuses first: what follows from them is late.
                "resourceVersion": metadata["resourceVersion"],
            },
            "status": _dump(after),
        }
        try:
            written = await self.cluster.apply_status(LLM_DEPLOYMENT, manifest, manager=FIELD_MANAGER)
        except NotFound:
            return True  # deleted: there is nobody to tell
        except Conflict:
            return False
        self.memory.remember(written)
        for transition in transitions(before, after):
            await self._post(key, metadata["uid"], transition)
        return True

    async def _post(self, key: Key, uid: str, transition: Transition) -> None:
        stamp = self.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"generateName": f"{key.name}.", "namespace": key.namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": key.name,
                "namespace": key.namespace,
                "uid": uid,
            },
            "type": transition.type,
            "reason": transition.reason,
            "message": transition.message[:1024],
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }
        try:
            await self.cluster.create(EVENT, event)
        except OperatorError:
            return  # an event tells a story; losing one must not repeat the pass


def gateway_of(stored: Manifest) -> tuple[str, str] | None:
    """Return namespace and name of the Gateway that a stored LLMDeployment asks for."""
    wanted = ((stored.get("spec") or {}).get("expose") or {}).get("gateway")
    return None if not wanted else (wanted.get("namespace") or stored["metadata"]["namespace"], wanted["name"])


def is_planned(stored: Manifest) -> bool:
    """Whether the stored status says that a plan is in force for the spec."""
    conditions = parse_status(stored.get("status")).conditions
    return any(c.type == ConditionType.PLANNED and c.status == "True" for c in conditions)


def _parse(stored: Manifest) -> LLMDeploymentSpec:
    try:
        return LLMDeploymentSpec.model_validate(stored.get("spec", {}))
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise InvalidObject(f"spec.{path}: {first['msg']}") from error


def _dump(value: LLMDeploymentStatus) -> dict[str, Any]:
    return value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
