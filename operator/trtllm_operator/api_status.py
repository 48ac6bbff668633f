"""The status of an LLMDeployment v1alpha1: what users read back. Its spec is in ``api.py``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from trtllm_operator.api_base import ApiModel
from trtllm_operator.api_plan_status import MemoryStatus, PendingPlanStatus, PlanStatus, Rejected, StageStatus

__all__ = [
    "CapacityStatus",
    "Condition",
    "ConditionType",
    "CostStatus",
    "FailureStatus",
    "LLMDeploymentStatus",
    "MemoryStatus",
    "ModelStatus",
    "PendingPlanStatus",
    "PlanStatus",
    "Rejected",
    "RolloutStatus",
    "StageStatus",
    "WorkloadStatus",
]


class ConditionType(StrEnum):
    """What a condition speaks of. Reconciling and Stalled are present only while True (kstatus)."""

    READY = "Ready"
    PLANNED = "Planned"
    CAPACITY_AVAILABLE = "CapacityAvailable"
    MODEL_READY = "ModelReady"
    WORKLOAD_READY = "WorkloadReady"
    SCALING_READY = "ScalingReady"
    EXPOSURE_READY = "ExposureReady"
    MONITORING_READY = "MonitoringReady"
    DISRUPTION_READY = "DisruptionReady"
    PAUSED = "Paused"
    DEGRADED = "Degraded"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Condition(ApiModel):
    """One observed fact, in the shape of metav1.Condition."""

    type: Annotated[str, Field(max_length=64)]
    """What the condition speaks of."""

    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""

    reason: Annotated[str, Field(max_length=128)]
    """Why, as one word from a closed list."""

    message: Annotated[str, Field(max_length=4096)] = ""
    """Why, as a sentence."""

    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When `status` last changed."""

    observed_generation: Annotated[int, Field(json_schema_extra={"format": "int64"})] = 0
    """The metadata.generation this was observed for."""


class ModelStatus(ApiModel):
    """The model as the planner understood it."""

    name: str | None = None
    """Repository of the checkpoint."""

    architecture: str | None = None
    """Model class, for example LlamaForCausalLM."""

    parameters: str | None = None
    """Number of parameters, for example 70.6B."""

    weights: str | None = None
    """Size of the weights at the serving dtype, in GiB. Example: 131.4Gi."""

    layers: int | None = None
    """Number of layers."""

    attention_heads: int | None = None
    """Number of attention heads."""

    kv_heads: int | None = None
    """Number of key-value heads."""

    checkpoint_dtype: str | None = None
    """Numeric format of the checkpoint's weights."""

    source: Literal["Spec", "ConfigMap", "Hub", "Catalogue"] | None = None
    """Where these facts come from; Spec when any was typed into spec.model.shape."""


class CapacityStatus(ApiModel):
    """GPUs on the nodes the plan could use."""

    matching_nodes: int | None = None
    """Nodes with the plan's GPU product."""

    free_gpus: Annotated[int | None, Field(alias="freeGPUs")] = None
    """GPUs on them that no pod requests."""

    largest_free_block: int | None = None
    """Most free GPUs on one node."""

    quota: str | None = None
    """ResourceQuota that limits GPUs, and its numbers. Example: gpu-quota: 4 of 8 used."""


class CostStatus(ApiModel):
    """Price of what runs, from spec.cost."""

    per_hour: str
    """Price of all wanted replicas for one hour. Example: "10.00"."""

    currency: str
    """Currency, as three letters of ISO 4217."""


class FailureStatus(ApiModel):
    """The last failure of a serving pod; it stays after recovery."""

    reason: str
    """Why, as one word."""

    message: str
    """The engine's or the kubelet's own words."""

    pod: str | None = None
    """The pod."""

    exit_code: int | None = None
    """Exit code of its serving container."""

    hint: str | None = None
    """What to change, naming a field."""

    time: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})] = None
    """When."""


class RolloutStatus(ApiModel):
    """How replicas are replaced."""

    strategy: str
    """RollingUpdate or Recreate."""

    max_surge: int | None = None
    """Replicas above the wanted number while they are replaced."""

    max_unavailable: int | None = None
    """Replicas that may be missing meanwhile."""

    reason: str
    """Why, as a sentence."""


class WorkloadStatus(ApiModel):
    """An object that runs the model."""

    kind: str
    """Its kind."""

    name: str
    """Its name."""

    ready: bool
    """Whether it is ready."""


class EngineStatus(ApiModel):
    """The TensorRT-LLM release that serves."""

    release: str
    """First of the TensorRT-LLM releases whose options and metrics are those of the image. Example: 1.3.0rc18."""

    image_tag: str | None = None
    """Image tag the operator chose, which later operator releases keep; absent while spec.engine.image.tag names
    one."""

    warnings: Annotated[tuple[str, ...], Field(max_length=32)] = ()
    """What to know of this release, and of the options passed through to it."""


class LLMDeploymentStatus(ApiModel):
    """What the operator observed and decided."""

    observed_generation: Annotated[int, Field(json_schema_extra={"format": "int64"})] = -1
    """The metadata.generation this status speaks of; -1 until the operator has seen the object."""

    conditions: Annotated[tuple[Condition, ...], Field(max_length=32)] = ()
    """Ready is always present and summarises the others. Reconciling and Stalled are present only while True."""

    url: str | None = None
    """Base URL of the OpenAI-compatible API: of the Ingress, Gateway or load balancer that spec.expose asks for, once
    it has an address; else of the Service, inside the cluster."""

    replicas: int | None = None
    """Replicas that exist."""

    ready_replicas: int | None = None
    """Replicas that are ready."""

    selector: str | None = None
    """Label selector of the serving pods, for the scale subresource."""

    ready: str | None = None
    """Ready and wanted replicas, for example 1/1."""

    model: ModelStatus | None = None
    """The model as the planner understood it."""

    plan: PlanStatus | None = None
    """The plan in force."""

    engine: EngineStatus | None = None
    """The TensorRT-LLM release that serves."""

    pending_plan: PendingPlanStatus | None = None
    """The plan that waits for approval; absent when none does."""

    capacity: CapacityStatus | None = None
    """GPUs on the nodes the plan could use."""

    rollout: RolloutStatus | None = None
    """How replicas are replaced."""

    cost: CostStatus | None = None
    """Price of what runs; absent without spec.cost."""

    workloads: Annotated[tuple[WorkloadStatus, ...], Field(max_length=8)] = ()
    """The objects that run the model."""

    last_failure: FailureStatus | None = None
    """The last failure of a serving pod; it stays after recovery."""
