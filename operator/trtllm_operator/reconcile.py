"""One pass for one LLMDeployment: read, plan, render, apply, observe, tell.

The queue hands over a key and nothing else; everything is read again. This is the only place that turns errors into
conditions. An error while writing the status leaves the pass and makes the queue come back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

from pydantic import ValidationError

from trtllm_operator.api import LLMDeploymentSpec, PlanChangePolicy
from trtllm_operator.api_status import ConditionType, LLMDeploymentStatus
from trtllm_operator.apply import differs
from trtllm_operator.approval import pending_plan
from trtllm_operator.capacity import PLACED, Assessment
from trtllm_operator.children import Children
from trtllm_operator.cluster import Cluster
from trtllm_operator.contest import contest
from trtllm_operator.download_gate import Gate
from trtllm_operator.engine_status import engine_status, keep_image_tag
from trtllm_operator.engine_versions import find_release
from trtllm_operator.errors import Conflict, InvalidObject, Leftover, NameConflict, NotFound, OperatorError
from trtllm_operator.features import features
from trtllm_operator.forecast import Forecaster, Render
from trtllm_operator.gather import gather
from trtllm_operator.kinds import CONFIG_MAP, LLM_DEPLOYMENT, WORKLOAD_KINDS
from trtllm_operator.model_files import FILES_NOT_READ, read_model_files
from trtllm_operator.naming import API_VERSION, FIELD_MANAGER, KIND
from trtllm_operator.plan import plan
from trtllm_operator.planned import Infeasible, Plan
from trtllm_operator.pod import image_tag
from trtllm_operator.pod_events import PodEvents
from trtllm_operator.recorder import Recorder
from trtllm_operator.refusals import Reason
from trtllm_operator.render import Manifest, Owner, Renderings
from trtllm_operator.rollout import RolloutPlan
from trtllm_operator.settings import Settings
from trtllm_operator.status import Outcome, parse_status, status, transitions
from trtllm_operator.upgrade import held
from trtllm_operator.watched import Memory, Supplier
from trtllm_operator.workload import workload_kind
from trtllm_operator.workqueue import Key

CHANGED_MEANWHILE = 1.0
"""Seconds until the next pass when the object changed during this one; the event of an edit makes it earlier."""

STRANGER_POLL = 5.0
"""Seconds between two looks at an object of somebody else that is in the way. The watches see only our own: one read of
one object, while it is in the way, is cheaper than a watch of every Service and ConfigMap of the cluster."""

CAPACITY_POLL = 60.0
"""Seconds between two forecasts for a replica that waits for GPUs; the scheduler itself needs nobody to remind it."""

MODEL_FILES_POLL = 15.0
"""Seconds between two looks for the model's files while they are missing."""

