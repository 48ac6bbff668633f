"""In which format a checkpoint's weights are: as ModelOpt, compressed-tensors, GPTQ, AWQ, fp8 and mxfp4 write it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trtllm_operator.api import Dtype
from trtllm_operator.config_values import BadValueError, number

_SIXTEEN_BIT = {"bfloat16": Dtype.BFLOAT16, "float16": Dtype.FLOAT16, "float32": Dtype.BFLOAT16}
_MODEL_OPT = {
    "FP8": (Dtype.FP8, None),
    "FP8_PB_WO": (Dtype.FP8, 128),
    "FP8_BLOCK_SCALES": (Dtype.FP8, 128),
    "FP8_PER_CHANNEL_PER_TOKEN": (Dtype.FP8, None),
    "NVFP4": (Dtype.NVFP4, 16),
    "NVFP4_AWQ": (Dtype.NVFP4, 16),
    "W4A16_AWQ": (Dtype.INT4, 128),
    "W4A16_GPTQ": (Dtype.INT4, 128),
    "W8A8_SQ_PER_CHANNEL": (Dtype.INT8, None),
    "INT8": (Dtype.INT8, None),
}
_QUANT_METHODS = {
    "fp8": Dtype.FP8,
    "fbgemm_fp8": Dtype.FP8,
    "gptq": Dtype.INT4,
    "awq": Dtype.INT4,
    "mxfp4": Dtype.MXFP4,
}
_INTEGER_BITS = {4: Dtype.INT4, 8: Dtype.INT8}
_COMPRESSED = {
    ("float", 4): Dtype.NVFP4,
    ("float", 8): Dtype.FP8,
    ("int", 4): Dtype.INT4,
    ("int", 8): Dtype.INT8,
}
_ATTENTION = re.compile(r"self_attn|\battn\b")
_OTHER_TOWER = re.compile(r"vision|visual|audio|mtp", re.IGNORECASE)
_LAYER = re.compile(r"layers\.(\d+)\.")
_KV_CACHE = {"FP8": Dtype.FP8, "NVFP4": Dtype.NVFP4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """The format of a checkpoint's weights and, where it says, of its KV cache.

    ``only_experts`` says so of a mixture of experts; of another model it says nothing.
    """

    dtype: Dtype
    block: int | None = None
    only_experts: bool = False
    kv_cache: Dtype | None = None


def quantization(outer: Mapping[str, Any], config: Mapping[str, Any], model_opt: Mapping[str, Any]) -> Quantization:
    """Read the format from ModelOpt's file, else from ``quantization_config``, else the plain dtype.

    Raises BadValueError for a format nobody here knows.
    """
    stated = model_opt.get("quantization")
    sixteen, layers = _sixteen_bit(outer, config), number(config, "num_hidden_layers")
    if isinstance(stated, dict):
        return _model_opt(stated, sixteen, layers)
    found = outer.get("quantization_config") or config.get("quantization_config")
    if not isinstance(found, dict):
        return Quantization(dtype=sixteen)
    method = str(found.get("quant_method", ""))
    if "quant_algo" in found:
        return _model_opt(found, sixteen, layers)
    if method == "compressed-tensors":
        return _compressed_tensors(found, sixteen, layers)
    dtype = _QUANT_METHODS.get(method)
    if dtype is None:
        raise BadValueError(f"quantization_config.quant_method {method!r} is none of {', '.join(_QUANT_METHODS)}")
    if dtype is Dtype.INT4:
        dtype = _INTEGER_BITS.get(number(found, "bits") or 4, dtype)
    return Quantization(dtype=dtype, block=_block(found, dtype), only_experts=method == "mxfp4")


def _sixteen_bit(outer: Mapping[str, Any], config: Mapping[str, Any]) -> Dtype:
    stated = (where.get(key) for where in (config, outer) for key in ("torch_dtype", "dtype"))
    plain = str(next((name for name in stated if name), "bfloat16"))
    return _SIXTEEN_BIT.get(plain.removeprefix("torch."), Dtype.BFLOAT16)


def _block(found: Mapping[str, Any], dtype: Dtype) -> int | None:
    size = found.get("weight_block_size")
    if isinstance(size, list) and size and isinstance(size[-1], int):
        return size[-1]
    if dtype is Dtype.MXFP4:
        return 32
    group = found.get("group_size")
    return group if isinstance(group, int) and group > 0 else None


def _model_opt(stated: Mapping[str, Any], sixteen: Dtype, layers: int | None) -> Quantization:
    kv_cache = _KV_CACHE.get(str(stated.get("kv_cache_quant_algo")))
    algorithm = str(stated.get("quant_algo") or "")
    if not algorithm:
        return Quantization(dtype=sixteen, kv_cache=kv_cache)
    each = stated.get("quantized_layers")
    named = {name: entry for name, entry in each.items() if isinstance(entry, dict)} if isinstance(each, dict) else {}
    if algorithm == "MIXED_PRECISION":
        algorithm = _most_frequent(str(entry.get("quant_algo")) for entry in named.values())
    if algorithm not in _MODEL_OPT:
        raise BadValueError(f"quant_algo {algorithm!r} is none of {', '.join(_MODEL_OPT)}")
    dtype, block = _MODEL_OPT[algorithm]
    group = stated.get("group_size")
    return Quantization(
        dtype=dtype,
        block=group if isinstance(group, int) and block else block,
        only_experts=_leaves_attention(stated.get("exclude_modules"), layers) or _names_experts(named),
        kv_cache=kv_cache,
    )


def _most_frequent(names: Iterable[str]) -> str:
    counted = Counter(names)
    return counted.most_common(1)[0][0] if counted else "FP8"


def _names_experts(layers: Mapping[str, Any]) -> bool:
    return bool(layers) and all("experts" in name for name in layers)


def _leaves_attention(excluded: Any, layers: int | None) -> bool:
    """Whether the attention of every layer stays 16-bit, named by a pattern or layer by layer.

    In a mixture of experts the experts are then what is quantised, to within a few parts in a hundred of the bytes.
    """
    if not isinstance(excluded, list):
        return False
    names = [str(name) for name in excluded if _ATTENTION.search(str(name)) and not _OTHER_TOWER.search(str(name))]
    numbered = {match[1] for name in names if (match := _LAYER.search(name))}
    return any(not _LAYER.search(name) for name in names) or (layers is not None and len(numbered) >= layers)


def _compressed_tensors(found: Mapping[str, Any], sixteen: Dtype, layers: int | None) -> Quantization:
    groups = found.get("config_groups")
    weights = [group.get("weights") for group in groups.values()] if isinstance(groups, dict) else []
    first = next((entry for entry in weights if isinstance(entry, dict)), None)
    if first is None:
        return Quantization(dtype=sixteen)
    bits, kind = number(first, "num_bits"), str(first.get("type", ""))
    dtype = _COMPRESSED.get((kind, bits or 0))
    if dtype is None:
        raise BadValueError(f"quantization_config has weights of type {kind!r} with {bits} bits; 4 and 8 are known")
    structure = first.get("block_structure")
    block = structure[-1] if isinstance(structure, list) and structure else first.get("group_size")
    block = 16 if dtype is Dtype.NVFP4 else block
    return Quantization(
        dtype=dtype,
        block=block if isinstance(block, int) and block > 0 else None,
        only_experts=_leaves_attention(found.get("ignore"), layers),
    )
