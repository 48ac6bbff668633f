"""The invariants that hold after every scenario, whatever was done to the operator.

O1 end state, O2 creates and deletes, O3 rest, O4 no orphans, O5 clean log, O6 truthful status, O7 strangers untouched,
O8 request budget, O9 availability, O10 time, O11 a restart changes nothing, O12 no right missing.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from control_plane import Manifest, wait_until
from faults.stand import Scene
from faults.trace import Place
from trtllm_operator.findings import FeatureReason
from trtllm_operator.kinds import KINDS, LLM_DEPLOYMENT, SECRET, WORKLOAD_KINDS
from trtllm_operator.naming import (
    DIGEST_ANNOTATION,
    FIELD_MANAGER,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    NAME_LABEL,
    REPAIR_MANAGER,
    REPLICAS_MANAGER,
    key_secret_name,
)
from trtllm_operator.plan import Reason
from trtllm_operator.pod_problems import ProblemReason
from trtllm_operator.status import StatusReason

MEMORY_LIMIT = 150 * 2**20
"""Bytes an operator with a handful of objects may hold."""

_RETRIED = re.compile(r"kopf\._cogs\S*: Request attempt #\d+/\d+ failed; will retry")
"""kopf calls a request that it is going to repeat an error."""

_DIRTY = re.compile(r"Traceback|Task exception was never retrieved| (?:ERROR|CRITICAL) ")
_SERVER_SET = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")
_MADE = (*KINDS, SECRET)
_CHILD_KINDS = frozenset(kind.kind for kind in _MADE)
_HISTORY = ("capacity", "lastFailure", "rollout")
"""Parts of a status that tell what was counted, decided and survived on the way."""
_MANAGERS = {FIELD_MANAGER, REPLICAS_MANAGER, REPAIR_MANAGER}
_PASSING = ("clusterIP", "clusterIPs", "rolloutStrategy", "strategy")
"""Parts of a spec that the API server chooses, or that were decided for the last edit."""

_REVISION = "deployment.kubernetes.io/revision"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a scenario does on purpose, so that the oracles expect it.

    ``recreated``: how often each child was created, where it is not once. ``deleted``: children the operator deletes,
    and how often. ``differs``: parts of the end state that a fresh create would not have, as ``Kind name.path``.
    ``available``: availability never drops below it. ``writes``: at most so many. ``forbidden``: requests were, on
    purpose. ``log``: lines of the log that are expected. ``quiet`` and ``within``: how long nothing may happen, and how
    long to wait for that, in seconds.
    """

    name: str = "llama"
    ready: bool = True
    quiet: float = 1.0
    within: float = 60.0
    recreated: Mapping[Place, int] = field(default_factory=dict)
    deleted: Mapping[Place, int] = field(default_factory=dict)
    differs: tuple[str, ...] = ()
    available: int | None = None
    writes: int | None = None
    forbidden: bool = False
    log: str = ""
    restart: bool = True


def assert_converged(scene: Scene, **expected: Any) -> None:
    """Wait until the scene is at rest (O3, O10) and assert every other invariant."""
    expectation = Expectation(**expected)
    scene.quiet(expectation.quiet, within=expectation.within)
    _end_state(scene, expectation)
    _creates_and_deletes(scene, expectation)
    _no_orphans(scene)
    _clean_log(scene, expectation)
    _truthful_status(scene, expectation)
    _untouched(scene)
    _budget(scene, expectation)
    _available(scene, expectation)
    _nothing_forbidden(scene, expectation)
    if expectation.restart:
        _restart_changes_nothing(scene, expectation)


def assert_gone(scene: Scene, *, quiet: float = 1.5, within: float = 60.0) -> None:
    """Wait until nothing that the operator made is left, and assert what holds without an LLMDeployment."""
    wait_until(lambda: not _managed(scene), within, what=lambda: f"left: {_managed(scene)}")
    scene.quiet(quiet, within=within)
    assert _managed(scene) == []
    _clean_log(scene, Expectation())
    _nothing_forbidden(scene, Expectation())


