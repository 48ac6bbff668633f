"""How many replicas a drain leaves: the context of the PodDisruptionBudget."""

from __future__ import annotations

from dataclasses import dataclass

from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.naming import common_labels, selector_labels


@dataclass(frozen=True, slots=True, kw_only=True)
class DisruptionBudgetContext:
    """Pods that must stay up (``min_available``), or else that may be away (``max_unavailable``)."""

    name: str
    namespace: str
    labels: dict[str, str]
    selector: dict[str, str]
    min_available: int | None
    max_unavailable: int | None


def disruption_budget(name: str, namespace: str, spec: LLMDeploymentSpec, nodes: int) -> DisruptionBudgetContext | None:
    """Fill the PodDisruptionBudget, where one is wanted and there are replicas to spare.

    A replica of several pods restarts as a whole when one of them goes, and a budget counts pods: one pod away at a
    time is what keeps a drain from taking a second replica before the first is back.
    """
    if spec.disruption is None or certain_replicas(spec) < 2:  # noqa: PLR2004 - one replica has nothing to spare
        return None
    whole = nodes == 1
    return DisruptionBudgetContext(
        name=name,
        namespace=namespace,
        labels=common_labels(name),
        selector=selector_labels(name),
        min_available=spec.disruption.min_available if whole else None,
        max_unavailable=None if whole else 1,
    )


def certain_replicas(spec: LLMDeploymentSpec) -> int:
    """Return the number of replicas that are wanted at any load."""
    if spec.scaling is not None:
        return spec.scaling.min_replicas
    return 1 if spec.replicas is None else spec.replicas
