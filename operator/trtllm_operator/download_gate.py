"""What may be applied while a model is downloaded: GPUs are not held for nothing, and what serves is left alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trtllm_operator.kinds import AUTOSCALER_KINDS, JOB, VOLUME_CLAIM
from trtllm_operator.naming import DIGEST_ANNOTATION, DOWNLOAD_ANNOTATION
from trtllm_operator.workload import WORKLOADS, with_annotations

Manifest = dict[str, Any]

_AUTOSCALERS = frozenset(kind.kind for kind in AUTOSCALER_KINDS)
_NEEDED_TO_DOWNLOAD = frozenset({VOLUME_CLAIM.kind, JOB.kind})


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The manifests to apply now, and the Jobs to delete before.

    ``is_open``: the model is there. ``may_prune`` is False while pods serve an earlier one: what they need may not be
    rendered any more.
    """

    is_open: bool
    may_prune: bool
    admitted: tuple[Manifest, ...]
    superseded: tuple[Manifest, ...]


def awaiting(manifests: Sequence[Manifest]) -> Iterator[Manifest]:
    """Yield the manifests; the workload with the name of the download it waits for, where there is one."""
    job = next((manifest["metadata"]["name"] for manifest in manifests if manifest["kind"] == JOB.kind), None)
    return with_annotations(manifests, {} if job is None else {DOWNLOAD_ANNOTATION: job})


def gate(rendered: Sequence[Manifest], jobs: Iterable[Manifest], workloads: Iterable[Manifest]) -> Gate:
    """Decide from what is rendered, and from the Jobs and the workloads of the LLMDeployment that exist."""
    wanted = next((manifest for manifest in rendered if manifest["kind"] == JOB.kind), None)
    if wanted is None:
        return Gate(is_open=True, may_prune=True, admitted=tuple(rendered), superseded=())
    name, serving = wanted["metadata"]["name"], tuple(workloads)
    known = {job["metadata"]["name"]: job for job in jobs}
    found = known.get(name)
    complete = found is not None and is_complete(found)
    superseded = tuple(job for job in known.values() if not is_complete(job) and not _is_of(wanted, job))
    is_open = complete or any(is_downloaded_for(workload, name) for workload in serving)
    held = frozenset() if is_open else WORKLOADS | _AUTOSCALERS
    may_prune = is_open or not serving
    return Gate(
        is_open=is_open,
        may_prune=may_prune,
        admitted=tuple(
            manifest
            for manifest in rendered
            if manifest["kind"] not in held
            and (may_prune or manifest["kind"] in _NEEDED_TO_DOWNLOAD)
            and not (manifest is wanted and (complete or found in superseded))
        ),
        superseded=superseded,
    )


def is_complete(job: Mapping[str, Any]) -> bool:
    """Whether a Job has done what it is for."""
    return any(c["type"] == "Complete" and c["status"] == "True" for c in job.get("status", {}).get("conditions", ()))


def is_downloaded_for(workload: Mapping[str, Any], job: str) -> bool:
    """Whether a workload that exists was applied after this Job: the Job may have been deleted since."""
    return bool(workload["metadata"].get("annotations", {}).get(DOWNLOAD_ANNOTATION) == job)


def _is_of(wanted: Manifest, job: Manifest) -> bool:
    """Whether a Job is the rendered one. Its pods cannot be changed, so one that differs makes way for another."""
    told, found = wanted["metadata"], job["metadata"]
    same = found.get("annotations", {}).get(DIGEST_ANNOTATION) == told["annotations"][DIGEST_ANNOTATION]
    return bool(same and found["name"] == told["name"])
