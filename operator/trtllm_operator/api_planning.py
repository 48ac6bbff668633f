"""What the planner is told: the GPUs it may use, the sizes pinned by hand and the expected work."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from trtllm_operator.api_base import ApiModel, ResourceName, cel, rules


class Interconnect(StrEnum):
    """How the GPUs of one node reach each other."""

    AUTO = "Auto"
    NVLINK = "NVLink"
    PCIE = "PCIe"


Product = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")]
GpuCount = Annotated[int, Field(ge=1, le=1024)]


class PoolShare(ApiModel):
    """GPUs of one product in a heterogeneous pipeline."""

    product: Product
    """Node label nvidia.com/gpu.product. Example: NVIDIA-GeForce-RTX-4090."""

    count: GpuCount
    """GPUs of this product per replica. Example: 2."""


class Gpus(ApiModel):
    """The GPUs one replica may use."""

    model_config = rules(
        cel(
            "!has(self.count) || !has(self.maxCount) || self.count <= self.maxCount",
            "gpus.count (%d) is larger than gpus.maxCount (%d)",
            "self.count",
            "self.maxCount",
        ),
        cel(
            "!has(self.pools) || size(self.pools) == 0 || (has(self.allowHeterogeneous) && self.allowHeterogeneous)",
            "gpus.pools names %d products; set gpus.allowHeterogeneous to true to build one pipeline from them",
            "size(self.pools)",
        ),
        cel(
            "!has(self.pools) || size(self.pools) == 0 || !has(self.product)",
            "set either gpus.product (%s) or gpus.pools, not both",
            "self.product",
        ),
        cel(
            "!has(self.pools) || size(self.pools) == 0 || !has(self.count)"
            " || self.pools.map(pool, pool.count).sum() == self.count",
            "gpus.pools add up to %d GPUs, gpus.count is %d; leave gpus.count out",
            "self.pools.map(pool, pool.count).sum()",
            "self.count",
        ),
    )

    count: GpuCount | None = None
    """GPUs per replica: exactly this many, or the plan is refused. Absent: the planner chooses. Example: 4."""

    max_count: GpuCount | None = None
    """Most GPUs per replica the planner may choose when `count` is absent. Default: what the nodes have."""

    product: Product | None = None
    """Node label nvidia.com/gpu.product to run on. Absent: read the nodes. Example: NVIDIA-H100-80GB-HBM3."""

    memory: Annotated[str, Field(max_length=16, pattern=r"^[1-9][0-9]*(Mi|Gi)$")] | None = None
    """Memory of one GPU in Mi or Gi, for a product nobody knows. Example: 80Gi."""

    per_node: Annotated[int, Field(ge=1, le=64)] | None = None
    """GPUs of one node. Absent: read the nodes, else 8."""

    interconnect: Interconnect | None = None
    """How the GPUs of one node reach each other. Absent or Auto: inferred from the product."""

    resource_name: ResourceName | None = None
    """Extended resource the pods request. Default: nvidia.com/gpu. Example of a MIG slice: nvidia.com/mig-3g.40gb."""

    pools: Annotated[tuple[PoolShare, ...], Field(max_length=16)] = ()
    """Different GPUs in one pipeline, its stages in this order. Needs `allowHeterogeneous`."""

    allow_heterogeneous: bool = False
    """Allow pipeline stages on different GPU products; the slowest sets the pace. Default: false."""


class ParallelismPolicy(StrEnum):
    """How a layout is preferred over another."""

    GUIDE = "Guide"
    MINIMAL = "Minimal"


class ParallelismMode(StrEnum):
    """What the planner splits first."""

    AUTO = "Auto"
    TENSOR = "Tensor"
    PIPELINE = "Pipeline"


class Parallelism(ApiModel):
    """Parallel sizes pinned by hand, and how the planner chooses the others."""

    model_config = rules(
        cel(
            "!has(self.expert) || !has(self.tensor) || self.tensor % self.expert == 0",
            "parallelism.expert (%d) must divide parallelism.tensor (%d)",
            "self.expert",
            "self.tensor",
        )
    )

    policy: ParallelismPolicy = ParallelismPolicy.GUIDE
    """Guide follows the decision tree by weight size and checks it against the memory estimate; Minimal takes the
    fewest GPUs that fit."""

    mode: ParallelismMode = ParallelismMode.AUTO
    """Tensor splits every layer, Pipeline splits the stack of layers. Default: Auto, by the interconnect."""

    tensor: Annotated[int, Field(ge=1, le=128)] | None = None
    """Tensor parallel size: GPUs that split every layer. Example: 4."""

    pipeline: Annotated[int, Field(ge=1, le=64)] | None = None
    """Pipeline parallel size: stages that split the layers. Example: 2."""

    expert: Annotated[int, Field(ge=1, le=128)] | None = None
    """Expert parallel size of a mixture-of-experts model; divides the tensor parallel size. Example: 2."""

    context: Annotated[int, Field(ge=1, le=64)] | None = None
    """Context parallel size: GPUs that split the sequence. Absent: 1."""

    attention_data_parallel: bool = False
    """Give each GPU whole attention layers and a share of the requests, instead of a share of each attention layer.
    Default: false."""

    allow_tensor_across_nodes: bool = False
    """Allow a tensor parallel group larger than one node, which needs NVLink or InfiniBand between nodes.
    Default: false."""


class Workload(ApiModel):
    """The work to expect, which sizes the KV cache: `concurrency` sequences of `inputTokens` + `outputTokens`."""

    input_tokens: Annotated[int, Field(ge=1, le=16_777_216)]
    """Tokens of a typical prompt. Example: 4000."""

    output_tokens: Annotated[int, Field(ge=1, le=16_777_216)]
    """Tokens of a typical answer. Example: 1000."""

    concurrency: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """Requests one replica serves at once. Example: 16."""
