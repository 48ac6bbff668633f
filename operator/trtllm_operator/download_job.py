"""The Job that downloads a model to its claim before any replica takes a GPU: what it is, and its context."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.api_storage import AccessMode, ClaimCache
from trtllm_operator.engine import escape_expansion, model_path
from trtllm_operator.memory import weight_bytes
from trtllm_operator.naming import (
    CLAIM_SIZE_ANNOTATION,
    claim_name,
    common_labels,
    download_name,
    downloader_labels,
    selector_labels,
)
from trtllm_operator.planned import Plan
from trtllm_operator.pod import PodContext, TrustStore
from trtllm_operator.pod_environment import Variable, download_environment
from trtllm_operator.pod_placement import PodField
from trtllm_operator.pod_storage import Volume, download_claim, download_volumes
from trtllm_operator.settings import Settings

CONTAINER = "fetch-model"

NO_ACCESS, NOT_FOUND, NO_SPACE = 10, 11, 12
"""Exit codes of data/fetch_model.py that another attempt does not change."""

_ATTEMPTS_AFTER_THE_FIRST = 6
_RESOURCES = {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "8Gi"}}
"""A judgement, not a measurement. The limit is for namespaces whose quota asks for one, or gives a small default."""

_TAKEN_FROM_SERVING_PODS = ("priorityClassName", "schedulerName", "serviceAccountName")


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """What goes where. ``revision`` of None is the repository's default; ``size`` in bytes is None when unknown."""

    job: str
    repository: str
    revision: str | None
    claim: str
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """A Job of one pod without GPUs, on the nodes where the serving pods may run.

    ``deadline_seconds`` is None for a model of unknown size.
    """

    name: str
    namespace: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    backoff_limit: int
    deadline_seconds: int | None
    container: str
    final_exit_codes: tuple[int, ...]
    pod_labels: Mapping[str, str]
    pod_annotations: Mapping[str, str]
    node_selector: Mapping[str, str]
    tolerations: tuple[Mapping[str, Any], ...]
    optional_fields: tuple[PodField, ...]
    security_context: Mapping[str, Any]
    pull_secrets: tuple[str, ...]
    trust_store: TrustStore | None
    image: str
    pull_policy: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    environment: tuple[Variable, ...]
    resources: Mapping[str, Any]
    volumes: tuple[Volume, ...]


def download(name: str, spec: LLMDeploymentSpec, plan: Plan) -> Download | None:
    """Return what a Job downloads for the LLMDeployment ``name``; None where the pods find or fetch the model."""
    claim = download_claim(spec)
    if claim is None:
        return None
    volume = claim.name or claim_name(name)
    repository, revision = model_path(spec.model.uri, plan), spec.model.revision
    identity = json.dumps([repository, revision, volume, claim.sub_path])
    return Download(
        job=download_name(name, hashlib.sha256(identity.encode()).hexdigest()[:10]),
        repository=repository,
        revision=revision,
        claim=volume,
        size=None if plan.model.parameters is None else weight_bytes(plan.model),
    )


def download_job(
    name: str, namespace: str, spec: LLMDeploymentSpec, plan: Plan, settings: Settings, pod: PodContext
) -> JobContext | None:
    """Fill the Job, or None where there is nothing to download. What suits its pod is as in the serving ``pod``."""
    claim, wanted = download_claim(spec), download(name, spec, plan)
    if claim is None or wanted is None:
        return None
    user_labels = {key: value for key, value in pod.labels.items() if key not in common_labels(name)}
    return JobContext(
        name=wanted.job,
        namespace=namespace,
        labels=common_labels(name),
        annotations={CLAIM_SIZE_ANNOTATION: claim.size} if claim.size else {},
        backoff_limit=_ATTEMPTS_AFTER_THE_FIRST,
        deadline_seconds=_deadline_seconds(spec, wanted, settings),
        container=CONTAINER,
        final_exit_codes=(NO_ACCESS, NOT_FOUND, NO_SPACE),
        pod_labels={**user_labels, **downloader_labels(name)},
        pod_annotations=pod.annotations,
        node_selector=pod.node_selector,
        tolerations=pod.tolerations,
        optional_fields=tuple(_optional_fields(name, spec, claim, pod)),
        security_context=pod.security_context,
        pull_secrets=pod.pull_secrets,
        trust_store=pod.trust_store,
        image=pod.image,
        pull_policy=pod.pull_policy,
        command=("python3", "-c", _program()),
        args=tuple(escape_expansion(word) for word in (wanted.repository, wanted.revision) if word),
        environment=download_environment(spec),
        resources=_RESOURCES,
        volumes=download_volumes(name, spec, plan),
    )


@cache
def _program() -> str:
    text = resources.files("trtllm_operator").joinpath("data/fetch_model.py").read_text(encoding="utf-8")
    return escape_expansion(text)


def _deadline_seconds(spec: LLMDeploymentSpec, wanted: Download, settings: Settings) -> int | None:
    if wanted.size is None:
        return spec.startup_timeout_seconds
    estimated = settings.minimum_startup_seconds + wanted.size // settings.download_bytes_per_second
    return max(estimated, spec.startup_timeout_seconds or 0)


def _optional_fields(name: str, spec: LLMDeploymentSpec, claim: ClaimCache, pod: PodContext) -> Iterator[PodField]:
    """Yield what the serving pods' spec says of any pod, and an affinity to nodes that the claim can be mounted on."""
    yield from (field for field in pod.optional_fields if field.name in _TAKEN_FROM_SERVING_PODS)
    affinity: dict[str, Any] = {}
    if spec.affinity is not None and spec.affinity.node_affinity is not None:
        stated = spec.affinity.node_affinity
        affinity["nodeAffinity"] = stated.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if claim.access_mode is AccessMode.READ_WRITE_ONCE:
        affinity["podAffinity"] = _beside_serving_pods(name)
    if affinity:
        yield PodField("affinity", affinity)


def _beside_serving_pods(name: str) -> Mapping[str, Any]:
    """Prefer the node that has the volume: while replicas of an earlier model serve from it, no other can mount it."""
    term = {"labelSelector": {"matchLabels": selector_labels(name)}, "topologyKey": "kubernetes.io/hostname"}
    return {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}
