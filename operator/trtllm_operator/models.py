"""The model catalogue, and model facts from it and from ``spec.model.shape``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

from trtllm_operator.api import Dtype, Model, Shape
from trtllm_operator.facts import ModelFacts, UnknownModel

_SHAPE_KEYS = {
    "parameters": "parameters",
    "layers": "layers",
    "hiddenSize": "hidden_size",
    "attentionHeads": "attention_heads",
    "kvHeads": "kv_heads",
    "headDim": "head_dim",
    "vocabSize": "vocab_size",
    "experts": "experts",
    "maxPositionEmbeddings": "max_position_embeddings",
}


@cache
def catalogue() -> Mapping[str, ModelFacts]:
    """Every known checkpoint by its lower-case repository name."""
    text = resources.files("trtllm_operator").joinpath("data/models.json").read_text(encoding="utf-8")
    found: dict[str, ModelFacts] = {}
    for row in json.loads(text)["models"]:
        shape = {field: row[key] for key, field in _SHAPE_KEYS.items() if key in row}
        checkpoints = {name: Dtype(dtype) for name, dtype in row["checkpoints"].items()}
        for name, dtype in checkpoints.items():
            siblings = tuple((other, known) for other, known in checkpoints.items() if other != name)
            found[name.lower()] = ModelFacts(
                name=name,
                architecture=row["architecture"],
                checkpoint_dtype=dtype,
                siblings=siblings,
                **shape,
            )
    return found


def repository(uri: str) -> str:
    """Return ``organisation/name`` of a ``hf://`` URI."""
    return uri.removeprefix("hf://")


def model_facts(model: Model, dtype: Dtype | None) -> ModelFacts | UnknownModel:
    """Gather what is known of a model: ``spec.model.shape`` wins over the catalogue, field by field.

    A checkpoint nobody knows has the dtype the user states, bfloat16 when none is stated.
    """
    name = repository(model.uri)
    known = catalogue().get(name.lower())
    typed = _typed(model.shape)
    if known is not None:
        return _with(known, typed)
    if "parameters" not in typed:
        return UnknownModel(name=name)
    stated = dtype if dtype not in (None, Dtype.AUTO) else Dtype.BFLOAT16
    return ModelFacts(name=name, checkpoint_dtype=stated or Dtype.BFLOAT16, source="Spec", **typed)


def _typed(shape: Shape | None) -> dict[str, Any]:
    return {} if shape is None else shape.model_dump(exclude_none=True)


def _with(known: ModelFacts, typed: dict[str, Any]) -> ModelFacts:
    return replace(known, **typed, source="Spec") if typed else known
