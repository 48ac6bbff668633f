"""trtllm-serve: its image, its limits and what is passed through to it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, JsonValue

from trtllm_operator.api_base import ApiModel, ObjectName, cel, rules


class PullPolicy(StrEnum):
    """When the kubelet pulls the image."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class Image(ApiModel):
    """The TensorRT-LLM image."""

    repository: (
        Annotated[
            str,
            Field(
                min_length=1,
                max_length=255,
                pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$",
            ),
        ]
        | None
    ) = None
    """Image repository, without a tag. Default: the operator's setting, nvcr.io/nvidia/tensorrt-llm/release."""

    tag: (
        Annotated[
            str,
            Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}(@sha256:[a-f0-9]{64})?$"),
        ]
        | None
    ) = None
    """Image tag, which tells the TensorRT-LLM version; a digest may follow it. Default: the version this operator
    release was tested with. Example: 1.3.0rc24."""

    pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT
    """When the kubelet pulls the image."""

    pull_secrets: Annotated[
        tuple[ObjectName, ...], Field(max_length=8, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = ()
    """Names of image pull Secrets in the same namespace. Example: [ngc-pull]."""


class KvCacheDtype(StrEnum):
    """The numeric format of cached keys and values."""

    AUTO = "auto"
    FP8 = "fp8"
    NVFP4 = "nvfp4"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class KeySelector(ApiModel):
    """One key of a ConfigMap or a Secret in the same namespace."""

    name: ObjectName
    """Name of the object."""

    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
    """Key inside it."""

    optional: bool = False
    """Start without the variable when the object or the key is missing. Default: false."""


class PodField(ApiModel):
    """A field of the serving pod."""

    field_path: Annotated[
        str,
        Field(
            max_length=400,
            pattern=r"^(metadata\.(name|namespace|uid|(labels|annotations)\['[A-Za-z0-9./_-]+'\])"
            r"|spec\.(nodeName|serviceAccountName)|status\.(hostIP|hostIPs|podIP|podIPs))$",
        ),
    ]
    """Path of the field. Example: spec.nodeName."""


class VariableSource(ApiModel):
    """Where the value of an environment variable comes from: exactly one."""

    model_config = rules(
        cel(
            "[has(self.secretKeyRef), has(self.configMapKeyRef), has(self.fieldRef)].filter(set, set).size() == 1",
            "valueFrom needs exactly one of secretKeyRef, configMapKeyRef and fieldRef; got %d",
            "[has(self.secretKeyRef), has(self.configMapKeyRef), has(self.fieldRef)].filter(set, set).size()",
        )
    )

    secret_key_ref: KeySelector | None = None
    """A key of a Secret."""

    config_map_key_ref: KeySelector | None = None
    """A key of a ConfigMap."""

    field_ref: PodField | None = None
    """A field of the pod."""


class Variable(ApiModel):
    """One environment variable of the serving container."""

    model_config = rules(
        cel(
            "!(has(self.value) && has(self.valueFrom))",
            "engine.env: %s has both value and valueFrom",
            "self.name",
        ),
        cel(
            "!(self.name in ['HF_HOME', 'HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN'])",
            "engine.env: %s is managed by the operator; use model.secretRef for a token and modelCache for a directory",
            "self.name",
        ),
    )

    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """Name. Example: TLLM_LOG_LEVEL."""

    value: Annotated[str, Field(max_length=4096)] | None = None
    """Literal value; `$(NAME)` is not expanded. Example: INFO."""

    value_from: VariableSource | None = None
    """Where the value comes from instead."""


_MANAGED_FLAG = (
    "(?s)^--(host|port|config|extra_llm_api_options|tensor_parallel_size|tp_size|pipeline_parallel_size|pp_size"
    "|context_parallel_size|cp_size|moe_expert_parallel_size|ep_size|enable_attention_dp|gpus_per_node|max_batch_size"
    "|max_num_tokens|max_seq_len|(kv_cache_)?free_gpu_memory_fraction|kv_cache_dtype|served_model_name|(hf_)?revision"
    "|trust_remote_code)(=.*)?$"
)


class Engine(ApiModel):
    """How trtllm-serve runs."""

    model_config = rules(
        cel(
            f"!has(self.args) || !self.args.exists(arg, arg.matches('{_MANAGED_FLAG}'))",
            "engine.args may not hold %s, which the operator manages; use the fields of model, parallelism and engine",
            f"self.args.filter(arg, arg.matches('{_MANAGED_FLAG}'))[0]",
        )
    )

    image: Image | None = None
    """The TensorRT-LLM image."""

    max_seq_len: Annotated[int, Field(ge=64, le=16_777_216)] | None = None
    """Longest sequence served, prompt and answer together, in tokens. Default: 8192, or less where the model allows
    less."""

    max_batch_size: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Most requests one replica works on at once. Default: from the plan. Example: 64."""

    max_num_tokens: Annotated[int, Field(ge=64, le=1_048_576)] | None = None
    """Most tokens of one forward pass. More speeds prefill up and takes memory from the KV cache. Default: from the
    plan. Example: 8192."""

    kv_cache_dtype: KvCacheDtype | None = None
    """Numeric format of the KV cache. fp8 holds twice the tokens of bfloat16. Absent or auto: the checkpoint's."""

    kv_cache_free_gpu_memory_percent: Annotated[int, Field(ge=1, le=99)] | None = None
    """Share of the GPU memory left after weights and buffers that the KV cache takes, in percent; not a share of the
    whole memory. Default: 90."""

    config: Annotated[
        dict[str, JsonValue],
        Field(max_length=64, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
    ] = {}
    """Further keys of trtllm-serve's YAML configuration. A key the operator manages is refused, naming the field to
    use. Example: {enable_chunked_prefill: true}."""

    args: Annotated[tuple[Annotated[str, Field(max_length=1024)], ...], Field(max_length=64)] = ()
    """Further arguments of trtllm-serve, one list item each; no shell sees them. A flag the operator manages is
    refused. Example: [--tool_parser, qwen3]."""

    env: Annotated[
        tuple[Variable, ...],
        Field(
            max_length=64,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    """Further environment variables of the serving container."""
