"""The object that runs the pods of a plan: a Deployment, or a LeaderWorkerSet where a replica is several pods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from trtllm_operator.kinds import DEPLOYMENT, LEADER_WORKER_SET, WORKLOAD_KINDS, Kind
from trtllm_operator.planned import Plan

WORKLOADS = frozenset(kind.kind for kind in WORKLOAD_KINDS)
"""The ``kind`` of manifests that run pods."""


def workload_kind(plan: Plan) -> Kind:
    """Return the kind of the object that runs the pods."""
    return DEPLOYMENT if plan.nodes == 1 else LEADER_WORKER_SET


def pod_templates(manifest: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the templates of the pods a manifest makes; none where it makes none."""
    spec = manifest.get("spec", {})
    group = spec.get("leaderWorkerTemplate", {})
    found = (spec.get("template"), group.get("leaderTemplate"), group.get("workerTemplate"))
    return tuple(template for template in found if template is not None)


def with_annotations(manifests: Iterable[dict[str, Any]], annotations: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the manifests, the workload among them with further annotations."""
    for manifest in manifests:
        if manifest["kind"] not in WORKLOADS:
            yield manifest
            continue
        metadata = manifest["metadata"]
        yield {**manifest, "metadata": {**metadata, "annotations": {**metadata.get("annotations", {}), **annotations}}}
