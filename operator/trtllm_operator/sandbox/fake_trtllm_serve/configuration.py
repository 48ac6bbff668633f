"""The configuration file, validated by pydantic models made from the release's tables, as the real one's is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, create_model

from trtllm_operator.engine_versions import EngineRelease, Table

Config = dict[str, Any]

_TYPES: dict[str, Any] = {
    "any": Any,
    "bool": bool,
    "int": int,
    "list": list[int | float],
    "map": dict[str, Any],
    "number": float,
    "str": str,
}

_KEY_OF_FLAG = {
    "tp_size": "tensor_parallel_size",
    "pp_size": "pipeline_parallel_size",
    "cp_size": "context_parallel_size",
    "ep_size": "moe_expert_parallel_size",
    "cluster_size": "moe_cluster_parallel_size",
    "kv_cache_dtype": "kv_cache_config.dtype",
    "free_gpu_memory_fraction": "kv_cache_config.free_gpu_memory_fraction",
    "kv_cache_free_gpu_memory_fraction": "kv_cache_config.free_gpu_memory_fraction",
}

_KV_CACHE_TYPES = {"auto", "fp8", "fp8_ds_mla", "nvfp4", "float16", "bfloat16", "float32"}


def effective(given: Mapping[str, Any], release: EngineRelease) -> Config:
    """Return the options in force, from the flags and the file they name.

    Raises OSError and yaml.YAMLError for the file, pydantic.ValidationError for its content and ValueError for a value.
    """
    path = given.get("config") or given.get("extra_llm_api_options")
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) if path else None
    from_file = _checked(content or {}, release)
    from_flags = _as_config(given, release)
    both = _over(from_file, from_flags) if release.precedence == "flag" else _over(from_flags, from_file)
    _check_kv_cache(both.get("kv_cache_config") or {})
    return both


def _checked(content: Mapping[str, Any], release: EngineRelease) -> Config:
    below = {name: _model(f"{_camel(name)}", table, {}) for name, table in release.sections.items()}
    return _model("TorchLlmArgs", release.config, below).model_validate(content).model_dump(exclude_unset=True)


def _model(name: str, table: Table, below: Mapping[str, type[BaseModel]]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for key, kind in table.items():
        annotation = below.get(key, _TYPES[kind.removesuffix("?")])
        fields[key] = (annotation | None if kind.endswith("?") else annotation, None)
    strict = ConfigDict(extra="forbid", protected_namespaces=())
    model: type[BaseModel] = create_model(name, __config__=strict, **fields)
    return model


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _as_config(given: Mapping[str, Any], release: EngineRelease) -> Config:
    config: Config = {}
    for flag, value in given.items():
        key, _, inner = _KEY_OF_FLAG.get(flag, flag).partition(".")
        if key in release.config:
            config = _over(config, {key: {inner: value} if inner else value})
    return config


def _over(below: Config, above: Mapping[str, Any]) -> Config:
    merged = dict(below)
    for key, value in above.items():
        mine = merged.get(key)
        merged[key] = {**mine, **value} if isinstance(mine, dict) and isinstance(value, dict) else value
    return merged


def _check_kv_cache(section: Mapping[str, Any]) -> None:
    fraction = section.get("free_gpu_memory_fraction")
    if fraction is not None and not 0 <= fraction <= 1:
        raise ValueError("kv_cache_config.free_gpu_memory_fraction must be a float between 0 and 1")
    if section.get("dtype", "auto") not in _KV_CACHE_TYPES:
        raise ValueError('kv_cache_config.dtype must be one of "auto", "fp8", "nvfp4", or valid torch.dtype string')
