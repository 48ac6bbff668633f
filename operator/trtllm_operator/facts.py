"""The frozen inputs of the decision: what is known of the model and of the GPUs. None is a Kubernetes object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trtllm_operator.api import Dtype
from trtllm_operator.hardware import Gpu


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model and its checkpoint. ``parameters`` counts embeddings; an unknown dimension is None."""

    name: str
    architecture: str | None = None
    parameters: int
    checkpoint_dtype: Dtype
    layers: int | None = None
    hidden_size: int | None = None
    attention_heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    vocab_size: int | None = None
    experts: int | None = None
    max_position_embeddings: int | None = None
    source: Literal["Catalogue", "Spec"] = "Catalogue"
    siblings: tuple[tuple[str, Dtype], ...] = ()
    """Other known checkpoints of the same model, with their dtypes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownModel:
    """A model whose size nothing tells."""

    name: str


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
class Observed:
    """What runs now. ``settled`` means the controllers have seen and finished the last change."""

    kind: str
    name: str
    wanted: int
    replicas: int
    ready: int
    settled: bool
    problem: Problem | None = None
