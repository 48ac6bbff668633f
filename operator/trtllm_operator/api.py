"""LLMDeployment v1alpha1: what users write. What they read back is in ``api_status.py``.

The one definition of the API. ``crd.py`` turns it into the CRD: the text under a field is its description there,
and rules over several fields are CEL beside what they constrain, so the API server enforces all of it.
What needs the model or the cluster is the planner's business and ends as a condition.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

from trtllm_operator.naming import MAX_NAME_LENGTH


def cel(rule: str, message: str, *values: str) -> JsonDict:
    """Return one validation rule; ``values`` are CEL expressions for the %s and %d of the message.

    The API server estimates the cost of ``string(x) + ...`` as unbounded and refuses it, but not that of ``format``.
    """
    if not values:
        return {"rule": rule, "message": message}
    listed = ", ".join(f"dyn({value})" for value in values)
    return {"rule": rule, "messageExpression": f"'{message}'.format([{listed}])"}


class ApiModel(BaseModel):
    """Base of every API type: camelCase on the wire, frozen in memory, unknown fields ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )


class Dtype(StrEnum):
    """The numeric format of a checkpoint's weights."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FP8 = "fp8"
    NVFP4 = "nvfp4"
    MXFP4 = "mxfp4"
    INT4 = "int4"
    INT8 = "int8"


class SecretKey(ApiModel):
    """One key of a Secret in the same namespace. The operator references it and never reads it."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the Secret."""

    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")] = "HF_TOKEN"
    """Key inside the Secret."""


class Shape(ApiModel):
    """Facts about the model typed in by hand; they win over every other source."""

    parameters: Annotated[int, Field(ge=1_000_000, le=100_000_000_000_000)] | None = None
    """Number of parameters, embeddings included. Example: 70553706496."""

    layers: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Number of transformer layers."""

    hidden_size: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Width of the residual stream."""

    attention_heads: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Number of attention (query) heads; the tensor parallel size must divide it."""

    kv_heads: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Number of key-value heads."""

    head_dim: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Width of one attention head."""

    vocab_size: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Number of tokens in the vocabulary."""

    experts: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Number of routed experts per layer of a mixture-of-experts model."""

    max_position_embeddings: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Longest sequence the model was made for, in tokens."""


class Model(ApiModel):
    """Which model to serve and where its weights come from."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "self.uri.matches('^hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$')",
                    "model.uri must be hf://ORGANISATION/NAME, such as hf://meta-llama/Llama-3.3-70B-Instruct; got %s",
                    "self.uri",
                )
            ]
        }
    )

    uri: Annotated[str, Field(min_length=1, max_length=253)]
    """Where the checkpoint is: `hf://organisation/name` on the Hugging Face Hub."""

    secret_ref: SecretKey | None = None
    """Access token of a gated repository; becomes HF_TOKEN in the serving container."""

    shape: Shape | None = None
    """Facts about the model, for one the operator's catalogue does not know."""


class Interconnect(StrEnum):
    """How the GPUs of one node reach each other."""

    AUTO = "Auto"
    NVLINK = "NVLink"
    PCIE = "PCIe"


class Gpus(ApiModel):
    """The GPUs one replica may use."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "!has(self.count) || !has(self.maxCount) || self.count <= self.maxCount",
                    "gpus.count (%d) is larger than gpus.maxCount (%d)",
                    "self.count",
                    "self.maxCount",
                )
            ]
        }
    )

    count: Annotated[int, Field(ge=1, le=1024)] | None = None
    """GPUs per replica: exactly this many, or the plan is refused. Absent: the planner chooses."""

    max_count: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Most GPUs per replica the planner may choose when `count` is absent. Default: what the nodes have."""

    product: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    """Node label nvidia.com/gpu.product to run on, for example NVIDIA-H100-80GB-HBM3. Absent: read the nodes."""

    memory: Annotated[str, Field(max_length=16, pattern=r"^[1-9][0-9]*(Mi|Gi)$")] | None = None
    """Memory of one GPU, for a product nobody knows. Example: 80Gi."""

    per_node: Annotated[int, Field(ge=1, le=64)] | None = None
    """GPUs of one node. Absent: read the nodes, else 8."""

    interconnect: Interconnect | None = None
    """How the GPUs of one node reach each other. Absent or Auto: inferred from the product."""


class Parallelism(ApiModel):
    """Parallel sizes pinned by hand; the planner checks them and chooses the others."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "!has(self.expert) || !has(self.tensor) || self.tensor % self.expert == 0",
                    "parallelism.expert (%d) must divide parallelism.tensor (%d)",
                    "self.expert",
                    "self.tensor",
                )
            ]
        }
    )

    tensor: Annotated[int, Field(ge=1, le=128)] | None = None
    """Tensor parallel size: GPUs that split every layer."""

    pipeline: Annotated[int, Field(ge=1, le=64)] | None = None
    """Pipeline parallel size: stages that split the layers."""

    expert: Annotated[int, Field(ge=1, le=128)] | None = None
    """Expert parallel size of a mixture-of-experts model; divides the tensor parallel size."""


class PullPolicy(StrEnum):
    """When the kubelet pulls the image."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class Image(ApiModel):
    """The TensorRT-LLM image."""

    repository: (
        Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._:/-]*[a-zA-Z0-9]$")] | None
    ) = None
    """Image repository. Default: nvcr.io/nvidia/tensorrt-llm/release."""

    tag: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")] | None = None
    """Image tag, which is the TensorRT-LLM version. Default: 1.3.0rc24."""

    pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT
    """When the kubelet pulls the image."""

    pull_secrets: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=253)], ...], Field(max_length=8)] = ()
    """Names of image pull Secrets in the same namespace."""


