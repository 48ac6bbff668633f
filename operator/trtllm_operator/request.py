"""What a spec asks of the planner, with every default filled in once."""

from __future__ import annotations

from dataclasses import dataclass

from trtllm_operator.api import (
    Dtype,
    Interconnect,
    LLMDeploymentSpec,
    ParallelismMode,
    ParallelismPolicy,
)
from trtllm_operator.facts import ModelFacts
from trtllm_operator.memory import DEFAULT_KV_FRACTION, DEFAULT_NUM_TOKENS, TIGHT_NUM_TOKENS, Load

DEFAULT_MAX_SEQ_LEN = 8192
DEFAULT_STATE_SLOTS = 64
MAX_BATCH_SIZE = 2048
"""trtllm-serve's --max_batch_size."""

_TYPICAL_TOKENS = 2048
_FP8_KV_CHECKPOINTS = (Dtype.FP8, Dtype.NVFP4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The planner's view of a spec: lengths in tokens, counts in GPUs per replica.

    The pools that were gathered follow from ``product``; it is here because naming another one asks for another plan.
    """

    product: str | None
    count: int | None
    max_count: int | None
    interconnect: Interconnect
    pools: tuple[tuple[str, int], ...]
    allow_heterogeneous: bool
    policy: ParallelismPolicy
    mode: ParallelismMode
    tensor: int | None
    pipeline: int | None
    expert: int | None
    context: int
    attention_dp: bool
    allow_tensor_across_nodes: bool
    stated_dtype: Dtype | None
    max_seq_len: int
    stated_seq_len: int | None
    max_batch_size: int | None
    max_num_tokens: int | None
    kv_cache_dtype: Dtype
    kv_fraction: float
    concurrency: int | None
    typical_tokens: int

    @property
    def pinned(self) -> bool:
        """Whether the user fixed the layout itself."""
        return self.tensor is not None or self.pipeline is not None

    @property
    def needed_tokens(self) -> int:
        """Tokens the KV cache of a replica must hold."""
        return max(self.max_seq_len, (self.concurrency or 0) * self.typical_tokens)

    @property
    def state_slots(self) -> int:
        """Sequences a hybrid keeps a recurrent state for."""
        return self.max_batch_size or self.concurrency or DEFAULT_STATE_SLOTS

    def num_tokens(self, *, optimistic: bool) -> int:
        """Tokens of one forward pass: as stated, else trtllm-serve's default, or fewer where memory is tight."""
        return self.max_num_tokens or (TIGHT_NUM_TOKENS if optimistic else DEFAULT_NUM_TOKENS)

    def load(self, *, optimistic: bool) -> Load:
        """Return what a server with this request holds besides weights."""
        return Load(
            kv_cache_dtype=self.kv_cache_dtype,
            kv_fraction=self.kv_fraction,
            max_num_tokens=self.num_tokens(optimistic=optimistic),
            state_slots=self.state_slots,
            optimistic=optimistic,
        )


def request(spec: LLMDeploymentSpec, model: ModelFacts) -> Request:
    """Read the planning fields of a spec; lengths are capped by what the model was made for."""
    gpus, parallelism, engine, workload = spec.gpus, spec.parallelism, spec.engine, spec.workload
    stated = engine.max_seq_len if engine else None
    max_seq_len = stated or min(DEFAULT_MAX_SEQ_LEN, model.max_position_embeddings or DEFAULT_MAX_SEQ_LEN)
    percent = engine.kv_cache_free_gpu_memory_percent if engine else None
    return Request(
        product=gpus.product if gpus else None,
        count=gpus.count if gpus else None,
        max_count=gpus.max_count if gpus else None,
        interconnect=(gpus and gpus.interconnect) or Interconnect.AUTO,
        pools=tuple((pool.product, pool.count) for pool in gpus.pools) if gpus else (),
        allow_heterogeneous=bool(gpus and gpus.allow_heterogeneous),
        policy=(parallelism and parallelism.policy) or ParallelismPolicy.GUIDE,
        mode=(parallelism and parallelism.mode) or ParallelismMode.AUTO,
        tensor=parallelism.tensor if parallelism else None,
        pipeline=parallelism.pipeline if parallelism else None,
        expert=parallelism.expert if parallelism else None,
        context=(parallelism and parallelism.context) or 1,
        attention_dp=bool(parallelism and parallelism.attention_data_parallel),
        allow_tensor_across_nodes=bool(parallelism and parallelism.allow_tensor_across_nodes),
        stated_dtype=None if spec.dtype in (None, Dtype.AUTO) else spec.dtype,
        max_seq_len=max_seq_len,
        stated_seq_len=stated,
        max_batch_size=engine.max_batch_size if engine else None,
        max_num_tokens=engine.max_num_tokens if engine else None,
        kv_cache_dtype=kv_cache_dtype(spec, model),
        kv_fraction=DEFAULT_KV_FRACTION if percent is None else percent / 100,
        concurrency=workload.concurrency if workload else None,
        typical_tokens=_typical_tokens(spec, max_seq_len),
    )


def kv_cache_dtype(spec: LLMDeploymentSpec, model: ModelFacts) -> Dtype:
    """Return the KV cache's format: as stated, else the checkpoint's own, else fp8 beside fp8 and nvfp4 weights."""
    stated = spec.engine.kv_cache_dtype if spec.engine else None
    if stated is not None and Dtype(stated) != Dtype.AUTO:
        return Dtype(stated)
    if model.kv_cache_dtype is not None:
        return model.kv_cache_dtype
    return Dtype.FP8 if model.checkpoint_dtype in _FP8_KV_CHECKPOINTS else Dtype.BFLOAT16


def _typical_tokens(spec: LLMDeploymentSpec, max_seq_len: int) -> int:
    workload = spec.workload
    if workload is None or (workload.input_tokens is None and workload.output_tokens is None):
        return min(max_seq_len, _TYPICAL_TOKENS)
    return min(max_seq_len, max(1, (workload.input_tokens or 0) + (workload.output_tokens or 0)))
