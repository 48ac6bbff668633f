"""Reading a status that another release of the operator may have written."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from trtllm_operator.api_status import LLMDeploymentStatus


def read_status(raw: Any) -> LLMDeploymentStatus:
    """Return the status without what this release does not understand.

    A value it does not know must not cost the plan in force beside it: the model would be planned anew, and moved.
    """
    known = deepcopy(raw) if isinstance(raw, dict) else {}
    while True:
        try:
            return LLMDeploymentStatus.model_validate(known)
        except ValidationError as error:
            _drop(known, error.errors(include_url=False)[-1])


def _drop(known: dict[str, Any], error: ErrorDetails) -> None:
    """Remove the value that is wrong, or what lacks a value; the last error first, so that indexes stay true."""
    path = error["loc"][:-1] if error["type"] == "missing" else error["loc"]
    inner: Any = known
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