class Engine(ApiModel):
    """How trtllm-serve runs."""

    image: Image | None = None
    """The TensorRT-LLM image."""

    max_seq_len: Annotated[int, Field(ge=64, le=16_777_216)] | None = None
    """Longest sequence served, prompt and answer together, in tokens. Default: 8192, or less where the model allows
    less."""


class ScalingMetric(StrEnum):
    """What a replica is busy with."""

    QUEUE_DEPTH = "QueueDepth"
    RUNNING_REQUESTS = "RunningRequests"
    KV_CACHE_UTILIZATION = "KvCacheUtilization"


class Scaling(ApiModel):
    """Replicas chosen by a HorizontalPodAutoscaler."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "self.minReplicas <= self.maxReplicas",
                    "scaling.minReplicas (%d) is larger than scaling.maxReplicas (%d)",
                    "self.minReplicas",
                    "self.maxReplicas",
                )
            ]
        }
    )

    min_replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """Fewest replicas."""

    max_replicas: Annotated[int, Field(ge=1, le=1000)]
    """Most replicas."""

    metric: ScalingMetric = ScalingMetric.QUEUE_DEPTH
    """Metric of trtllm-serve, averaged over the replicas. It needs an adapter that serves custom.metrics.k8s.io."""

    target: Annotated[str, Field(max_length=16, pattern=r"^[0-9]+(\.[0-9]+|m)?$")] = "4"
    """Wanted average per replica: requests for QueueDepth and RunningRequests, a fraction such as 0.8 for
    KvCacheUtilization."""


MetadataValue = Annotated[str, Field(max_length=4096)]
LabelValue = Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]


class PodMetadata(ApiModel):
    """Labels and annotations for the serving pods."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "!has(self.labels) || !self.labels.exists(k,"
                    " k.startsWith('trtllm.dev/') || k.startsWith('app.kubernetes.io/'))",
                    "podMetadata.labels may not use the prefixes trtllm.dev/ and app.kubernetes.io/,"
                    " which the operator manages",
                ),
                cel(
                    "!has(self.annotations) || !self.annotations.exists(k, k.startsWith('trtllm.dev/'))",
                    "podMetadata.annotations may not use the prefix trtllm.dev/, which the operator manages",
                ),
            ]
        }
    )

    labels: Annotated[dict[str, LabelValue], Field(max_length=32)] = {}
    """Further labels."""

    annotations: Annotated[dict[str, MetadataValue], Field(max_length=32)] = {}
    """Further annotations."""


class LLMDeploymentSpec(ApiModel):
    """The model to serve, its dtype and its GPUs; the operator works out the rest."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "!(has(self.replicas) && has(self.scaling))",
                    "set either replicas (%d) or scaling, not both",
                    "self.replicas",
                ),
                cel(
                    "!has(self.parallelism) || !has(self.parallelism.tensor)"
                    " || !has(self.gpus) || !has(self.gpus.count)"
                    " || self.parallelism.tensor * (has(self.parallelism.pipeline) ? self.parallelism.pipeline : 1)"
                    " == self.gpus.count"
                    " || (!has(self.parallelism.pipeline) && self.gpus.count % self.parallelism.tensor == 0)",
                    "parallelism.tensor (%d) x parallelism.pipeline (%d) cannot be gpus.count (%d);"
                    " change one of them or leave gpus.count out",
                    "self.parallelism.tensor",
                    "has(self.parallelism.pipeline) ? self.parallelism.pipeline : 1",
                    "self.gpus.count",
                ),
            ]
        }
    )

    model: Model
    """Which model to serve and where its weights come from."""

    dtype: Dtype | None = None
    """Numeric format of the checkpoint's weights. trtllm-serve takes it from the checkpoint and cannot change it, so a
    value that is not the checkpoint's is refused, naming a checkpoint that has it. Absent or auto: the checkpoint's."""

    gpus: Gpus | None = None
    """The GPUs one replica may use."""

    parallelism: Parallelism | None = None
    """Parallel sizes pinned by hand. Absent: the planner chooses."""

    engine: Engine | None = None
    """How trtllm-serve runs."""

    replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Fixed number of replicas; also what `kubectl scale` sets. Default: 1."""

    scaling: Scaling | None = None
    """Replicas chosen by a HorizontalPodAutoscaler. Not together with `replicas`."""

    pod_metadata: PodMetadata | None = None
    """Further labels and annotations for the serving pods."""


NAME_RULE = cel(
    f"size(self.metadata.name) <= {MAX_NAME_LENGTH} && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    f"metadata.name has %d characters; it must be at most {MAX_NAME_LENGTH} lower-case letters, digits and dashes,"
    " starting with a letter; got %s",
    "size(self.metadata.name)",
    "self.metadata.name",
)
"""A Service of the same name must be a DNS-1035 label, and controllers add suffixes to the names of pods."""
