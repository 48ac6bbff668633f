"""From a plan to manifests. The same function serves the operator and ``trtllm-operator render``.

Which objects there are, in which order, and what each of them carries is decided here; what fills a template in the
module of its context, and how it is filled in ``manifest_templates.py``.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from trtllm_operator import engine, objects
from trtllm_operator.api import LLMDeploymentSpec, SecurityProfile
from trtllm_operator.download_gate import awaiting
from trtllm_operator.download_job import download_job
from trtllm_operator.engine_overrides import EngineRefusal
from trtllm_operator.engine_versions import find_release
from trtllm_operator.kinds import KINDS, Kind
from trtllm_operator.manifest_templates import environment, fill
from trtllm_operator.naming import API_VERSION, DIGEST_ANNOTATION, KIND
from trtllm_operator.planned import Infeasible, Plan
from trtllm_operator.pod import image_tag, serving_pod
from trtllm_operator.pod_security import HOST_PATH_VOLUMES, baseline_violations, restricted_violations
from trtllm_operator.pod_storage import host_path_refusal
from trtllm_operator.refusals import Reason
from trtllm_operator.replica import worker_refusal
from trtllm_operator.rollout import RolloutPlan, rollout_plan
from trtllm_operator.settings import Settings
from trtllm_operator.surroundings import surroundings
from trtllm_operator.upgrade import inputs_digest, stamped
from trtllm_operator.workload import pod_templates

Manifest = dict[str, Any]

Rendering = tuple[Manifest, ...] | Infeasible


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The LLMDeployment the manifests belong to; ``uid`` is empty when rendered offline."""

    name: str
    namespace: str
    uid: str = ""


def render(
    owner: Owner, spec: LLMDeploymentSpec, plan: Plan, settings: Settings, rollout: RolloutPlan | None = None
) -> Rendering:
    """Return the manifests that serve this plan, in the order they are applied, or why none may be.

    An object that is not wanted is not rendered; pruning removes it. Without ``rollout`` nothing runs yet. No manifest
    leaves here whose pod breaks the spec's Pod Security Standard.
    """
    rollout = rollout or rollout_plan(spec.rollout)
    release = find_release(image_tag(spec, settings))
    run = engine.command(owner.name, spec, plan, release)
    if isinstance(run, EngineRefusal):
        return Infeasible(reason=run.reason, message=run.message, model=plan.model)
    refusal = worker_refusal(plan) or host_path_refusal(spec, plan, settings)
    if refusal is not None:
        return refusal
    pod = serving_pod(owner.name, spec, plan, run, settings)
    contexts = {
        "ConfigMap": objects.config_map(owner.name, owner.namespace, plan, run),
        "PersistentVolumeClaim": objects.volume_claim(owner.name, owner.namespace, spec),
        "Job": download_job(owner.name, owner.namespace, spec, plan, settings, pod),
        "Deployment": objects.deployment(owner.name, owner.namespace, spec, plan, settings, pod, rollout.strategy),
        "LeaderWorkerSet": objects.leader_worker_set(
            owner.name, owner.namespace, owner.uid, spec, plan, pod, rollout.group_strategy
        ),
        **surroundings(owner.name, owner.namespace, spec, plan, release, settings),
    }
    filled = [_manifest(kind, context) for kind in KINDS if (context := contexts[kind.kind]) is not None]
    inputs = inputs_digest(spec, plan, image_tag(spec, settings))
    manifests = tuple(_owned(manifest, owner) for manifest in stamped(awaiting(filled), inputs))
    return _insecure(manifests, spec, plan, settings) or manifests


def _insecure(
    manifests: tuple[Manifest, ...], spec: LLMDeploymentSpec, plan: Plan, settings: Settings
) -> Infeasible | None:
    """Refuse pods that break the spec's Pod Security Standard, but for what the administrator allows."""
    restricted = spec.security_profile is SecurityProfile.RESTRICTED
    violations = restricted_violations if restricted else baseline_violations
    allowed = {HOST_PATH_VOLUMES} if settings.allow_host_path and not restricted else set()
    templates = [template for manifest in manifests for template in pod_templates(manifest)]
    broken = [found for pod in templates for found in violations(pod) if found.control not in allowed]
    if not broken:
        return None
    told = "; ".join(f"{control}: {detail}" for control, detail in broken)
    return Infeasible(
        reason=Reason.POD_SECURITY_VIOLATION,
        message=f"the pods would break {'Restricted' if restricted else 'Baseline'}: {told}",
        model=plan.model,
    )


_Inputs = tuple[LLMDeploymentSpec, Plan, Settings, Manifest]


class Renderings:
    """Remembers what was rendered last for an object: one change is followed by several events, and passes.

    Holds the ``limit`` objects that were rendered or asked for last, their manifests as text: a quarter of the memory,
    and read in a twentieth of the time it takes to render them.
    """

    def __init__(self, limit: int = 2048) -> None:
        self._limit = limit
        self._known: OrderedDict[Owner, tuple[_Inputs, str | Infeasible]] = OrderedDict()

    def of(
        self, owner: Owner, spec: LLMDeploymentSpec, plan: Plan, settings: Settings, rollout: RolloutPlan
    ) -> Rendering:
        """Return the manifests, or the refusal; rendered when anything they are made from differs from the last time.

        Why replicas are replaced in this way is no part of them.
        """
        inputs = (spec, plan, settings, rollout.strategy)
        known = self._known.pop(owner, None)
        if known is None or known[0] != inputs:
            rendering = render(owner, spec, plan, settings, rollout)
            known = (inputs, rendering if isinstance(rendering, Infeasible) else json.dumps(rendering))
        self._known[owner] = known
        if len(self._known) > self._limit:
            self._known.popitem(last=False)
        remembered = known[1]
        return remembered if isinstance(remembered, Infeasible) else tuple(json.loads(remembered))


def _manifest(kind: Kind, context: object) -> Manifest:
    return fill(environment().get_template(f"{kind.kind.lower()}.yaml.j2"), context)


def _owned(manifest: Manifest, owner: Owner) -> Manifest:
    """Add what every child carries: the digest of its own content and, in a cluster, its controller."""
    content = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    metadata = {
        **manifest["metadata"],
        "annotations": {
            **manifest["metadata"].get("annotations", {}),
            DIGEST_ANNOTATION: hashlib.sha256(content.encode()).hexdigest()[:16],
        },
    }
    if owner.uid:
        metadata["ownerReferences"] = owner_references(owner)
    return {**manifest, "metadata": metadata}


def owner_references(owner: Owner) -> list[dict[str, Any]]:
    """Return the reference by which the owner controls a child."""
    return [
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": owner.name,
            "uid": owner.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
