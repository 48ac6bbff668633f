"""Plans that this release can work out but not yet render."""

from __future__ import annotations

from trtllm_operator.planned import Infeasible, Plan
from trtllm_operator.refusals import Reason


def servable(verdict: Plan | Infeasible) -> Plan | Infeasible:
    """Refuse a plan whose replica is more than one pod."""
    if isinstance(verdict, Infeasible) or verdict.nodes == 1:
        return verdict
    return Infeasible(
        reason=Reason.MULTIPLE_NODES_UNSUPPORTED,
        message=f"{verdict.layout} is {verdict.gpus} GPUs over {verdict.nodes} pods of {verdict.gpus_per_pod}; a "
        f"replica is one pod in this release: set spec.gpus.maxCount to {verdict.pool.gpus_per_node}",
        model=verdict.model,
    )
