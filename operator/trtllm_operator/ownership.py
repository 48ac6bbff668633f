"""Who controls an object, as its ownerReferences say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trtllm_operator.naming import KIND


def controller(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the owner reference of the controller, of which there is at most one; empty when there is none."""
    references = manifest["metadata"].get("ownerReferences") or ()
    return next((reference for reference in references if reference.get("controller")), {})


def controller_uid(manifest: Mapping[str, Any]) -> str | None:
    """Return the uid of the controller."""
    return controller(manifest).get("uid")


def controlling_deployment(manifest: Mapping[str, Any]) -> str | None:
    """Return the name of the LLMDeployment that controls this object."""
    found = controller(manifest)
    return found["name"] if found.get("kind") == KIND else None
