"""The context of a serving pod, which the Deployment's template and others share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from trtllm_operator import engine
from trtllm_operator.api import LLMDeploymentSpec, PullPolicy, SecurityProfile
from trtllm_operator.memory import weight_bytes
from trtllm_operator.naming import common_labels, config_map_name
from trtllm_operator.planned import Plan
from trtllm_operator.pod_environment import TRUST_STORE, Variable, environment
from trtllm_operator.pod_placement import PodField, gpu_resource, node_selector, optional_fields, tolerations
from trtllm_operator.pod_storage import (
    AUTHORITIES_DIRECTORY,
    AUTHORITIES_KEY,
    TRUST_STORE_DIRECTORY,
    Volume,
    volumes,
)
from trtllm_operator.settings import Settings

PROBE_SECONDS = 10
"""Between two startup probes."""

Labels = dict[str, str]

USER_ID = 1000
"""User and group of a pod without root; any number but 0 serves the same."""

_JOIN_TRUST_STORES = (
    "import certifi, pathlib, sys; joined = [certifi.where(), *sys.argv[2:]]; "
    r"pathlib.Path(sys.argv[1]).write_bytes(b'\n'.join(pathlib.Path(file).read_bytes() for file in joined))"
)
"""SSL_CERT_FILE replaces the public authorities, so the further ones are written behind them."""

_TRUST_STORE_RESOURCES = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
"""A judgement, not a measurement. A quota of memory admits no pod with a container that states none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of a ConfigMap."""

    name: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustStore:
    """How the init container writes one file of the public certificate authorities and of further ones."""

    command: tuple[str, ...]
    resources: Mapping[str, Any]
    authorities_directory: str
    directory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodContext:
    """One pod of GPUs; times are seconds. A pod with an ``ssh_port`` lends its GPUs, any other answers requests."""

    ssh_port: int | None = None
    added_capabilities: tuple[str, ...] = ()
    labels: Labels
    annotations: dict[str, str]
    termination_grace_seconds: int
    node_selector: Labels
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
    port: int
    resources: Mapping[str, Any]
    health_path: str
    startup_failures: int
    endpoint_removal_seconds: int
    volumes: tuple[Volume, ...]


def serving_pod(
    name: str, spec: LLMDeploymentSpec, plan: Plan, run: engine.EngineCommand, settings: Settings
) -> PodContext:
    """Fill the pod that serves a plan alone."""
    extra = spec.pod_metadata
    program, *args = run.argv
    image = spec.engine.image if spec.engine else None
    return PodContext(
        labels={**(extra.labels if extra else {}), **common_labels(name)},
        annotations=extra.annotations if extra else {},
        termination_grace_seconds=settings.endpoint_removal_seconds + _drain_seconds(spec, settings),
        node_selector=node_selector(spec, plan, plan.pod_products[0]),
        tolerations=tolerations(spec),
        optional_fields=optional_fields(name, spec),
        security_context=_security_context(spec),
        pull_secrets=image.pull_secrets if image else (),
        trust_store=_trust_store(spec),
        image=_image(spec, settings),
        pull_policy=image.pull_policy if image else PullPolicy.IF_NOT_PRESENT,
        command=(program,),
        args=tuple(engine.escape_expansion(arg) for arg in args),
        environment=environment(spec, run),
        port=engine.PORT,
        resources=_resources(spec, plan),
        health_path=engine.HEALTH_PATH,
        startup_failures=-(-startup_seconds(spec, plan, settings) // PROBE_SECONDS),
        endpoint_removal_seconds=settings.endpoint_removal_seconds,
        volumes=volumes(name, spec, plan, config_name(name, config_files(plan, run))),
    )


def config_files(plan: Plan, run: engine.EngineCommand) -> tuple[File, ...]:
    """Return trtllm-serve's configuration file and, where a replica is several pods, the scripts that join them."""
    config = File(name=engine.CONFIG_FILE, content=json.dumps(run.config, indent=2, sort_keys=True) + "\n")
    scripts = launch_scripts() if plan.nodes > 1 else {}
    return (config, *(File(name=name, content=text) for name, text in scripts.items()))


@cache
def launch_scripts() -> dict[str, str]:
    """Return the scripts of ``data/launch`` by their names."""
    folder = resources.files("trtllm_operator").joinpath("data/launch")
    found = sorted(folder.iterdir(), key=lambda file: file.name)
    return {file.name: file.read_text(encoding="utf-8") for file in found}


def config_name(name: str, files: Iterable[File]) -> str:
    """Return the name of the ConfigMap of these files, which tells their content.

    A pod of an older rollout keeps its own files, and a change of a file is a change of the pods.
    """
    return config_map_name(name, hashlib.sha256("".join(file.content for file in files).encode()).hexdigest()[:10])


def startup_seconds(spec: LLMDeploymentSpec, plan: Plan, settings: Settings) -> int:
    """Return the seconds a replica may take to fetch and load its weights."""
    estimated = settings.minimum_startup_seconds + weight_bytes(plan.model) // settings.load_bytes_per_second
    return estimated if spec.startup_timeout_seconds is None else spec.startup_timeout_seconds


def image_tag(spec: LLMDeploymentSpec, settings: Settings) -> str:
    """Return the tag of the image that serves."""
    image = spec.engine.image if spec.engine else None
    return (image and image.tag) or settings.image_tag


def _image(spec: LLMDeploymentSpec, settings: Settings) -> str:
    image = spec.engine.image if spec.engine else None
    repository = (image and image.repository) or settings.image_repository
    return f"{repository}:{image_tag(spec, settings)}"


def _drain_seconds(spec: LLMDeploymentSpec, settings: Settings) -> int:
    return settings.drain_seconds if spec.drain_timeout_seconds is None else spec.drain_timeout_seconds


def _security_context(spec: LLMDeploymentSpec) -> dict[str, Any]:
    profile = {"seccompProfile": {"type": "RuntimeDefault"}}
    if spec.security_profile is not SecurityProfile.RESTRICTED:
        return profile
    return {
        **profile,
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        # Weights are many gigabytes: their owner is changed once, not at every start.
        "fsGroupChangePolicy": "OnRootMismatch",
    }


def _resources(spec: LLMDeploymentSpec, plan: Plan) -> dict[str, Any]:
    stated = spec.resources
    limits = {**(stated.limits if stated else {}), gpu_resource(spec, plan): plan.gpus_per_pod}
    return {"limits": limits, **({"requests": stated.requests} if stated and stated.requests else {})}


def _trust_store(spec: LLMDeploymentSpec) -> TrustStore | None:
    if spec.proxy is None or spec.proxy.ca_config_map is None:
        return None
    return TrustStore(
        command=("python3", "-c", _JOIN_TRUST_STORES, TRUST_STORE, f"{AUTHORITIES_DIRECTORY}/{AUTHORITIES_KEY}"),
        resources=_TRUST_STORE_RESOURCES,
        authorities_directory=AUTHORITIES_DIRECTORY,
        directory=TRUST_STORE_DIRECTORY,
    )