def snapshot(scene: Scene, name: str) -> Manifest:
    """Return the end state of one LLMDeployment, without what differs from run to run.

    An autoscaler looks at the load every 15 s, and only then is it known whether it can scale.
    """

    def scaling() -> Manifest:
        return scene.namespace.condition("ScalingReady", name)

    wait_until(lambda: scaling().get("status") != "Unknown", 60, what=lambda: f"O3: {scaling()}")
    stored = scene.namespace.get("llmd", name)
    uid = stored["metadata"]["uid"]
    children = {
        f"{child['kind']} {child['metadata']['name']}": _masked(child, uid)
        for child in _children(scene)
        if uid in _owners(child)
    }
    serving = scene.namespace.list("pods", selector=f"{NAME_LABEL}={name}")
    pods = [pod for pod in serving if "deletionTimestamp" not in pod["metadata"]]
    state = {"LLMDeployment": {"status": _undated(stored["status"])}, "pods": len(pods), **children}
    text = json.dumps(state, sort_keys=True).replace(scene.namespace.name, "NAMESPACE")
    told: Manifest = json.loads(text.replace(key_secret_name(name, uid), key_secret_name(name, "UID")))
    return told


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Name every path at which two JSON documents differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            line
            for key in sorted(one.keys() | other.keys())
            for line in differences(one.get(key), other.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if one == other else [f"{path}: {one!r} is not {other!r}"]


def _end_state(scene: Scene, expectation: Expectation) -> None:
    name = expectation.name
    spec = scene.namespace.get("llmd", name)["spec"]
    wanted = scene.stand.reference(name, spec, snapshot, ready=expectation.ready)
    found = [
        line
        for line in differences(snapshot(scene, name), wanted)
        if not any(line.startswith(allowed) for allowed in expectation.differs)
    ]
    assert not found, "O1: not the state a fresh create ends in:\n" + "\n".join(found)
    if expectation.ready:
        assert scene.namespace.condition("Ready", name).get("status") == "True", "O1: not Ready"


def _creates_and_deletes(scene: Scene, expectation: Expectation) -> None:
    created, deleted = Counter[Place](), Counter[Place]()
    for entry in scene.audit_writes():
        reference, code = entry["objectRef"], entry.get("responseStatus", {}).get("code")
        if reference.get("subresource") or reference["resource"] in ("events", "leases"):
            continue
        place = _KIND_OF[reference["resource"]], reference.get("name", "")
        if entry["verb"] in ("create", "patch") and code == 201:
            created[place] += 1
        if entry["verb"] == "delete" and code == 200:
            deleted[place] += 1
    uid = scene.namespace.get("llmd", expectation.name)["metadata"]["uid"]
    once = {(child["kind"], child["metadata"]["name"]): 1 for child in _children(scene) if uid in _owners(child)}
    # A ConfigMap is named by its content, so each template that was edited away had one of its own.
    former = {p: 1 for p in created if p[0] == "ConfigMap" and p not in {**once, **expectation.recreated}}
    assert dict(created) == {**once, **former, **expectation.recreated}, "O2: creates"
    assert dict(deleted) == {**former, **expectation.deleted}, "O2: deletes"


_KIND_OF = {kind.plural: kind.kind for kind in (*_MADE, LLM_DEPLOYMENT)}


def _no_orphans(scene: Scene) -> None:
    owners = {item["metadata"]["uid"] for item in scene.namespace.list("llmdeployments")}
    orphans = [child["metadata"]["name"] for child in _managed(scene) if not owners & set(_owners(child))]
    assert orphans == [], "O4: orphans"


def _clean_log(scene: Scene, expectation: Expectation) -> None:
    allowed = re.compile(expectation.log) if expectation.log else None
    dirty = [
        line
        for replica in scene.replicas
        for line in replica.process.log.splitlines()
        if _DIRTY.search(line) and not _RETRIED.search(line) and not (allowed and allowed.search(line))
    ]
    assert dirty == [], "O5: the log"
    memory = {replica.name: replica.process.rss for replica in scene.replicas}
    assert max(memory.values()) < MEMORY_LIMIT, f"O5: bytes held: {memory}"


def _truthful_status(scene: Scene, expectation: Expectation) -> None:
    dated: dict[tuple[str, str], tuple[str, str]] = {}
    sound: dict[str, float] = {}
    for happening, world in scene.trace.states():
        for place, item in world.items():
            if place[0] == "LLMDeployment" and _is_served(item, world):
                sound[place[1]] = happening.at
        if happening.kind == "LLMDeployment" and not happening.deleted:
            _assert_truthful(happening.manifest, dated)
            if _truth(happening.manifest, "Ready") == "True" and _is_current(happening.manifest):
                lag = happening.at - sound.get(happening.name, 0.0)
                assert lag < 2.0, f"O6: Ready {lag:.1f} s after it was last true: {happening.manifest['status']}"
    last = scene.namespace.get("llmd", expectation.name)
    assert _is_current(last), "O6: the newest generation was not observed"


def _assert_truthful(stored: Manifest, dated: dict[tuple[str, str], tuple[str, str]]) -> None:
    status, uid = stored.get("status", {}), stored["metadata"]["uid"]
    assert status.get("observedGeneration", -1) <= stored["metadata"]["generation"], "O6: ahead of its generation"
    conditions = status.get("conditions", [])
    now = {(uid, c["type"]): (c["status"], c.get("lastTransitionTime", "")) for c in conditions}
    anew = [key[1] for key, told in now.items() if key in dated and dated[key][0] == told[0] and dated[key] != told]
    assert anew == [], "O6: dated anew without a change"
    for key in [key for key in dated if key[0] == uid]:
        del dated[key]  # a condition that is gone for a while is dated anew when it comes back
    dated.update(now)
    for condition in conditions:
        if condition["type"] == "Stalled" and condition["status"] == "True":
            assert condition["reason"] in _REASONS, f"O6: unknown reason {condition['reason']}"


_REASONS = {reason.value for reason in (*Reason, *StatusReason, *ProblemReason, *FeatureReason)}


def _is_current(stored: Manifest) -> bool:
    observed: int = stored.get("status", {}).get("observedGeneration", -1)
    return observed == stored["metadata"]["generation"]


def _is_served(stored: Manifest, world: Mapping[Place, Manifest]) -> bool:
    """Whether the Service is there and a workload of which every replica is of its newest generation and ready."""
    name, uid = stored["metadata"]["name"], stored["metadata"]["uid"]
    workloads = (world.get((kind.kind, name)) for kind in WORKLOAD_KINDS)
    ours = [workload for workload in workloads if workload is not None and uid in _owners(workload)]
    return ("Service", name) in world and any(is_settled(workload) for workload in ours)


def is_settled(workload: Manifest) -> bool:
    """Whether every replica of a Deployment or a LeaderWorkerSet is of its newest generation and ready."""
    status, wanted = workload.get("status", {}), workload["spec"].get("replicas", 1)
    # An available pod of a Deployment is a ready one here: minReadySeconds is 0.
    counted = {status.get(key, 0) for key in ("updatedReplicas", "readyReplicas")}
    return counted == {wanted} and status.get("observedGeneration", 0) >= workload["metadata"]["generation"]


def _untouched(scene: Scene) -> None:
    """An object that never was ours holds no field of ours in its last version; of the user's, we write the status."""
    ours, last = set[str](), dict[str, Manifest]()
    for happening in scene.trace.happenings:
        if happening.kind in _CHILD_KINDS:
            uid = happening.manifest["metadata"]["uid"]
            last[uid] = happening.manifest
            if any(reference["kind"] == "LLMDeployment" for reference in _references(happening.manifest)):
                ours.add(uid)
    touched = [
        f"{stranger['kind']} {stranger['metadata']['name']}"
        for uid, stranger in last.items()
        if uid not in ours and {entry["manager"] for entry in stranger["metadata"]["managedFields"]} & _MANAGERS
    ]
    assert touched == [], "O7: objects of strangers"
    references = [entry["objectRef"] for entry in scene.audit_writes()]
    asked = [
        one for one in references if one["resource"] == LLM_DEPLOYMENT.plural and one.get("subresource") != "status"
    ]
    assert asked == [], "O7: the user's object"


def _budget(scene: Scene, expectation: Expectation) -> None:
    if expectation.writes is None:
        return
    told = _told(scene.audit_writes())
    assert len(told) <= expectation.writes, f"O8: {len(told)} writes: {told}"


def _available(scene: Scene, expectation: Expectation) -> None:
    if expectation.available is None:
        return
    reached = False
    for _, world in scene.trace.states():
        workloads = (world.get((kind.kind, expectation.name), {}) for kind in WORKLOAD_KINDS)
        available = sum(workload.get("status", {}).get("readyReplicas", 0) for workload in workloads)
        reached = reached or available >= expectation.available
        assert not reached or available >= expectation.available, f"O9: {available} available"
    assert reached, f"O9: {expectation.available} were never available"


def _nothing_forbidden(scene: Scene, expectation: Expectation) -> None:
    if expectation.forbidden:
        return
    refused = [
        entry["requestURI"]
        for entry in scene.audit()
        if entry.get("responseStatus", {}).get("code") == 403
        and "because it is being terminated" not in entry["responseStatus"].get("message", "")
    ]
    assert refused == [], f"O12: {refused}"


def _restart_changes_nothing(scene: Scene, expectation: Expectation) -> None:
    count = len(scene.audit_writes())
    scene.restart()
    scene.quiet(min(expectation.quiet, 1.0))
    written = _told(scene.audit_writes()[count:])
    assert written == [], f"O11: a restart wrote {written}"


def _told(entries: Iterable[Manifest]) -> list[str]:
    return [f"{entry['verb']} {entry['requestURI']}" for entry in entries]


def _children(scene: Scene) -> list[Manifest]:
    return scene.namespace.list(*(kind.plural for kind in _MADE))


def _managed(scene: Scene) -> list[Manifest]:
    return scene.namespace.list(*(kind.plural for kind in _MADE), selector=f"{MANAGED_BY_LABEL}={MANAGED_BY}")


def _references(manifest: Manifest) -> list[Manifest]:
    references: list[Manifest] = manifest["metadata"].get("ownerReferences", [])
    return references


def _owners(manifest: Manifest) -> list[str]:
    return [reference["uid"] for reference in _references(manifest)]


def _truth(stored: Manifest, kind: str) -> str:
    conditions = stored.get("status", {}).get("conditions", [])
    return next((str(c["status"]) for c in conditions if c["type"] == kind), "")


def _bare(manifest: Manifest) -> Manifest:
    """Return an object without what the API server keeps about it."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in _SERVER_SET}
    return {**{key: manifest.get(key) for key in ("spec", "data")}, "metadata": metadata}


def _masked(child: Manifest, owner: str) -> Manifest:
    """Return a child without what the API server sets and what names the namespace."""
    bare = _bare(child)
    annotations = dict(bare["metadata"].get("annotations", {}))
    annotations.pop(_REVISION, None)
    if DIGEST_ANNOTATION in annotations:
        annotations[DIGEST_ANNOTATION] = "DIGEST"  # it covers the namespace
    spec = {key: value for key, value in (bare.get("spec") or {}).items() if key not in _PASSING}
    told = {**bare, "spec": spec, "metadata": {**bare["metadata"], "annotations": annotations}}
    if child["kind"] == SECRET.kind:
        told["data"] = sorted(bare["data"])  # a key is random
    masked: Manifest = json.loads(json.dumps(told).replace(owner, "OWNER"))
    return masked


def _undated(status: Manifest) -> Manifest:
    """Return a status without times, generations and history: an object that was edited is older than a fresh one."""
    undated = ("lastTransitionTime", "observedGeneration", *_HISTORY)
    conditions = {
        condition["type"]: {key: value for key, value in condition.items() if key not in undated}
        for condition in status.get("conditions", [])
    }
    return {**{key: value for key, value in status.items() if key not in undated}, "conditions": conditions}
