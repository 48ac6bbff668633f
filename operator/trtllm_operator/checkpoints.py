"""The checkpoint that somebody names at the command line, and how an LLMDeployment states it.

A checkpoint that the catalogue does not hold is stated by its shape, so that the object that is printed is planned by
any operator as it was planned here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trtllm_operator.api import Dtype
from trtllm_operator.facts import ModelFacts
from trtllm_operator.models import at_dtype, catalogue_rows, find_model, near_models
from trtllm_operator.shorthand import Misread

_SIXTEEN_BIT = frozenset({Dtype.BFLOAT16, Dtype.FLOAT16})
_REPOSITORY = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$", re.ASCII)
_PLACEHOLDER = "placeholder"
_SAME_SIZE = 0.05
_GATED_MATRICES = 3
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint as ``spec.model``, ``spec.dtype`` and ``spec.engine.kvCacheDtype`` state it.

    ``shape`` holds the fields of ``spec.model.shape`` and is empty where the catalogue knows the checkpoint.
    """

    name: str
    uri: str
    dtype: Dtype | None = None
    shape: Mapping[str, Any] = field(default_factory=dict)
    kv_cache_dtype: Dtype | None = None
    notes: tuple[str, ...] = ()


def named(name: str, dtype: Dtype | None) -> Checkpoint | Misread:
    """Return the checkpoint behind a short name or a repository, in ``dtype`` where one is asked for.

    Of a known model in a dtype that no known checkpoint has, it is one of the same shape that need not exist.
    """
    known = find_model(name)
    if known is None:
        return _unknown(name, dtype)
    if dtype is None or dtype == known.checkpoint_dtype or {dtype, known.checkpoint_dtype} <= _SIXTEEN_BIT:
        return Checkpoint(name=known.name, uri=f"hf://{known.name}", dtype=dtype)
    served = at_dtype(known, dtype)
    listed = find_model(served.name)
    if listed is not None and listed.checkpoint_dtype == dtype:
        note = f"{served.name} is the catalogue's checkpoint of {known.name} in {dtype}"
        return Checkpoint(name=served.name, uri=f"hf://{served.name}", dtype=dtype, notes=(note,))
    return described(served, f"{_last(known.name)}-{dtype}")


def from_files(facts: ModelFacts, dtype: Dtype | None, repository: str | None) -> Checkpoint:
    """Return the checkpoint whose own files told these facts; ``repository`` is where they are on the Hub, if there.

    In a dtype that is not theirs, it is one of the same shape that need not exist.
    """
    if dtype is not None and dtype != facts.checkpoint_dtype and not {dtype, facts.checkpoint_dtype} <= _SIXTEEN_BIT:
        return described(at_dtype(facts, dtype), f"{_last(facts.name)}-{dtype}")
    return described(facts, facts.name, repository)


def of_size(parameters: int, dtype: Dtype | None, repository: str | None = None) -> Checkpoint:
    """Return a checkpoint of which only the number of parameters is known, and perhaps its repository."""
    if repository is not None:
        return Checkpoint(name=repository, uri=f"hf://{repository}", dtype=dtype, shape={"parameters": parameters})
    billions = f"{parameters / 1e9:g}b"
    alike = ", ".join(_models_of(parameters))
    named_instead = f"; --model plans with a known shape: {alike}" if alike else ""
    return _placed(billions, {"parameters": parameters}, dtype, f"--params-b gives a size and no shape{named_instead}")


def is_repository(name: str) -> bool:
    """Whether this is ORGANISATION/NAME, as spec.model.uri has it behind hf://."""
    return _REPOSITORY.match(name) is not None


def described(model: ModelFacts, name: str, repository: str | None = None) -> Checkpoint:
    """Return a checkpoint that the catalogue does not hold, stated by its shape."""
    notes = (*model.notes, *_not_stated(model))
    if repository is None:
        placed = _placed(name, shape_of(model), model.checkpoint_dtype, *notes)
        return replace(placed, kv_cache_dtype=model.kv_cache_dtype)
    return Checkpoint(
        name=name,
        uri=f"hf://{repository}",
        dtype=model.checkpoint_dtype,
        shape=shape_of(model),
        kv_cache_dtype=model.kv_cache_dtype,
        notes=notes,
    )


def shape_of(model: ModelFacts) -> dict[str, Any]:
    """Return the fields of ``spec.model.shape`` that state these facts."""
    experts, latent = model.experts, model.latent_attention
    fields = {
        "architecture": model.architecture,
        "parameters": model.parameters,
        "weightBytes": model.weight_bytes,
        "layers": model.layers,
        "hiddenSize": model.hidden_size,
        "intermediateSize": model.intermediate_size,
        "attentionHeads": model.attention_heads,
        "kvHeads": model.kv_heads,
        "headDim": model.head_dim,
        "vocabSize": model.vocab_size,
        "tiedEmbeddings": model.tied_embeddings or None,
        "maxPositionEmbeddings": model.max_position_embeddings,
        "experts": experts and experts.count,
        "expertIntermediateSize": experts and experts.intermediate_size,
        "expertLayers": experts and experts.layers,
        "kvLoraRank": latent and latent.kv_lora_rank,
        "qLoraRank": latent and latent.q_lora_rank,
        "ropeHeadDim": latent and latent.rope_head_dim,
        "attentionLayers": model.attention_layers,
        "slidingWindow": model.sliding_window,
        "slidingLayers": model.sliding_layers if model.sliding_window else None,
        "quantizationBlock": model.quantization_block,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _unknown(name: str, dtype: Dtype | None) -> Checkpoint | Misread:
    if is_repository(name):
        return Checkpoint(name=name, uri=f"hf://{name}", dtype=dtype)
    return Misread(
        text=name,
        expected="a model of the catalogue, ORGANISATION/NAME or a directory with a config.json",
        near=near_models(name),
    )


def _placed(name: str, shape: Mapping[str, Any], dtype: Dtype | None, *notes: str) -> Checkpoint:
    uri = f"hf://{_PLACEHOLDER}/{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-._') or 'model'}"
    wanted = f"{uri} stands for a checkpoint that you have: set spec.model.uri to it before you apply the object"
    return Checkpoint(name=name, uri=uri, dtype=dtype, shape=shape, notes=(*notes, wanted))


def _not_stated(model: ModelFacts) -> Iterator[str]:
    if model.state_space is not None:
        yield "spec.model.shape has no field for the recurrent state of its sequences: it is left out"
    if model.experts is not None and model.experts.matrices != _GATED_MATRICES:
        yield "spec.model.shape has no field for experts that are not gated: they are sized as gated ones"
    if model.only_experts_quantized and model.weight_bytes is None:
        yield "spec.model.shape has no field for layers left in 16 bit: they are counted as quantised"
    if model.head_dim is None and model.latent_attention is None and model.attention_heads is not None:
        yield "the width of its attention heads is unknown and taken to be hiddenSize / attentionHeads"


def _models_of(parameters: int) -> list[str]:
    sizes = {row.name: row.checkpoints[0].parameters or 0 for row in catalogue_rows()}
    alike = [name for name, size in sizes.items() if abs(size - parameters) < _SAME_SIZE * parameters]
    return sorted(alike, key=lambda name: abs(sizes[name] - parameters))[:_SHOWN]


def _last(repository: str) -> str:
    return repository.rpartition("/")[2]
