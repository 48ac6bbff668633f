"""What the planner answers: a plan, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from trtllm_operator.api import Dtype
from trtllm_operator.facts import GpuPool, ModelFacts
from trtllm_operator.hardware import Gpu
from trtllm_operator.memory import GpuMemory, gib
from trtllm_operator.parallel import Layout
from trtllm_operator.refusals import Reason

PLANNER_VERSION = "2"

Fit = Literal["Fits", "Tight"]


class Estimate(StrEnum):
    """How much the memory figures rest on."""

    EXACT = "Exact"
    """The checkpoint's own byte count and the model's shape are known."""
    CATALOGUE = "Catalogue"
    """The shape is known; bytes are parameters times dtype."""
    COARSE = "Coarse"
    """Only the number of parameters is known."""
    NONE = "None"
    """Not even that: the user fixed the layout, and nothing was checked against memory."""


class Caution(StrEnum):
    """What a plan warns of."""

    ATTENTION_DP_RECOMMENDED = "AttentionDPRecommended"
    COARSE_ESTIMATE = "CoarseEstimate"
    CONTEXT_PARALLEL_UNVERIFIED = "ContextParallelUnverified"
    DTYPE_DISPUTED = "DtypeDisputed"
    FACTS_UNVERIFIED = "FactsUnverified"
    HETEROGENEOUS_EXPERIMENTAL = "HeterogeneousExperimental"
    INTERCONNECT_ASSUMED = "InterconnectAssumed"
    KV_REPLICATED = "KVReplicated"
    MEMORY_TIGHT = "MemoryTight"
    NOT_ENOUGH_GPUS = "NotEnoughGPUs"
    PCIE_TENSOR_PARALLEL = "PCIeTensorParallel"
    SIZE_UNCHECKED = "SizeUnchecked"
    SLOW_INTER_NODE = "SlowInterNode"
    SMALL_GPU_UNVERIFIED = "SmallGPUUnverified"
    TREE_DOWNGRADED = "TreeDowngraded"
    TREE_OVERSIZES = "TreeOversizes"
    UNEVEN_STAGES = "UnevenStages"
    UNUSED_GPUS = "UnusedGPUs"


class Notice(NamedTuple):
    """A Caution, or what an earlier release called it, and its sentence."""

    caution: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.caution}: {self.sentence}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A layout that was looked at and not chosen; ``reason`` is a Reason, or what an earlier release called it."""

    layout: Layout
    reason: str
    detail: str
    memory: GpuMemory | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One pipeline stage: its layers, counted from 0, the GPU it runs on and what each of its GPUs holds."""

    index: int
    first_layer: int
    layers: int
    gpu: Gpu
    memory: GpuMemory | None

    @property
    def last_layer(self) -> int:
        """The stage's last layer, counted from 0."""
        return self.first_layer + self.layers - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A layout that would fit in place of a refused one."""

    layout: Layout
    gpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A layout that fits, what it is estimated to use, and how it was found.

    A replica is ``nodes`` pods of ``gpus_per_pod`` GPUs. ``pool`` is the pool of the first pod; only a heterogeneous
    pipeline has stages on other GPUs. ``memory`` is None when nothing tells the size of the model. ``product_named``:
    the spec said which GPU product.
    """

    id: str
    model: ModelFacts
    pool: GpuPool
    layout: Layout
    verdict: Fit
    estimate: Estimate
    stages: tuple[Stage, ...]
    nodes: int
    gpus_per_pod: int
    max_seq_len: int
    max_batch_size: int
    max_num_tokens: int
    kv_cache_dtype: Dtype
    kv_fraction: float
    typical_tokens: int
    because: tuple[str, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    notices: tuple[Notice, ...] = ()
    product_named: bool = False
    planner_version: str = PLANNER_VERSION

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.layout.gpus

    @property
    def heterogeneous(self) -> bool:
        """Whether the stages run on GPUs of several products."""
        return len({stage.gpu.product for stage in self.stages}) > 1

    @property
    def pod_products(self) -> tuple[str, ...]:
        """GPU product of each pod of a replica, in the order of the ranks."""
        gpus_per_stage = self.gpus // len(self.stages)
        firsts = (pod * self.gpus_per_pod // gpus_per_stage for pod in range(self.nodes))
        return tuple(self.stages[stage].gpu.product for stage in firsts)

    @property
    def memory(self) -> GpuMemory | None:
        """Memory of the GPU with the least room beside its weights."""
        known = [stage.memory for stage in self.stages if stage.memory is not None]
        return min(known, key=lambda memory: memory.free, default=None)

    @property
    def max_kv_tokens(self) -> int | None:
        """Tokens the KV caches of a replica are estimated to hold: the stage with the fewest decides."""
        held = [stage.memory.kv_tokens for stage in self.stages if stage.memory is not None]
        counted = [tokens for tokens in held if tokens is not None]
        return min(counted) * self.layout.requests_apart if counted else None

    @property
    def max_concurrent_sequences(self) -> int | None:
        """Sequences of the maximum length the KV cache is estimated to hold at once."""
        return None if self.max_kv_tokens is None else self.max_kv_tokens // self.max_seq_len

    @property
    def typical_concurrent_sequences(self) -> int | None:
        """Sequences of ``typical_tokens`` the KV cache is estimated to hold at once."""
        return None if self.max_kv_tokens is None else self.max_kv_tokens // self.typical_tokens

    @property
    def summary(self) -> str:
        """The plan in one sentence that fits ``kubectl get -o wide``."""
        gpus = "1 GPU" if self.gpus == 1 else f"{self.gpus} GPUs"
        nodes = "one node" if self.nodes == 1 else f"{self.nodes} nodes"
        products = ", ".join(dict.fromkeys(stage.gpu.product for stage in self.stages))
        placed = f"{self.layout} on {gpus} of {nodes} ({products})"
        if self.memory is None:
            return f"{placed}: fixed by the user, memory unchecked"
        room = self.max_kv_tokens
        kv = "" if room is None else f", room for {room} KV tokens"
        return f"{placed}: {gib(self.memory.weights)} GiB of weights per GPU{kv}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Infeasible:
    """No layout serves this spec; ``message`` names the number that failed and the field to change.

    ``suggestion`` fits on the same GPUs when there are enough of them; ``dtypes`` are checkpoint formats in which the
    model would fit the GPUs there are.
    """

    reason: Reason
    message: str
    model: ModelFacts | None = None
    rejected: tuple[Rejection, ...] = ()
    suggestion: Suggestion | None = None
    dtypes: tuple[Dtype, ...] = ()
