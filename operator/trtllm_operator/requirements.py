"""How many GPUs of each product a list of models needs: the smallest layout that fits, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from trtllm_operator.answers import answer
from trtllm_operator.api import Dtype, ParallelismPolicy
from trtllm_operator.checkpoints import Checkpoint
from trtllm_operator.desk import MOST_GPUS_OF_A_REPLICA, Flags, Misuse, manifest
from trtllm_operator.documents import document
from trtllm_operator.hardware import Gpu
from trtllm_operator.planned import Infeasible, Plan
from trtllm_operator.shorthand import GpuGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A checkpoint, and the model and dtype by which the user asked for it."""

    model: str
    dtype: Dtype | None
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What one checkpoint needs on one GPU product, which the user called ``gpu_name``."""

    subject: Subject
    gpu_name: str
    gpu: Gpu
    verdict: Plan | Infeasible

    @property
    def bytes_per_gpu(self) -> int | None:
        """Weights, overhead and the KV cache of one full-length sequence on the fullest GPU; None when unknown."""
        if isinstance(self.verdict, Infeasible) or self.verdict.memory is None:
            return None
        memory = self.verdict.memory
        return memory.weights + memory.overhead + self.verdict.max_seq_len * (memory.kv_bytes_per_token or 0)


def requirements(
    subjects: Sequence[Subject], gpus: Mapping[str, Gpu], flags: Flags
) -> tuple[Requirement, ...] | Misuse:
    """Plan every checkpoint on every GPU product with the fewest GPUs that fit, or by the policy of ``flags``.

    Raises InvalidObject where a flag is out of bounds.
    """
    found: list[Requirement] = []
    for subject, (name, gpu) in product(subjects, gpus.items()):
        as_many_as_needed = (GpuGroup(gpu=gpu, count=MOST_GPUS_OF_A_REPLICA),)
        policy = flags.policy or ParallelismPolicy.MINIMAL
        stored = manifest(subject.checkpoint, replace(flags, gpus=as_many_as_needed, policy=policy))
        if isinstance(stored, Misuse):
            return stored
        verdict = answer(document(stored), ()).verdict
        found.append(Requirement(subject=subject, gpu_name=name, gpu=gpu, verdict=verdict))
    return tuple(found)
