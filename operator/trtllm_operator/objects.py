"""One frozen context per template, and the functions that fill them. The templates themselves decide nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from trtllm_operator import engine
from trtllm_operator.api import LLMDeploymentSpec, PullPolicy
from trtllm_operator.hardware import PRODUCT_LABEL
from trtllm_operator.memory import weight_bytes
from trtllm_operator.naming import GROUP, common_labels, config_map_name, selector_labels
from trtllm_operator.planned import Plan
from trtllm_operator.settings import Settings

ENGINE_CONFIG_ANNOTATION = f"{GROUP}/engine-config"
"""Digest of the configuration file, so that a change of it rolls the pods."""

Labels = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMapContext:
    """trtllm-serve's configuration file."""

    name: str
    namespace: str
    labels: Labels
    file: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One environment variable with a literal value."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenReference:
    """Where the Hub's access token is."""

    secret: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentContext:
    """The serving pods. ``replicas`` is None when an autoscaler owns it; times are seconds."""

    name: str
    namespace: str
    labels: Labels
    selector: Labels
    replicas: int | None
    progress_deadline_seconds: int
    pod_labels: Labels
    pod_annotations: dict[str, str]
    termination_grace_seconds: int
    node_selector: Labels
    pull_secrets: tuple[str, ...]
    image: str
    pull_policy: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    environment: tuple[Variable, ...]
    token: TokenReference | None
    port: int
    gpus: int
    health_path: str
    startup_failures: int
    endpoint_removal_seconds: int
    config_directory: str
    config_map: str
    cache_directory: str
    shared_memory: str


def config_map(name: str, namespace: str, run: engine.EngineCommand) -> ConfigMapContext:
    """Fill the configuration file's ConfigMap."""
    return ConfigMapContext(
        name=config_map_name(name),
        namespace=namespace,
        labels=common_labels(name),
        file=engine.CONFIG_FILE,
        content=_config_text(run),
    )


def deployment(
    name: str,
    namespace: str,
    spec: LLMDeploymentSpec,
    plan: Plan,
    run: engine.EngineCommand,
    settings: Settings,
) -> DeploymentContext:
    """Fill the Deployment of one plan."""
    startup = _startup_seconds(plan, settings)
    extra = spec.pod_metadata
    program, *args = run.argv
    image = spec.engine.image if spec.engine else None
    return DeploymentContext(
        name=name,
        namespace=namespace,
        labels=common_labels(name),
        selector=selector_labels(name),
        replicas=None if spec.scaling else 1 if spec.replicas is None else spec.replicas,
        progress_deadline_seconds=startup + 600,
        pod_labels={**(extra.labels if extra else {}), **common_labels(name)},
        pod_annotations={
            **(extra.annotations if extra else {}),
            ENGINE_CONFIG_ANNOTATION: digest(_config_text(run)),
        },
        termination_grace_seconds=settings.endpoint_removal_seconds + settings.drain_seconds,
        node_selector={PRODUCT_LABEL: plan.pool.gpu.product},
        pull_secrets=image.pull_secrets if image else (),
        image=_image(spec, settings),
        pull_policy=image.pull_policy if image else PullPolicy.IF_NOT_PRESENT,
        command=(program,),
        args=tuple(engine.escape_expansion(arg) for arg in args),
        environment=tuple(Variable(name=key, value=engine.escape_expansion(value)) for key, value in run.environment),
        token=_token(spec),
        port=engine.PORT,
        gpus=plan.gpus,
        health_path=engine.HEALTH_PATH,
        startup_failures=-(-startup // 10),
        endpoint_removal_seconds=settings.endpoint_removal_seconds,
        config_directory=engine.CONFIG_DIRECTORY,
        config_map=config_map_name(name),
        cache_directory=engine.CACHE_DIRECTORY,
        shared_memory=f"{max(1, 4 * plan.gpus)}Gi",
    )


def digest(text: str) -> str:
    """Return a short digest for an annotation."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _config_text(run: engine.EngineCommand) -> str:
    return json.dumps(run.config, indent=2, sort_keys=True) + "\n"


def _startup_seconds(plan: Plan, settings: Settings) -> int:
    """Return the time a replica may take to fetch and load its weights."""
    return settings.minimum_startup_seconds + weight_bytes(plan.model) // settings.load_bytes_per_second


def image_tag(spec: LLMDeploymentSpec, settings: Settings) -> str:
    """Return the tag of the image that serves."""
    image = spec.engine.image if spec.engine else None
    return (image and image.tag) or settings.image_tag


def _image(spec: LLMDeploymentSpec, settings: Settings) -> str:
    image = spec.engine.image if spec.engine else None
    repository = (image and image.repository) or settings.image_repository
    return f"{repository}:{image_tag(spec, settings)}"


def _token(spec: LLMDeploymentSpec) -> TokenReference | None:
    reference = spec.model.secret_ref
    return None if reference is None else TokenReference(secret=reference.name, key=reference.key)
