"""The model: which checkpoint, where it is, and what is known of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from trtllm_operator.api_base import ApiModel, ObjectName, cel, rules


class Dtype(StrEnum):
    """The numeric format of a checkpoint's weights."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FP8 = "fp8"
    NVFP4 = "nvfp4"
    MXFP4 = "mxfp4"
    INT4 = "int4"
    INT8 = "int8"


class Variant(StrEnum):
    """Whether another checkpoint of the same model may be served."""

    EXACT = "Exact"
    AUTO = "Auto"


class SecretKey(ApiModel):
    """One key of a Secret in the same namespace. The operator references it and never reads it."""

    name: ObjectName
    """Name of the Secret."""

    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")] = "HF_TOKEN"
    """Key inside the Secret."""


class ConfigMapReference(ApiModel):
    """A ConfigMap in the same namespace."""

    name: ObjectName
    """Name of the ConfigMap."""


Dimension = Annotated[int, Field(ge=1, le=1_000_000)]
LayerCount = Annotated[int, Field(ge=0, le=1000)]


class Shape(ApiModel):
    """Facts about the model typed in by hand. Each wins over every other source, field by field."""

    architecture: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_]+$")] | None = None
    """Model class, as `architectures` in config.json. Example: LlamaForCausalLM."""

    parameters: Annotated[int, Field(ge=1_000_000, le=100_000_000_000_000)] | None = None
    """Number of parameters, embeddings included. Example: 70553706496."""

    weight_bytes: Annotated[int, Field(ge=1_000_000, le=1_000_000_000_000_000)] | None = None
    """Size of the checkpoint in bytes: `metadata.total_size` of its safetensors index. Absent: from `parameters` and
    the dtype. Example: 141107412992."""

    layers: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Number of transformer layers (`num_hidden_layers`). Example: 80."""

    hidden_size: Dimension | None = None
    """Width of the residual stream. Example: 8192."""

    intermediate_size: Dimension | None = None
    """Width of the dense feed-forward layers. Example: 28672."""

    attention_heads: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Number of attention (query) heads, which the tensor parallel size must divide. Example: 64."""

    kv_heads: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Number of key-value heads (`num_key_value_heads`). Example: 8."""

    head_dim: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Width of one attention head. Absent: `hiddenSize` / `attentionHeads`. Example: 128."""

    vocab_size: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Number of tokens in the vocabulary. Example: 128256."""

    tied_embeddings: bool | None = None
    """Whether input and output embedding are one matrix (`tie_word_embeddings`)."""

    max_position_embeddings: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Longest sequence the model was made for, in tokens. Example: 131072."""

    experts: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Routed experts per layer of a mixture-of-experts model. Example: 128."""

    expert_intermediate_size: Dimension | None = None
    """Width of one routed expert (`moe_intermediate_size`). Example: 1536."""

    expert_layers: LayerCount | None = None
    """Layers that have experts. Absent: all. Example: 58."""

    kv_lora_rank: Dimension | None = None
    """Rank of the compressed keys and values of multi-head latent attention. Example: 512."""

    q_lora_rank: Dimension | None = None
    """Rank of the compressed queries of multi-head latent attention. Example: 1536."""

    rope_head_dim: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Width of the rotary part of a key in multi-head latent attention (`qk_rope_head_dim`). Example: 64."""

    attention_layers: LayerCount | None = None
    """Layers that keep keys and values, in a hybrid model. Absent: all. Example: 12."""

    sliding_window: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Tokens a sliding-window layer attends to. Example: 1024."""

    sliding_layers: LayerCount | None = None
    """Layers with a sliding window. Absent: all when `slidingWindow` is set. Example: 52."""

    quantization_block: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Weights that share one scale along a dimension of a quantised checkpoint: 128 for FP8 blocks, the group size of
    AWQ and GPTQ, 16 for NVFP4, 32 for MXFP4."""


_SCHEMES = (
    "hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"
    "|pvc://[a-z0-9][a-z0-9.-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)+"
    "|oci://[A-Za-z0-9][A-Za-z0-9.:-]*(/[a-z0-9][a-z0-9._-]*)+(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@sha256:[a-f0-9]+)?"
    "|s3://[a-z0-9][a-z0-9.-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*/?"
)


class Model(ApiModel):
    """Which model to serve and where its weights come from."""

    model_config = rules(
        cel(
            f"self.uri.matches('^({_SCHEMES})$')",
            "model.uri must be hf://ORGANISATION/NAME, pvc://CLAIM/PATH, oci://REGISTRY/REPOSITORY:TAG"
            " or s3://BUCKET/PATH, such as hf://meta-llama/Llama-3.3-70B-Instruct; got %s",
            "self.uri",
        ),
        cel(
            "!has(self.revision) || self.uri.startsWith('hf://')",
            "model.revision (%s) is for hf:// sources; model.uri is %s",
            "self.revision",
            "self.uri",
        ),
    )

    uri: Annotated[str, Field(min_length=1, max_length=253)]
    """Where the checkpoint is: `hf://organisation/name` on the Hugging Face Hub, `pvc://claim/path` on a volume,
    `oci://registry/repository:tag` as an image volume, which Kubernetes mounts by default since 1.35,
    `s3://bucket/path` in an object store."""

    revision: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")] | None = (
        None
    )
    """Commit, tag or branch of a `hf://` source; only a commit is reproducible. Default: the repository's own."""

    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")] | None = None
    """Name that clients send and `/v1/models` lists. Default: metadata.name. Example: llama-3.3-70b."""

    secret_ref: SecretKey | None = None
    """Access token of a gated repository; becomes HF_TOKEN in the containers that fetch the model."""

    trust_remote_code: bool = False
    """Run Python code that the checkpoint brings along: only for publishers you trust. Default: false."""

    config_map_ref: ConfigMapReference | None = None
    """The model's own files as keys of a ConfigMap, for planning without the Hub: `config.json`, and where they exist
    `model.safetensors.index.json` and `hf_quant_config.json`."""

    shape: Shape | None = None
    """Facts about the model, for one the operator's catalogue does not know."""

    variant: Variant = Variant.EXACT
    """Exact serves `uri` and nothing else. Auto may serve the catalogue's pre-quantised checkpoint of the same model
    in `dtype`."""
