"""LLMDeployment v1alpha1: what users write. What they read back is in ``api_status.py``.

The one definition of the API; its parts are in the ``api_*`` modules. ``crd.py`` turns it into the CRD: the text under
a field is its description there, and rules over several fields are CEL beside what they constrain, so the API server
enforces all of it. What needs the model or the cluster is the planner's business and ends as a condition.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from trtllm_operator.api_affinity import Affinity, TopologySpreadConstraint
from trtllm_operator.api_base import ApiModel, Decimal, Labels, ObjectName, Size, cel, rules
from trtllm_operator.api_engine import Engine, KvCacheDtype, PullPolicy
from trtllm_operator.api_model import Dtype, Model, Shape, Variant
from trtllm_operator.api_network import Disruption, Expose, Monitoring, NetworkPolicy, Proxy
from trtllm_operator.api_planning import Gpus, Interconnect, Parallelism, ParallelismMode, ParallelismPolicy, Workload
from trtllm_operator.api_pod import PodMetadata, Resources, SecurityProfile, Toleration
from trtllm_operator.api_scaling import PlanChangePolicy, Rollout, RolloutStrategy, Scaling, ScalingMetric
from trtllm_operator.api_storage import ModelCache
from trtllm_operator.naming import MAX_NAME_LENGTH, NAME_PATTERN

__all__ = [
    "NAME_RULE",
    "ApiModel",
    "Dtype",
    "Interconnect",
    "KvCacheDtype",
    "LLMDeploymentSpec",
    "Model",
    "ParallelismMode",
    "ParallelismPolicy",
    "PlanChangePolicy",
    "PullPolicy",
    "RolloutStrategy",
    "ScalingMetric",
    "SecurityProfile",
    "Shape",
    "Variant",
]


class Cost(ApiModel):
    """Price of a GPU, for `status.cost`."""

    per_gpu_hour: Decimal
    """Price of one GPU for one hour, in `currency`. Example: "2.50"."""

    currency: Annotated[str, Field(max_length=3, pattern=r"^[A-Z]{3}$")] = "USD"
    """Currency, as three letters of ISO 4217."""


def _size(name: str) -> str:
    return f"(has(self.parallelism.{name}) ? self.parallelism.{name} : 1)"


_PINNED = f"{_size('tensor')} * {_size('pipeline')} * {_size('context')}"


class LLMDeploymentSpec(ApiModel):
    """The model to serve, its dtype and its GPUs; the operator works out the rest."""

    model_config = rules(
        cel(
            "!(has(self.replicas) && has(self.scaling))",
            "set either replicas (%d) or scaling, not both",
            "self.replicas",
        ),
        cel(
            "!has(self.parallelism) || !has(self.gpus) || !has(self.gpus.count)"
            " || (has(self.parallelism.tensor) && has(self.parallelism.pipeline)"
            f" ? self.gpus.count == {_PINNED} : self.gpus.count % ({_PINNED}) == 0)",
            "parallelism.tensor (%d) x parallelism.pipeline (%d) x parallelism.context (%d) cannot be gpus.count (%d);"
            " change one of them or leave gpus.count out",
            _size("tensor"),
            _size("pipeline"),
            _size("context"),
            "self.gpus.count",
        ),
        cel(
            "!has(self.workload) || !has(self.engine) || !has(self.engine.maxSeqLen)"
            " || self.workload.inputTokens + self.workload.outputTokens <= self.engine.maxSeqLen",
            "workload.inputTokens (%d) + workload.outputTokens (%d) is more than engine.maxSeqLen (%d)",
            "self.workload.inputTokens",
            "self.workload.outputTokens",
            "self.engine.maxSeqLen",
        ),
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

    workload: Workload | None = None
    """The work to expect, which sizes the KV cache. Absent: room for one sequence of `engine.maxSeqLen`."""

    replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Fixed number of replicas; also what `kubectl scale` sets. Default: 1."""

    scaling: Scaling | None = None
    """Replicas chosen by a HorizontalPodAutoscaler. Not together with `replicas`."""

    model_cache: ModelCache | None = None
    """Where weights are kept between starts. Absent: on the node's own disk while the pod lives."""

    resources: Resources | None = None
    """CPU, memory and further devices of a serving container. Its GPUs follow from the plan."""

    shared_memory_size: Size | None = None
    """Size of /dev/shm, which GPUs exchange data through. Default: from the plan. Example: 16Gi."""

    node_selector: Labels = {}
    """Node labels the pods need, besides those of the plan. Example: {pool: h100}."""

    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] = ()
    """Taints the pods tolerate."""

    affinity: Affinity | None = None
    """Where the pods run, besides what the plan needs."""

    topology_spread_constraints: Annotated[
        tuple[TopologySpreadConstraint, ...],
        Field(
            max_length=16,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["topologyKey", "whenUnsatisfiable"],
            },
        ),
    ] = ()
    """How the pods spread over zones, racks or nodes."""

    priority_class_name: ObjectName | None = None
    """Priority class of the pods. Default: the cluster's."""

    scheduler_name: ObjectName | None = None
    """Scheduler of the pods. Default: the cluster's."""

    runtime_class_name: ObjectName | None = None
    """Runtime class of the pods. Default: the cluster's. Example: nvidia."""

    service_account_name: ObjectName | None = None
    """Service account of the pods; its token is not mounted. Default: the namespace's default account."""

    pod_metadata: PodMetadata | None = None
    """Further labels and annotations for the serving pods."""

    security_profile: SecurityProfile | None = None
    """Pod Security Standard the pods meet; Restricted runs them without root, which is unverified for
    NVIDIA's own images. Default: Baseline."""

    startup_timeout_seconds: Annotated[int, Field(ge=60, le=86_400)] | None = None
    """Seconds a replica may take to fetch and load its weights, and at least what their download to `modelCache.pvc`
    may take. Default: from the bytes to load."""

    drain_timeout_seconds: Annotated[int, Field(ge=0, le=86_400)] | None = None
    """Seconds a replica may take to finish its requests before it is stopped. Default: 300."""

    rollout: Rollout | None = None
    """How replicas are replaced when something changes."""

    plan_change_policy: PlanChangePolicy | None = None
    """What happens when an edit leads to another plan: Apply, or RequireApproval, which keeps the plan in force until
    the annotation trtllm.dev/approve-plan names the new plan's id. Default: Apply."""

    expose: Expose | None = None
    """How the server is reached. Absent: by a Service inside the cluster."""

    monitoring: Monitoring | None = None
    """Scraping of the replicas' metrics."""

    disruption: Disruption | None = None
    """Replicas that stay up while nodes are drained."""

    network_policy: NetworkPolicy | None = None
    """Who may reach the server. Absent: everybody in the cluster."""

    proxy: Proxy | None = None
    """Proxy for downloading weights."""

    cost: Cost | None = None
    """Price of a GPU, for `status.cost`."""

    paused: bool = False
    """Keep the status up to date and change nothing else. Default: false."""


NAME_RULE = cel(
    f"size(self.metadata.name) <= {MAX_NAME_LENGTH} && self.metadata.name.matches('{NAME_PATTERN}')",
    f"metadata.name has %d characters; it must be at most {MAX_NAME_LENGTH} lower-case letters, digits and dashes,"
    " starting with a letter; got %s",
    "size(self.metadata.name)",
    "self.metadata.name",
)
"""Controllers add suffixes to the names of pods, which leaves 40 characters."""
