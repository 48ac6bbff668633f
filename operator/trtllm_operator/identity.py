"""The plan's id: a digest of what the user asked for, equal on the command line and in the cluster."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from typing import Any

from trtllm_operator.facts import ModelFacts, Source
from trtllm_operator.request import Request

_TYPED = (Source.SPEC, Source.CONFIG_MAP)


def plan_id(request: Request, model: ModelFacts, product: str) -> str:
    """Return eight hexadecimal digits.

    Facts the user gave count; those of the catalogue and the Hub do not, so that a release which corrects a number
    never re-plans a model that is being served. What is not said does not count either, so that a release which knows
    a further field does not.
    """
    inputs = {
        # The product that was chosen says it already, whether the user named it or not.
        "request": _said(replace(request, product=None)),
        "model": _said(model) if model.source in _TYPED else [model.name, model.checkpoint_dtype],
        "product": product,
    }
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def _said(value: Request | ModelFacts) -> dict[str, Any]:
    return {name: item for name, item in asdict(value).items() if item not in (None, False, ())}