NODES_UNREAD = "the operator may not read nodes; set spec.gpus.product"


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass over an object whose spec can be read. ``new``: nothing has been made for the object yet."""

    key: Key
    stored: Manifest
    spec: LLMDeploymentSpec
    before: LLMDeploymentStatus
    settings: Settings
    new: bool

    @property
    def owner(self) -> Owner:
        return Owner(name=self.key.name, namespace=self.key.namespace, uid=self.uid)

    @property
    def uid(self) -> str:
        return str(self.stored["metadata"]["uid"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciler:
    """Brings one LLMDeployment one step closer to its spec. ``now`` returns UTC."""

    cluster: Cluster
    memory: Memory
    settings: Settings
    now: Callable[[], datetime]
    survey: Supplier | None = None
    recorder: Recorder = field(default_factory=Recorder)
    pod_events: PodEvents = field(default_factory=PodEvents)
    renderings: Renderings = field(default_factory=Renderings)

    async def __call__(self, key: Key) -> float | None:
        """Run one pass; the seconds until the next visit when an error may heal, else None.

        Raises OperatorError when the status cannot be written.
        """
        stored = self.memory.deployment(key)
        if stored is None or "deletionTimestamp" in stored["metadata"]:
            return None
        before = parse_status(stored.get("status"))
        new = before.observed_generation < 0 and self._children.observe(key, stored["metadata"]["uid"]) is None
        outcome = await self._step(key, stored, before, new=new)
        if new and outcome.error is None and outcome.observed is not None:
            # Told when those that wait have their children too: in a burst every pod starts before any status is told.
            return 0.0
        if outcome.error is not None and outcome.error.__class__ is NotFound:
            return None  # the namespace or the object went away in between: garbage collection does the rest
        after = status(before, key.name, stored["metadata"]["generation"], outcome, self.now())
        if _dump(after) != _dump(before) and not await self._tell(key, stored, before, after):
            return CHANGED_MEANWHILE
        return _next_visit(outcome)

    @property
    def _children(self) -> Children:
        return Children(cluster=self.cluster, memory=self.memory)

    async def _step(self, key: Key, stored: Manifest, before: LLMDeploymentStatus, *, new: bool) -> Outcome:
        try:
            spec = _parse(stored)
            verdict = await self._plan(key, spec, before)
        except OperatorError as error:
            return Outcome(observed=self._children.observe(key, stored["metadata"]["uid"]), error=error)
        run = _Pass(key, stored, spec, before, keep_image_tag(self.settings, before.engine), new)
        if isinstance(verdict, Plan):
            return await self._serve(run, verdict)
        return Outcome(verdict=verdict, observed=self._children.observe(key, run.uid))

    async def _plan(self, key: Key, spec: LLMDeploymentSpec, before: LLMDeploymentStatus) -> Plan | Infeasible:
        read = read_model_files(spec.model, await self._model_files(key, spec))
        if isinstance(read, Infeasible):
            return read
        verdict = plan(spec, gather(spec, self.memory.gpu_offers(), read), current=before.plan)
        if isinstance(verdict, Plan) or verdict.reason is not Reason.NO_GPUS:
            return verdict
        return verdict if self.memory.readable_nodes() is not None else replace(verdict, message=NODES_UNREAD)

    async def _model_files(self, key: Key, spec: LLMDeploymentSpec) -> Mapping[str, str] | None:
        """Read the ConfigMap that the spec names, which is the user's and so not among what is watched."""
        if spec.model.config_map_ref is None:
            return None
        found = await self.cluster.get(CONFIG_MAP, key.namespace, spec.model.config_map_ref.name)
        return None if found is None else found.get("data") or {}

    async def _serve(self, run: _Pass, made: Plan) -> Outcome:
        """Bring the cluster to the plan, unless somebody has to agree first or wants it left alone."""
        render = partial(self.renderings.of, run.owner, run.spec, made, run.settings)
        running = self._children.observe(run.key, run.uid)
        rollout = await self._rollout(run, made, render)
        rendering = render(rollout)
        if isinstance(rendering, Infeasible):
            return Outcome(verdict=rendering, observed=running)
        manifests = self._children.servable(rendering)
        download = self._children.download_gate(run.owner, manifests)
        if run.spec.paused:
            withheld = differs(download.admitted, self.memory.child)
            return await self._observed(run, made, Outcome(verdict=made, paused=True, withheld=withheld))
        if run.spec.plan_change_policy is PlanChangePolicy.REQUIRE_APPROVAL:
            annotations = run.stored["metadata"].get("annotations", {})
            replicas = running.wanted if running else 0
            if pending := pending_plan(run.before.plan, made, annotations, rollout, replicas):
                return Outcome(pending=pending, observed=running)
        engine = engine_status(run.key.name, run.spec, made, run.settings, held(manifests, self.memory.child))
        outcome = Outcome(verdict=made, engine=engine, rollout=rollout)
        wanted = manifests if download.is_open else download.admitted
        try:
            await self._bring(run, made, manifests, download)
            if not run.new:
                outcome = replace(outcome, capacity=await self._forecast(run, made, wanted))
        except OperatorError as error:
            outcome = replace(outcome, error=error)
        return await self._observed(run, made, outcome)

    async def _bring(self, run: _Pass, made: Plan, manifests: Sequence[Manifest], download: Gate) -> None:
        """Bring the children to what was rendered, and tell when that undid what somebody else had scaled."""
        contested = contest(manifests, self.memory.child)
        first_pass = run.before.observed_generation < 0
        await self._children.bring(run.owner, run.spec, workload_kind(made), manifests, download, first_pass=first_pass)
        if contested is not None and download.is_open:
            await self.recorder.post(self.cluster, run.key, run.uid, contested, self.now())

    async def _rollout(self, run: _Pass, made: Plan, render: Render) -> RolloutPlan:
        kind = workload_kind(made)
        live, running = (
            self._children.workload(run.key, run.uid, kind),
            self._children.observe(run.key, run.uid, (kind,)),
        )
        replicas = running.wanted if running else 0
        return await self._forecaster.rollout(run.key, run.spec.rollout, run.before.rollout, live, replicas, render)

    async def _forecast(self, run: _Pass, made: Plan, manifests: Sequence[Manifest]) -> Assessment | None:
        observed = self._children.observe(run.key, run.uid, (workload_kind(made),))
        return await self._forecaster.forecast(run.key, manifests, observed)

    @property
    def _forecaster(self) -> Forecaster:
        return Forecaster(memory=self.memory, survey=self.survey)

    async def _observed(self, run: _Pass, made: Plan, outcome: Outcome) -> Outcome:
        """Add what the cluster has now."""
        pods = (*self.memory.pods(run.key), *self.memory.download_pods(run.key))
        unstarted = await self.pod_events.unstarted(self.cluster, run.key, pods, self.now())
        kinds = WORKLOAD_KINDS if outcome.withheld else (workload_kind(made),)
        observed = self._children.observe(run.key, run.uid, kinds, unstarted.problems)
        around = features(
            name=run.key.name,
            namespace=run.key.namespace,
            spec=run.spec,
            plan=made,
            release=find_release(image_tag(run.spec, run.settings)),
            live=self._children.around(run.key, run.uid, gateway_of(run.stored), unstarted.problems),
            observed=observed,
        )
        return replace(outcome, observed=observed, features=around, revisit=unstarted.revisit)

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
            await self.recorder.post(self.cluster, key, metadata["uid"], transition, self.now())
        return True


