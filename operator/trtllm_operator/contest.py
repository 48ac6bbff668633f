"""Who else sets the replicas of a workload that the operator keeps at a stated number."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from trtllm_operator.naming import FIELD_MANAGER, INPUTS_ANNOTATION, REPAIR_MANAGER, REPLICAS_MANAGER
from trtllm_operator.render import Manifest
from trtllm_operator.status import Transition
from trtllm_operator.upgrade import Live, live_workloads

REPLICAS_CONTESTED = "ReplicasContested"

_OURS = frozenset({FIELD_MANAGER, REPAIR_MANAGER, REPLICAS_MANAGER})


def contest(rendered: Iterable[Manifest], live: Live) -> Transition | None:
    """Return what to tell when somebody else has scaled the workload among what is rendered."""
    return next((_scaled(wanted, found) for wanted, found in live_workloads(rendered, live)), None)


def strange_holder(workload: Manifest) -> Manifest | None:
    """Return who set ``.spec.replicas`` last, as the least entry of managedFields; None while one of ours holds it.

    An object that keeps nothing but this entry and ours says the same.
    """
    holders = [entry for entry in workload["metadata"].get("managedFields", ()) if _holds_replicas(entry)]
    if not holders or any(entry.get("manager") in _OURS for entry in holders):
        return None
    last = max(holders, key=lambda entry: str(entry.get("time", "")))
    return {"manager": last.get("manager", ""), "fieldsV1": {"f:spec": {"f:replicas": {}}}}


def _holds_replicas(entry: Manifest) -> bool:
    held = entry.get("fieldsV1", {})
    fields: Any = json.loads(held) if isinstance(held, str) else held
    return "f:replicas" in fields.get("f:spec", {})


def _scaled(wanted: Manifest, found: Manifest) -> Transition | None:
    """Return what to tell of a workload whose replicas are not the stated ones.

    One that was rendered from other inputs is not contested: who scaled it may have been asked to, by a
    ``spec.scaling`` that is gone.
    """
    stated, live = wanted["spec"].get("replicas"), found["spec"].get("replicas", 1)
    if stated in (None, live) or _inputs(wanted) != _inputs(found) or (holder := strange_holder(found)) is None:
        return None
    manager = holder["manager"] or "a client without a name"
    return Transition(
        type="Warning",
        reason=REPLICAS_CONTESTED,
        message=f"{manager} set the replicas of {wanted['kind']} {wanted['metadata']['name']} to {live}; "
        f"set back to {stated}; set spec.replicas or spec.scaling, or point the autoscaler at the LLMDeployment, "
        "which has a scale subresource",
        topic=manager,
    )


def _inputs(workload: Manifest) -> str | None:
    inputs: str | None = workload["metadata"].get("annotations", {}).get(INPUTS_ANNOTATION)
    return inputs
