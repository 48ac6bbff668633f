"""What is known of a model: the catalogue of open models, and what the spec says of one.

The catalogue, ``data/models.json``, has one row per shape and under it every known checkpoint of that shape.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from trtllm_operator.api import Dtype, Model, Variant
from trtllm_operator.facts import Experts, LatentAttention, ModelFacts, StateSpace, UnknownModel
from trtllm_operator.shape import typed_facts

_USUAL_BLOCK = {Dtype.INT4: 128, Dtype.NVFP4: 16, Dtype.MXFP4: 32}
_SIXTEEN_BIT = frozenset({Dtype.BFLOAT16, Dtype.FLOAT16})
_PLAIN = {
    "parameters": "parameters",
    "layers": "layers",
    "hiddenSize": "hidden_size",
    "intermediateSize": "intermediate_size",
    "attentionHeads": "attention_heads",
    "kvHeads": "kv_heads",
    "headDim": "head_dim",
    "vocabSize": "vocab_size",
    "tiedEmbeddings": "tied_embeddings",
    "maxPositionEmbeddings": "max_position_embeddings",
    "attentionLayers": "attention_layers",
    "denseLayers": "dense_layers",
    "gated": "gated",
    "slidingWindow": "sliding_window",
    "slidingLayers": "sliding_layers",
}
_CHECKPOINT = {
    "weightBytes": "weight_bytes",
    "quantizationBlock": "quantization_block",
    "onlyExpertsQuantized": "only_experts_quantized",
}
_NESTED: Mapping[str, tuple[str, type]] = {
    "experts": ("experts", Experts),
    "latentAttention": ("latent_attention", LatentAttention),
    "stateSpace": ("state_space", StateSpace),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueRow:
    """One shape: the names people use for it, and the facts of each known checkpoint, the original one first."""

    name: str
    aliases: tuple[str, ...]
    checkpoints: tuple[ModelFacts, ...]


@cache
def catalogue_rows() -> tuple[CatalogueRow, ...]:
    """Every row of the catalogue, in its order."""
    text = resources.files("trtllm_operator").joinpath("data/models.json").read_text(encoding="utf-8")
    return tuple(_row(row) for row in json.loads(text)["models"])


@cache
def catalogue() -> Mapping[str, ModelFacts]:
    """Every known checkpoint by its lower-case repository name."""
    return {facts.name.lower(): facts for row in catalogue_rows() for facts in row.checkpoints}


def find_model(name: str) -> ModelFacts | None:
    """Return a checkpoint by its repository, or a row's original checkpoint by a name people use for it."""
    return catalogue().get(name.lower()) or _by_short_name().get(name.lower())


def near_models(name: str) -> tuple[str, ...]:
    """Return at most three repositories or short names that resemble ``name``, best first."""
    known = {facts.name.lower(): facts.name for facts in catalogue().values()}
    known |= {row.name.lower(): row.name for row in catalogue_rows()}
    close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)
    return tuple(known[match] for match in close)


def at_dtype(model: ModelFacts, dtype: Dtype) -> ModelFacts:
    """Return the known checkpoint of this model in a dtype, else one that is assumed to exist, with a note."""
    actual = model.checkpoint_dtype
    if dtype == actual:
        return model
    known = next((name for name, sibling in model.siblings if sibling == dtype), None)
    if known is not None:
        return catalogue()[known.lower()]
    if {dtype, actual} <= _SIXTEEN_BIT:
        return replace(model, checkpoint_dtype=dtype)
    assumed = f"no checkpoint of {model.name} in {dtype} is known; it is sized by the number of parameters"
    return replace(
        model,
        checkpoint_dtype=dtype,
        weight_bytes=None,
        quantization_block=_USUAL_BLOCK.get(dtype),
        only_experts_quantized=False,
        kv_cache_dtype=None,
        notes=(*model.notes, assumed),
    )


def repository(uri: str) -> str:
    """Return ``organisation/name`` of a ``hf://`` URI."""
    return uri.removeprefix("hf://")


def model_facts(model: Model, dtype: Dtype | None, read: ModelFacts | None = None) -> ModelFacts | UnknownModel:
    """Gather what is known of a model: ``spec.model.shape`` wins, field by field, over ``read``, over the catalogue.

    ``read`` are the facts of the checkpoint's own files, from a ConfigMap or the Hub. With ``spec.model.variant`` Auto
    it is the catalogue's checkpoint in the stated dtype. A checkpoint nobody knows has the dtype the user states,
    bfloat16 when none is stated.
    """
    name = repository(model.uri)
    stated = None if dtype == Dtype.AUTO else dtype
    known = catalogue().get(name.lower())
    if read is not None:
        known = replace(read, name=name, siblings=known.siblings if known else ())
    if known is not None and model.variant is Variant.AUTO and stated is not None:
        variant = next((other for other, sibling in known.siblings if sibling == stated), None)
        known = known if variant is None or stated == known.checkpoint_dtype else catalogue()[variant.lower()]
    found = typed_facts(name, model.shape, known, stated or Dtype.BFLOAT16)
    return UnknownModel(name=name, near=near_models(name)) if found is None else found


def _row(row: Mapping[str, Any]) -> CatalogueRow:
    checkpoints = {name: Dtype(known["dtype"]) for name, known in row["checkpoints"].items()}
    return CatalogueRow(
        name=row["name"],
        aliases=tuple(row["aliases"]),
        checkpoints=tuple(
            ModelFacts(
                name=name,
                architecture=row["architecture"],
                checkpoint_dtype=checkpoints[name],
                kv_cache_dtype=Dtype(known["kvCacheDtype"]) if "kvCacheDtype" in known else None,
                siblings=tuple((other, dtype) for other, dtype in checkpoints.items() if other != name),
                notes=tuple(row.get("notes", ())),
                **{field: row[key] for key, field in _PLAIN.items() if key in row},
                **{field: known[key] for key, field in _CHECKPOINT.items() if key in known},
                **{field: kind(**_snake(row[key])) for key, (field, kind) in _NESTED.items() if key in row},
            )
            for name, known in row["checkpoints"].items()
        ),
    )


def _snake(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"".join(f"_{c.lower()}" if c.isupper() else c for c in name): value for name, value in fields.items()}


@cache
def _by_short_name() -> Mapping[str, ModelFacts]:
    return {name.lower(): row.checkpoints[0] for row in catalogue_rows() for name in (row.name, *row.aliases)}
