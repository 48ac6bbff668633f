"""What another release of the operator changes of pods that serve: nothing, until the user edits the object.

A release may render a pod otherwise than the one before. A workload says which release rendered it and from what; while
that stays what was asked for, only its count of replicas is touched, and the files its pods start from are kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from trtllm_operator import __version__
from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.kinds import CHILD_KINDS, CONFIG_MAP, Kind
from trtllm_operator.naming import INPUTS_ANNOTATION, RELEASE_ANNOTATION
from trtllm_operator.plan_status import SERVED, plan_status
from trtllm_operator.planned import Plan
from trtllm_operator.workload import WORKLOADS, with_annotations

Manifest = dict[str, Any]
Live = Callable[[Kind, str, str], Manifest | None]

NOT_OF_WORKLOADS = {
    "cost",
    "disruption",
    "expose",
    "monitoring",
    "network_policy",
    "paused",
    "plan_change_policy",
    "replicas",
}
"""Fields of the spec that change nothing of a workload but, one of them, its count of replicas."""


def inputs_digest(spec: LLMDeploymentSpec, plan: Plan, image_tag: str) -> str:
    """Return a digest of what a workload is rendered from, replicas aside. What is not said does not count."""
    told = plan_status(plan)
    inputs = {
        "spec": spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=NOT_OF_WORKLOADS),
        "plan": {field: getattr(told, field) for field in SERVED},
        "image": image_tag,
    }
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def stamped(manifests: Iterable[Manifest], digest: str) -> Iterator[Manifest]:
    """Yield the manifests, the workload with this release and the digest of its inputs."""
    return with_annotations(manifests, {RELEASE_ANNOTATION: __version__, INPUTS_ANNOTATION: digest})


def held(rendered: Iterable[Manifest], live: Live) -> Manifest | None:
    """Return the live workload that another release rendered from the same inputs, or None."""
    for wanted, found in live_workloads(rendered, live):
        if _is_from_another_release(found, wanted["metadata"]["annotations"]):
            return found
    return None


def live_workloads(rendered: Iterable[Manifest], live: Live) -> Iterator[tuple[Manifest, Manifest]]:
    """Yield each workload among the manifests that exists, as rendered and as it is."""
    for manifest in rendered:
        if manifest["kind"] in WORKLOADS:
            metadata = manifest["metadata"]
            found = live(CHILD_KINDS[manifest["kind"]], metadata["namespace"], metadata["name"])
            if found is not None:
                yield manifest, found


def without_pods(rendered: Iterable[Manifest]) -> tuple[Manifest, ...]:
    """Return the manifests that are no part of a pod: neither the workload nor the files its pods start from."""
    return tuple(manifest for manifest in rendered if manifest["kind"] not in {*WORKLOADS, CONFIG_MAP.kind})


def _is_from_another_release(workload: Manifest, wanted: dict[str, str]) -> bool:
    found = workload["metadata"].get("annotations", {})
    same_inputs = bool(found.get(INPUTS_ANNOTATION) == wanted[INPUTS_ANNOTATION])
    return same_inputs and found.get(RELEASE_ANNOTATION) != wanted[RELEASE_ANNOTATION]
