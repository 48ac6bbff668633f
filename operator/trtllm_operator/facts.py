"""The frozen inputs of the decision: what is known of the model and of the GPUs. None is a Kubernetes object."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from trtllm_operator.api import Dtype
from trtllm_operator.hardware import Gpu


class Source(StrEnum):
    """Where a fact comes from, the most trusted first."""

    SPEC = "Spec"
    CONFIG_MAP = "ConfigMap"
    HUB = "Hub"
    CATALOGUE = "Catalogue"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention: one compressed key-value vector per token, not divided by tensor parallelism."""

    kv_lora_rank: int
    rope_head_dim: int
    q_lora_rank: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSpace:
    """The layers of a hybrid that keep a constant state per sequence in place of keys and values (Mamba, gated delta).

    ``conv_dim`` channels keep ``conv_kernel - 1`` past values; ``heads`` x ``head_dim`` x ``state_dim`` is the state.
    """

    layers: int
    heads: int
    head_dim: int
    state_dim: int
    conv_dim: int
    conv_kernel: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """The routed experts of a mixture-of-experts model; ``layers`` of the model's layers have ``count`` of them.

    An expert has ``matrices`` of hidden x intermediate size: three when gated, two otherwise. ``latent_size`` takes the
    place of the hidden size where the experts work in a narrower space (Nemotron 3 Super).
    """

    count: int
    intermediate_size: int | None = None
    layers: int | None = None
    active: int | None = None
    matrices: int = 3
    latent_size: int | None = None

    def layer_parameters(self, hidden_size: int) -> int:
        """Weights of one layer's routed experts; 0 when their width is unknown."""
        width = self.latent_size or hidden_size
        return self.count * self.matrices * width * (self.intermediate_size or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model and its checkpoint; an unknown fact is None.

    ``parameters`` counts embeddings; None only for a model the user places by hand. ``weight_bytes`` is the
    checkpoint's own total, which wins over what ``parameters`` and the dtype say. ``quantization_block`` is the
    number of weights that share a scale along the input of a linear layer (128 for block fp8 and most int4, 16 for
    nvfp4, 32 for mxfp4); None: one scale per tensor or row. ``only_experts_quantized`` marks checkpoints whose
    other weights stay 16-bit (gpt-oss). ``attention_layers`` is the number of layers that keep keys and values when
    that is not all of them, and ``sliding_layers`` of those see only ``sliding_window`` tokens. ``dense_layers`` is the
    number of layers with a dense feed-forward part when that is not every layer without experts; it has three matrices
    of hidden x intermediate size, two where it is not ``gated``.
    """

    name: str
    architecture: str | None = None
    parameters: int | None
    weight_bytes: int | None = None
    checkpoint_dtype: Dtype
    quantization_block: int | None = None
    only_experts_quantized: bool = False
    kv_cache_dtype: Dtype | None = None
    layers: int | None = None
    hidden_size: int | None = None
    intermediate_size: int | None = None
    attention_heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    vocab_size: int | None = None
    tied_embeddings: bool = False
    max_position_embeddings: int | None = None
    experts: Experts | None = None
    latent_attention: LatentAttention | None = None
    state_space: StateSpace | None = None
    attention_layers: int | None = None
    dense_layers: int | None = None
    gated: bool = True
    sliding_window: int | None = None
    sliding_layers: int = 0
    source: Source = Source.CATALOGUE
    provenance: tuple[tuple[str, Source], ...] = ()
    """Fields that another source than ``source`` gave, sorted by name."""
    siblings: tuple[tuple[str, Dtype], ...] = ()
    """Other known checkpoints of the same model, with their dtypes."""
    notes: tuple[str, ...] = ()
    """What is approximated or unverified about these facts, as sentences for the plan's warnings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownModel:
    """A model whose size nothing tells. ``near`` are catalogue names that resemble it."""

    name: str
    near: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPool:
    """GPUs alike on nodes alike. ``nodes`` is None when nobody counted them."""

    gpu: Gpu
    gpus_per_node: int
    nodes: int | None = None

    @property
    def total(self) -> int | None:
        """GPUs in the pool, or None when unknown."""
        return None if self.nodes is None else self.nodes * self.gpus_per_node


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownGpu:
    """A product the catalogue and the labels say too little about."""

    product: str
    near: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything the planner may know; pools in the order of their product names."""

    model: ModelFacts | UnknownModel
    pools: tuple[GpuPool, ...] = ()
    unknown_gpus: tuple[UnknownGpu, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a workload is not ready, as told by its objects."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How a container ended, and what to change; ``time`` is RFC 3339."""

    reason: str
    message: str
    pod: str
    exit_code: int | None
    hint: str
    time: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What runs now. ``settled`` means the controllers have seen and finished the last change."""

    kind: str
    name: str
    wanted: int
    replicas: int
    ready: int
    settled: bool
    problem: Problem | None = None
    failure: Failure | None = None
