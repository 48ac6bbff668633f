"""From a workload and its pods, as the cluster reports them, to what the status must say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from trtllm_operator.diagnose import failures
from trtllm_operator.facts import Observed, Problem
from trtllm_operator.kinds import LEADER_WORKER_SET, Kind
from trtllm_operator.naming import GROUP_LABEL
from trtllm_operator.pod_problems import (
    ProblemReason,
    ended_problems,
    has_condition,
    told,
    unscheduled_problems,
    waiting_problems,
)

Manifest = dict[str, Any]


def observe(
    kind: Kind,
    workload: Manifest,
    pods: Iterable[Manifest],
    unstarted: Mapping[str, Problem] = MappingProxyType({}),
) -> Observed:
    """Read a Deployment or a LeaderWorkerSet, which counts its groups as a Deployment counts its pods.

    ``pods`` are the LLMDeployment's; while one workload replaces another, some are the other's. ``unstarted`` is what
    Events tell, by pod name.
    """
    spec, status, metadata = workload["spec"], workload.get("status", {}), workload["metadata"]
    wanted, ready, updated = (
        spec.get("replicas", 1),
        status.get("readyReplicas", 0),
        status.get("updatedReplicas", 0),
    )
    total = status.get("replicas", 0)
    seen = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
    settled = seen and updated == wanted and ready == wanted and total == wanted
    pods = sorted((pod for pod in pods if _runs(kind, pod)), key=lambda pod: pod["metadata"]["name"])
    problem = None if settled else next(_problems(workload, pods, unstarted), None)
    return Observed(
        kind=kind.kind,
        name=metadata["name"],
        wanted=wanted,
        replicas=total,
        ready=ready,
        settled=settled,
        problem=problem,
        failure=max(failures(pods), key=lambda failure: failure.time or "", default=None),
    )


def is_rolled_out(workload: Manifest) -> bool:
    """Whether every pod that exists is of the newest template, so that nothing needs what an older one refers to."""
    status, metadata = workload.get("status", {}), workload["metadata"]
    seen = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
    return bool(seen and status.get("updatedReplicas", 0) == status.get("replicas", 0))


def _runs(kind: Kind, pod: Manifest) -> bool:
    return (GROUP_LABEL in pod["metadata"].get("labels", {})) == (kind == LEADER_WORKER_SET)


def _problems(workload: Manifest, pods: Sequence[Manifest], unstarted: Mapping[str, Problem]) -> Iterator[Problem]:
    """Yield what is wrong, the most telling first."""
    for pod in pods:
        if "deletionTimestamp" not in pod["metadata"]:
            yield from waiting_problems(pod)
            yield from ended_problems(pod)
    yield from (unstarted[name] for pod in pods if (name := pod["metadata"]["name"]) in unstarted)
    conditions = {c["type"]: c for c in workload.get("status", {}).get("conditions", [])}
    failed = conditions.get("ReplicaFailure", {})
    if failed.get("status") == "True":
        yield told("admission", failed.get("message", ""), ProblemReason.REPLICA_FAILURE)
    for pod in pods:
        yield from unscheduled_problems(pod)
    progress = conditions.get("Progressing", {})
    if progress.get("reason") == ProblemReason.PROGRESS_DEADLINE_EXCEEDED:
        yield _overdue(progress.get("message", ""), workload["spec"]["progressDeadlineSeconds"], pods)


def _overdue(message: str, seconds: int, pods: Sequence[Manifest]) -> Problem:
    unready = [pod["metadata"]["name"] for pod in pods if not has_condition(pod, "Ready", "True")]
    hint = "".join(f"read kubectl logs {name}, and " for name in unready[:1])
    told = f"no progress for {seconds} s: {message.rstrip('.')}"
    message = f"{told}; {hint}raise spec.startupTimeoutSeconds if it still loads"
    return Problem(reason=ProblemReason.PROGRESS_DEADLINE_EXCEEDED, message=message)
