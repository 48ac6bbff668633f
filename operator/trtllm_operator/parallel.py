"""How one replica is split over its GPUs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Parallel sizes of one replica. The expert parallel size divides the tensor parallel size and adds no GPUs.

    ``partition`` is the number of layers per pipeline stage; empty means TensorRT-LLM's even split.
    """

    tensor: int
    pipeline: int = 1
    expert: int = 1
    context: int = 1
    attention_dp: bool = False
    partition: tuple[int, ...] = ()

    @property
    def gpus(self) -> int:
        """GPUs of one replica, which is TensorRT-LLM's world size."""
        return self.tensor * self.pipeline * self.context

    @property
    def expert_tensor(self) -> int:
        """GPUs that share one expert: moe_tensor_parallel_size."""
        return max(1, self.tensor // self.expert)

    @property
    def requests_apart(self) -> int:
        """Groups of requests whose key-value caches are apart: attention data parallelism makes one per rank."""
        return self.tensor if self.attention_dp else 1

    def stage_layers(self, layers: int) -> tuple[int, ...]:
        """Layers of each stage; when even they are shared out as mapping.py does, the first stages taking the rest."""
        if self.partition:
            return self.partition
        share, rest = divmod(layers, self.pipeline)
        return tuple(share + (stage < rest) for stage in range(self.pipeline))

    def __str__(self) -> str:
        parts = [f"TP={self.tensor}"]
        parts += [f"PP={self.pipeline}"] if self.pipeline > 1 else []
        parts += [f"EP={self.expert}"] if self.expert > 1 else []
        parts += [f"CP={self.context}"] if self.context > 1 else []
        parts += ["attention DP"] if self.attention_dp else []
        return " ".join(parts)
