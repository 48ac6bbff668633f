"""Why a layout, or a whole spec, cannot be served. Each reason has a line in docs/troubleshooting.md."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Reason(StrEnum):
    """Why a layout or a whole spec is refused."""

    CONTEXT_EXCEEDS_MODEL = "ContextExceedsModel"
    DTYPE_CHECKPOINT_MISMATCH = "DtypeCheckpointMismatch"
    DTYPE_UNSUPPORTED_ON_GPU = "DtypeUnsupportedOnGPU"
    EXPERT_PARALLEL_INVALID = "ExpertParallelInvalid"
    EXPERT_PARALLEL_ON_DENSE = "ExpertParallelOnDense"
    EXPERTS_NOT_DIVISIBLE = "ExpertsNotDivisible"
    FIELD_NOT_SUPPORTED = "FieldNotSupported"
    GPU_ARCH_UNSUPPORTED = "GPUArchUnsupported"
    GPU_UNKNOWN = "GPUUnknown"
    HEADS_NOT_DIVISIBLE = "HeadsNotDivisible"
    HETEROGENEOUS_NOT_ALLOWED = "HeterogeneousNotAllowed"
    HETEROGENEOUS_TENSOR_PARALLEL = "HeterogeneousTensorParallel"
    HETEROGENEOUS_WORKERS = "HeterogeneousWorkers"
    HOST_PATH_NOT_ALLOWED = "HostPathNotAllowed"
    INSUFFICIENT_MEMORY = "InsufficientMemory"
    INTERMEDIATE_INDIVISIBLE = "IntermediateIndivisible"
    INVALID_ENGINE_VALUE = "InvalidEngineValue"
    KV_HEADS_INDIVISIBLE = "KVHeadsIndivisible"
    MANAGED_OPTION = "ManagedOption"
    MODEL_FILES_MISSING = "ModelFilesMissing"
    MODEL_FILES_UNREADABLE = "ModelFilesUnreadable"
    MODEL_SIZE_UNKNOWN = "ModelSizeUnknown"
    MOE_INTERMEDIATE_INDIVISIBLE = "MoEIntermediateIndivisible"
    NO_GPUS = "NoGPUs"
    NOT_ENOUGH_GPUS = "NotEnoughGPUs"
    PARTITIONED_GPU = "PartitionedGPU"
    POD_SECURITY_VIOLATION = "PodSecurityViolation"
    QUANT_BLOCK_INDIVISIBLE = "QuantBlockIndivisible"
    SHARED_GPU = "SharedGPU"
    TENSOR_PARALLEL_ACROSS_NODES = "TensorParallelAcrossNodes"
    TOO_MANY_STAGES = "TooManyStages"
    UNKNOWN_FLAG = "UnknownFlag"
    UNSUPPORTED_BY_RELEASE = "UnsupportedByRelease"


class Refusal(NamedTuple):
    """A reason, and the sentence with the numbers and the field to change."""

    reason: Reason
    sentence: str
