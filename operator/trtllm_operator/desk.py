"""From the flags of ``plan`` and ``explain`` to the LLMDeployment they stand for.

The planner never sees a flag: it plans the object that ``-o yaml`` prints, so that the command line and the cluster
cannot differ.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trtllm_operator.api import Dtype, Interconnect, ParallelismMode, ParallelismPolicy
from trtllm_operator.checkpoints import Checkpoint
from trtllm_operator.hardware import NodeGroup
from trtllm_operator.naming import API_VERSION, KIND, MAX_NAME_LENGTH
from trtllm_operator.shorthand import GpuGroup

MOST_GPUS_OF_A_REPLICA = 1024
"""The bound of spec.gpus.maxCount; a cluster may have more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What the command line asks of a model: lengths in tokens, counts in GPUs of one replica.

    ``all_gpus`` gives every GPU of ``gpus`` to one replica; otherwise they are what the planner may choose from.
    """

    gpus: tuple[GpuGroup, ...]
    gpus_per_node: int | None = None
    all_gpus: bool = False
    count: int | None = None
    interconnect: Interconnect | None = None
    policy: ParallelismPolicy | None = None
    mode: ParallelismMode | None = None
    tensor: int | None = None
    pipeline: int | None = None
    expert: int | None = None
    context: int | None = None
    max_seq_len: int | None = None
    max_batch_size: int | None = None
    max_num_tokens: int | None = None
    kv_cache_dtype: Dtype | None = None
    concurrency: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def one_pipeline(self) -> bool:
        """Whether GPUs of several products are meant as one replica, not as a choice of pools."""
        return len(self.gpus) > 1 and self.mode in (ParallelismMode.PIPELINE, ParallelismMode.TENSOR)

    @property
    def total(self) -> int:
        """Every GPU there is."""
        return sum(group.total for group in self.gpus)


@dataclass(frozen=True, slots=True)
class Misuse:
    """Flags that contradict one another; ``sentence`` names them."""

    sentence: str

    def __str__(self) -> str:
        return self.sentence


def manifest(checkpoint: Checkpoint, flags: Flags) -> dict[str, Any] | Misuse:
    """Return the LLMDeployment that the flags stand for."""
    misuse = _contradiction(flags)
    if misuse is not None:
        return misuse
    spec = {
        "model": _stated(uri=checkpoint.uri, shape=dict(checkpoint.shape)),
        "dtype": checkpoint.dtype and checkpoint.dtype.value,
        "gpus": _gpus(flags),
        "parallelism": _parallelism(flags),
        "engine": _stated(
            maxSeqLen=flags.max_seq_len,
            maxBatchSize=flags.max_batch_size,
            maxNumTokens=flags.max_num_tokens,
            kvCacheDtype=_value(flags.kv_cache_dtype or checkpoint.kv_cache_dtype),
        ),
        "workload": _stated(
            inputTokens=flags.input_tokens, outputTokens=flags.output_tokens, concurrency=flags.concurrency
        ),
    }
    metadata = {"name": object_name(checkpoint.name)}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": _stated(**spec)}


def object_name(name: str) -> str:
    """Return a name for an object after a model: lower-case letters, digits and dashes, a letter first."""
    words = re.sub(r"[^a-z0-9]+", "-", name.lower().rpartition("/")[2]).strip("-")
    lettered = words if words[:1].isalpha() else f"model-{words}"
    return lettered[:MAX_NAME_LENGTH].strip("-")


def node_groups(groups: Sequence[GpuGroup], gpus_per_node: int | None) -> tuple[NodeGroup, ...] | Misuse:
    """Return the nodes that ``--gpus`` describes; COUNTxGPU is one node, or full nodes of the usual size."""
    found: list[NodeGroup] = []
    for group in groups:
        per_node = gpus_per_node or group.gpu.gpus_per_node
        if group.nodes is None and group.count > per_node and group.count % per_node:
            return Misuse(
                f"{group.count} GPUs do not fill nodes of {per_node}: write --gpus as NODESxCOUNTxGPU, "
                "or set --gpus-per-node"
            )
        if group.nodes is not None:
            nodes, count = group.nodes, group.count
        else:
            nodes, count = max(1, group.count // per_node), min(group.count, per_node)
        found.append(NodeGroup(nodes=nodes, gpus=count, product=group.gpu.product))
    return tuple(found)


def parameters_of(billions: float) -> int | Misuse:
    """Return a number of parameters; refuse what is no number of them."""
    parameters = billions * 1e9
    if not math.isfinite(parameters) or parameters <= 0:
        return Misuse(f"--params-b {billions} is no number of parameters in billions, such as 70")
    return round(parameters)


def _contradiction(flags: Flags) -> Misuse | None:
    for check in (_gpu_contradiction, _workload_contradiction):
        if (sentence := check(flags)) is not None:
            return Misuse(sentence)
    return None


def _gpu_contradiction(flags: Flags) -> str | None:
    counted = [group for group in flags.gpus if group.nodes is not None]
    if flags.gpus_per_node is not None and any(group.count != flags.gpus_per_node for group in counted):
        return f"--gpus says {counted[0].count} GPUs per node, --gpus-per-node {flags.gpus_per_node}: leave one out"
    if flags.all_gpus and flags.count is not None:
        return f"--all-gpus means {flags.total} GPUs, --count says {flags.count}: leave one out"
    if flags.count is not None and flags.count > flags.total:
        return f"--count is {flags.count}, --gpus has {flags.total}"
    if flags.all_gpus and len(flags.gpus) > 1 and not flags.one_pipeline:
        return (
            f"one replica over {len(flags.gpus)} GPU products can only be a pipeline: "
            "add --mode pipeline, or leave --all-gpus out to let the planner choose between them"
        )
    return None


def _workload_contradiction(flags: Flags) -> str | None:
    tokens = (flags.input_tokens, flags.output_tokens)
    if None in tokens and (flags.concurrency is not None or tokens != (None, None)):
        return "--concurrency, --input-tokens and --output-tokens size the KV cache together: both lengths are needed"
    used = (flags.input_tokens or 0) + (flags.output_tokens or 0)
    if flags.max_seq_len is not None and used > flags.max_seq_len:
        return f"--input-tokens and --output-tokens are {used} together, --max-seq-len is {flags.max_seq_len}"
    return None


def _gpus(flags: Flags) -> dict[str, Any]:
    if flags.one_pipeline:
        pools = [{"product": group.gpu.product, "count": group.total} for group in flags.gpus]
        return _stated(pools=pools, allowHeterogeneous=True, interconnect=_value(flags.interconnect))
    count = flags.total if flags.all_gpus else flags.count
    common = _stated(count=count, interconnect=_value(flags.interconnect))
    if len(flags.gpus) > 1:
        return common
    group = flags.gpus[0]
    return common | _stated(
        product=group.gpu.product,
        maxCount=min(group.total, MOST_GPUS_OF_A_REPLICA) if count is None else None,
        perNode=group.count if group.nodes is not None else flags.gpus_per_node,
    )


def _parallelism(flags: Flags) -> dict[str, Any]:
    whole = flags.total if flags.one_pipeline and flags.mode is ParallelismMode.TENSOR else None
    return _stated(
        policy=_value(flags.policy),
        mode=_value(flags.mode),
        tensor=flags.tensor or whole,
        pipeline=flags.pipeline,
        expert=flags.expert,
        context=flags.context,
    )


def _value(choice: Dtype | Interconnect | ParallelismMode | ParallelismPolicy | None) -> str | None:
    return None if choice is None else choice.value


def _stated(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value not in (None, {}, [])}
