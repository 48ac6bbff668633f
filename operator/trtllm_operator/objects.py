"""One frozen context per template, and the functions that fill them. The templates themselves decide nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trtllm_operator import engine
from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.naming import claim_name, common_labels, key_secret_name, selector_labels
from trtllm_operator.planned import Plan
from trtllm_operator.pod import File, PodContext, config_files, config_name, startup_seconds
from trtllm_operator.replica import replica_pods
from trtllm_operator.settings import Settings

Labels = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMapContext:
    """The files a pod starts from."""

    name: str
    namespace: str
    labels: Labels
    files: tuple[File, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimContext:
    """A volume that keeps weights between starts."""

    name: str
    namespace: str
    labels: Labels
    access_mode: str
    storage_class: str | None
    size: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentContext:
    """The serving pods. ``replicas`` is None when an autoscaler owns it; times are seconds."""

    name: str
    namespace: str
    labels: Labels
    selector: Labels
    replicas: int | None
    progress_deadline_seconds: int
    strategy: Mapping[str, Any]
    pod: PodContext


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderWorkerSetContext:
    """Replicas of ``size`` pods. ``replicas`` is None when an autoscaler owns it."""

    name: str
    namespace: str
    labels: Labels
    replicas: int | None
    size: int
    strategy: Mapping[str, Any]
    leader: PodContext
    worker: PodContext


def config_map(name: str, namespace: str, plan: Plan, run: engine.EngineCommand) -> ConfigMapContext:
    """Fill the ConfigMap of the files a pod starts from."""
    files = config_files(plan, run)
    return ConfigMapContext(
        name=config_name(name, files),
        namespace=namespace,
        labels=common_labels(name),
        files=files,
    )


def volume_claim(name: str, namespace: str, spec: LLMDeploymentSpec) -> ClaimContext | None:
    """Fill the PersistentVolumeClaim, or None when the spec has none to create."""
    claim = spec.model_cache.pvc if spec.model_cache else None
    if claim is None or not claim.create or claim.size is None:
        return None
    return ClaimContext(
        name=claim.name or claim_name(name),
        namespace=namespace,
        labels=common_labels(name),
        access_mode=claim.access_mode,
        storage_class=claim.storage_class,
        size=claim.size,
    )


def deployment(
    name: str,
    namespace: str,
    spec: LLMDeploymentSpec,
    plan: Plan,
    settings: Settings,
    pod: PodContext,
    strategy: Mapping[str, Any],
) -> DeploymentContext | None:
    """Fill the Deployment, or None where a replica is several pods."""
    if plan.nodes > 1:
        return None
    return DeploymentContext(
        name=name,
        namespace=namespace,
        labels=common_labels(name),
        selector=selector_labels(name),
        replicas=_replicas(spec),
        progress_deadline_seconds=startup_seconds(spec, plan, settings) + 600,
        strategy=strategy,
        pod=pod,
    )


def leader_worker_set(
    name: str,
    namespace: str,
    uid: str,
    spec: LLMDeploymentSpec,
    plan: Plan,
    alone: PodContext,
    strategy: Mapping[str, Any],
) -> LeaderWorkerSetContext | None:
    """Fill the LeaderWorkerSet, or None where a replica is one pod; ``alone`` is the pod it would be."""
    if plan.nodes == 1:
        return None
    leader, worker = replica_pods(alone, plan, spec, key_secret_name(name, uid))
    return LeaderWorkerSetContext(
        name=name,
        namespace=namespace,
        labels=common_labels(name),
        replicas=_replicas(spec),
        size=plan.nodes,
        strategy=strategy,
        leader=leader,
        worker=worker,
    )


def _replicas(spec: LLMDeploymentSpec) -> int | None:
    if spec.scaling is not None:
        return None
    return 1 if spec.replicas is None else spec.replicas
