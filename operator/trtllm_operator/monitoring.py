"""The context of the PodMonitor."""

from __future__ import annotations

from dataclasses import dataclass

from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.engine import METRICS_PATH
from trtllm_operator.naming import NAME_LABEL, common_labels, serving_labels


@dataclass(frozen=True, slots=True, kw_only=True)
class PodMonitorContext:
    """What Prometheus scrapes. ``target_labels`` are the pods' labels that every series keeps."""

    name: str
    namespace: str
    labels: dict[str, str]
    selector: dict[str, str]
    path: str
    interval: str
    target_labels: tuple[str, ...]


def pod_monitor(name: str, namespace: str, spec: LLMDeploymentSpec) -> PodMonitorContext | None:
    """Fill the PodMonitor, where one is wanted."""
    wanted = spec.monitoring
    if wanted is None or not wanted.pod_monitor:
        return None
    return PodMonitorContext(
        name=name,
        namespace=namespace,
        labels={**wanted.labels, **common_labels(name)},
        selector=serving_labels(name),
        path=METRICS_PATH,
        interval=wanted.interval,
        target_labels=(NAME_LABEL,),
    )