def gateway_of(stored: Manifest) -> tuple[str, str] | None:
    """Return namespace and name of the Gateway that a stored LLMDeployment asks for."""
    wanted = ((stored.get("spec") or {}).get("expose") or {}).get("gateway")
    return None if not wanted else (wanted.get("namespace") or stored["metadata"]["namespace"], wanted["name"])


def is_planned(stored: Manifest) -> bool:
    """Whether the stored status says that a plan is in force for the spec."""
    conditions = parse_status(stored.get("status")).conditions
    return any(c.type == ConditionType.PLANNED and c.status == "True" for c in conditions)


def _next_visit(outcome: Outcome) -> float | None:
    """Return the seconds until what stopped a pass is looked at again. Raises the error that the queue retries."""
    if isinstance(outcome.error, (NameConflict, Leftover)):
        return STRANGER_POLL
    if outcome.error is not None and not isinstance(outcome.error, InvalidObject):
        raise outcome.error
    if isinstance(outcome.verdict, Infeasible) and outcome.verdict.reason in FILES_NOT_READ:
        return MODEL_FILES_POLL
    # Also when GPUs seemed free: the count may have been older than the pods that have taken them since.
    capacity = None if outcome.capacity in (None, PLACED) else CAPACITY_POLL
    return min((visit for visit in (capacity, outcome.revisit) if visit is not None), default=None)


def _parse(stored: Manifest) -> LLMDeploymentSpec:
    try:
        return LLMDeploymentSpec.model_validate(stored.get("spec", {}))
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise InvalidObject(f"spec.{path}: {first['msg']}") from error


def _dump(value: LLMDeploymentStatus) -> dict[str, Any]:
    return value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
