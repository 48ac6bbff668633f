"""The plan in an LLMDeployment's status: what was chosen, what it is estimated to use, and why."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trtllm_operator.api_base import ApiModel


class MemoryStatus(ApiModel):
    """Estimated memory of the fullest GPU."""

    total: str | None = None
    """Memory of the GPU, in GiB."""

    weights: str | None = None
    """Weights it holds, in GiB."""

    overhead: str | None = None
    """CUDA context, buffers, graphs and activations, in GiB."""

    kv_cache: str | None = None
    """What the KV cache takes of the rest, in GiB."""


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


class StageStatus(ApiModel):
    """One stage of a pipeline."""

    stage: int
    """Number of the stage, from 0."""

    first_layer: int
    """First layer it holds, from 0."""

    last_layer: int
    """Last layer it holds."""

    gpus: int
    """GPUs of the stage."""

    gpu_product: str
    """Product of these GPUs."""

    weights: str | None = None
    """Weights each of its GPUs holds, in GiB."""

    kv_cache: str | None = None
    """KV cache of each of its GPUs, in GiB."""


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

    context: int = 1
    """Context parallel size."""

    attention_data_parallel: bool = False
    """Whether each GPU holds whole attention layers and serves a share of the requests."""

    gpus: int
    """GPUs per replica."""

    nodes: int
    """Nodes per replica."""

    gpus_per_pod: int
    """GPUs each pod requests: tensor x pipeline x context / nodes."""

    gpu_product: str
    """GPU product the pods run on."""

    gpu_product_named: bool = False
    """Whether spec.gpus.product named it."""

    pipeline_partition: Annotated[tuple[int, ...], Field(max_length=64)] = ()
    """Layers of each pipeline stage, when they are not shared out evenly."""

    stages: Annotated[tuple[StageStatus, ...], Field(max_length=64)] = ()
    """The pipeline's stages, when there are several."""

    verdict: Literal["Fits", "Tight"] | None = None
    """Fits, or Tight when it fits only with an optimistic estimate of the overhead."""

    estimate: Literal["Exact", "Catalogue", "Coarse"] | None = None
    """How well the model's size is known: Exact from its own files, Catalogue from the operator's, Coarse from the
    number of parameters."""

    memory_per_gpu: Annotated[MemoryStatus | None, Field(alias="memoryPerGPU")] = None
    """Estimated memory of the fullest GPU."""

    kv_cache_dtype: str | None = None
    """Numeric format of the KV cache."""

    max_batch_size: int | None = None
    """Most requests one replica works on at once."""

    max_num_tokens: int | None = None
    """Most tokens of one forward pass."""

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


class PendingPlanStatus(ApiModel):
    """A plan that waits for approval."""

    id: str
    """What the annotation trtllm.dev/approve-plan must hold."""

    summary: str
    """The plan in one sentence."""

    changes: Annotated[tuple[str, ...], Field(max_length=16)] = ()
    """What differs from the plan in force. Example: tensor 4 -> 8."""

    impact: str | None = None
    """What applying it does to running replicas."""
