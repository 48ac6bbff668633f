"""The status of an LLMDeployment v1alpha1: what users read back. Its spec is in ``api.py``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from trtllm_operator.api import ApiModel


class ConditionType(StrEnum):
    """What a condition speaks of. Reconciling and Stalled are present only while True (kstatus)."""

    READY = "Ready"
    PLANNED = "Planned"
    WORKLOAD_READY = "WorkloadReady"
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
    """Size of the weights at the serving dtype."""

    layers: int | None = None
    """Number of layers."""

    attention_heads: int | None = None
    """Number of attention heads."""

    kv_heads: int | None = None
    """Number of key-value heads."""

    checkpoint_dtype: str | None = None
    """Numeric format of the checkpoint's weights."""

    source: Literal["Catalogue", "Spec"] | None = None
    """Where these facts come from."""


class MemoryStatus(ApiModel):
    """Estimated memory of the fullest GPU."""

    total: str | None = None
    """Memory of the GPU."""

    weights: str | None = None
    """Weights it holds."""

    overhead: str | None = None
    """CUDA context, buffers, graphs and activations."""

    kv_cache: str | None = None
    """What is left for the KV cache at the free-memory fraction of 0.9."""


class Rejected(ApiModel):
    """A layout the planner looked at and did not choose."""

    tensor: int
    """Tensor parallel size."""

    pipeline: int
    """Pipeline parallel size."""

    reason: str
    """Why, as one word."""

    detail: str
    """Why, as a sentence with the numbers."""


class PlanStatus(ApiModel):
    """The plan in force."""

    id: str
    """Digest of the planner's inputs; the same on the command line and in the cluster."""

    planner_version: str
    """Version of the planner that made it."""

    tensor: int
    """Tensor parallel size."""

    pipeline: int
    """Pipeline parallel size."""

    expert: int
    """Expert parallel size."""

    gpus: int
    """GPUs per replica."""

    nodes: int
    """Nodes per replica."""

    gpus_per_pod: int
    """GPUs each pod requests: tensor x pipeline / nodes."""

    gpu_product: str
    """GPU product the pods run on."""

    verdict: Literal["Fits", "Tight"]
    """Fits, or Tight when it fits only with an optimistic estimate of the overhead."""

    memory_per_gpu: Annotated[MemoryStatus | None, Field(alias="memoryPerGPU")] = None
    """Estimated memory of the fullest GPU."""

    max_kv_tokens: int | None = None
    """Tokens the KV cache is estimated to hold."""

    max_concurrent_sequences: int | None = None
    """Sequences of the maximum length the KV cache is estimated to hold at once."""

    summary: str
    """The plan in one sentence."""

    because: Annotated[tuple[str, ...], Field(max_length=16)] = ()
    """The rule path; first the rung of the guide's decision tree."""

    rejected: Annotated[tuple[Rejected, ...], Field(max_length=8)] = ()
    """Layouts looked at before this one."""

    warnings: Annotated[tuple[str, ...], Field(max_length=16)] = ()
    """What to know before relying on it."""


class WorkloadStatus(ApiModel):
    """An object that runs the model."""

    kind: str
    """Its kind."""

    name: str
    """Its name."""

    ready: bool
    """Whether it is ready."""


class LLMDeploymentStatus(ApiModel):
    """What the operator observed and decided."""

    observed_generation: Annotated[int, Field(json_schema_extra={"format": "int64"})] = -1
    """The metadata.generation this status speaks of; -1 until the operator has seen the object."""

    conditions: Annotated[tuple[Condition, ...], Field(max_length=32)] = ()
    """Ready is always present and summarises the others. Reconciling and Stalled are present only while True."""

    url: str | None = None
    """Base URL of the OpenAI-compatible API inside the cluster."""

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

    workloads: Annotated[tuple[WorkloadStatus, ...], Field(max_length=8)] = ()
    """The objects that run the model."""
