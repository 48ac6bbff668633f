"""Whether the model is where replicas read it: condition ModelReady, from the download Job and its pods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from itertools import chain
from typing import Any

from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.api_status import ConditionType
from trtllm_operator.download_gate import is_complete, is_downloaded_for
from trtllm_operator.download_job import NO_ACCESS, NO_SPACE, NOT_FOUND, Download, download
from trtllm_operator.facts import Problem
from trtllm_operator.findings import Finding, LiveObjects, Truth, condition_of
from trtllm_operator.memory import GIB
from trtllm_operator.planned import Plan
from trtllm_operator.pod_problems import unscheduled_problems, waiting_problems

Manifest = Mapping[str, Any]


class ModelReason(StrEnum):
    """Why replicas may start, or may not."""

    DOWNLOADED = "Downloaded"
    DOWNLOADING = "Downloading"
    DOWNLOAD_FAILED = "DownloadFailed"
    FETCHED_BY_PODS = "FetchedByPods"
    MOUNTED = "Mounted"


_HINTS = {
    NO_ACCESS: "set spec.model.secretRef to a token whose owner was granted access to the repository",
    NOT_FOUND: "check spec.model.uri and spec.model.revision",
    NO_SPACE: "raise spec.modelCache.pvc.size; a claim of your own has to grow or be cleaned up",
}


def model_finding(name: str, spec: LLMDeploymentSpec, plan: Plan, live: LiveObjects) -> Finding:
    """Return the condition ModelReady of the LLMDeployment ``name``."""
    wanted = download(name, spec, plan)
    if wanted is None:
        return _without_download(spec)
    what = f"{_described(wanted)} on claim {wanted.claim}"
    job = next((job for job in live.jobs if job["metadata"]["name"] == wanted.job), None)
    if job is not None and is_complete(job):
        return _finding("True", ModelReason.DOWNLOADED, what)
    if any(is_downloaded_for(workload, wanted.job) for workload in live.workloads):
        return _finding("True", ModelReason.DOWNLOADED, f"{what}; Job {wanted.job} looks at the claim once more")
    if job is None:
        return _finding("False", ModelReason.DOWNLOADING, f"Job {wanted.job} is being created")
    pods = sorted(_pods_of(job, live), key=lambda pod: pod["metadata"].get("creationTimestamp", ""))
    failed = condition_of(job, "Failed")
    if failed.get("status") == "True":
        return _finding("False", ModelReason.DOWNLOAD_FAILED, _failure(wanted, failed, pods))
    trouble = next((found for pod in reversed(pods) if (found := _trouble(pod, live))), None)
    reason = ModelReason.DOWNLOADING if trouble is None else trouble.reason
    return _finding("False", reason, _progress(wanted, job, pods, trouble))


def _finding(status: Truth, reason: str, message: str) -> Finding:
    return Finding(type=ConditionType.MODEL_READY, status=status, reason=reason, message=message)


def _without_download(spec: LLMDeploymentSpec) -> Finding:
    if not spec.model.uri.startswith("hf://"):
        message = f"nothing to download: the pods mount {spec.model.uri}"
        return _finding("True", ModelReason.MOUNTED, message)
    message = (
        "nothing to wait for: each pod fetches the model itself while it holds its GPUs, unless its modelCache has it; "
        "with a spec.modelCache.pvc that can be written a Job downloads it once, before"
    )
    return _finding("True", ModelReason.FETCHED_BY_PODS, message)


def _described(wanted: Download) -> str:
    revision = f" at {wanted.revision}" if wanted.revision else ""
    size = f", weights of {wanted.size / GIB:.1f} GiB," if wanted.size is not None else ""
    return f"{wanted.repository}{revision}{size}"


def _pods_of(job: Manifest, live: LiveObjects) -> Iterator[Manifest]:
    for pod in live.download_pods:
        if any(reference["uid"] == job["metadata"]["uid"] for reference in pod["metadata"].get("ownerReferences", ())):
            yield pod


def _progress(wanted: Download, job: Manifest, pods: list[Manifest], trouble: Problem | None) -> str:
    """Tell what the API knows: bytes are only counted in the log, for the pod has no right to report them."""
    status = job.get("status", {})
    what = f"{_described(wanted)} to claim {wanted.claim}"
    attempts = status.get("failed", 0)
    retried = f"; {attempts} attempts failed, the last with {_last_words(pods)}" if attempts else ""
    if trouble is not None:
        return f"{trouble.message}; this holds up the download of {what}{retried}"
    since = f" since {status['startTime']}" if "startTime" in status else ""
    if not pods:
        return (
            f"downloading {what}{since}{retried}; no pod yet: kubectl describe job {wanted.job} tells why if that lasts"
        )
    return f"downloading {what}{since}{retried}; kubectl logs job/{wanted.job} counts the bytes"


def _failure(wanted: Download, failed: Mapping[str, str], pods: list[Manifest]) -> str:
    ended = _last_ended(pods)
    hint = _HINTS.get(ended.get("exitCode", 0))
    if failed.get("reason") == "DeadlineExceeded":
        hint = "raise spec.startupTimeoutSeconds; what was fetched is kept"
    advice = f"; {hint}" if hint else ""
    return (
        f"Job {wanted.job} gave up ({failed.get('reason', '')}: {failed.get('message', '')}), last with "
        f"{_last_words(pods)}{advice}; it runs again when the spec changes what it does, or when the Job is deleted"
    )


def _last_words(pods: list[Manifest]) -> str:
    """Return the error of the pod that ended last: the last line it wrote."""
    ended = _last_ended(pods)
    if not ended:
        return "no word of a pod"
    lines = ended.get("message", "").strip().splitlines()
    return lines[-1][-1024:] if lines else f"exit code {ended.get('exitCode')} ({ended.get('reason', '')})"


def _last_ended(pods: list[Manifest]) -> Mapping[str, Any]:
    states = [status.get("state", {}).get("terminated") for pod in pods for status in _containers(pod)]
    return next((state for state in reversed(states) if state and state.get("exitCode")), {})


def _trouble(pod: Manifest, live: LiveObjects) -> Problem | None:
    """Return why a pod does not run."""
    told = chain(waiting_problems(dict(pod)), unscheduled_problems(dict(pod)))
    return next(told, live.unstarted.get(pod["metadata"]["name"]))


def _containers(pod: Manifest) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = pod.get("status", {}).get("containerStatuses", [])
    return found
