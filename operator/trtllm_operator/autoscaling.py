"""Replicas that follow the load: the contexts of the HorizontalPodAutoscaler and of KEDA's ScaledObject."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from trtllm_operator import engine
from trtllm_operator.api import LLMDeploymentSpec, ScalingMetric
from trtllm_operator.api_scaling import Behavior, Scaling, ScalingRules
from trtllm_operator.engine_versions import EngineRelease
from trtllm_operator.kinds import AUTOSCALER_KINDS, DEPLOYMENT, Kind
from trtllm_operator.memory import weight_bytes
from trtllm_operator.naming import common_labels
from trtllm_operator.planned import Plan
from trtllm_operator.settings import Settings
from trtllm_operator.workload import workload_kind

_LONGEST_PERIOD = 1800
_LONGEST_WINDOW = 3600
"""Seconds; the API server's limits for a HorizontalPodAutoscaler."""

_RATE_WINDOW = "2m"
"""Four scrapes at 30 s: the usual minimum for a rate that survives one missed scrape."""

_DEPLOYMENT_POD = "[a-z0-9]{1,10}-[a-z0-9]{5}"
_LEADER_POD = "[0-9]+"
"""What follows the name in the names of pods that serve. Longer names of other LLMDeployments do not match."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalerContext:
    """Replicas by a gauge of trtllm-serve, averaged over the pods."""

    name: str
    namespace: str
    labels: dict[str, str]
    target_api_version: str
    target_kind: str
    min_replicas: int
    max_replicas: int
    metric: str
    target: str
    behavior: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledObjectContext:
    """Replicas by a query to Prometheus. Texts that are numbers or booleans are texts in KEDA's API; times in seconds.

    ``ignore_no_data``: no answer to the query means no load, and is not an error.
    """

    name: str
    namespace: str
    labels: dict[str, str]
    target_api_version: str
    target_kind: str
    min_replicas: int
    max_replicas: int
    cooldown_seconds: int
    initial_cooldown_seconds: int
    behavior: dict[str, Any]
    metric_type: Literal["AverageValue", "Value"]
    prometheus: str
    query: str
    threshold: str
    ignore_no_data: str


def autoscaler(
    name: str, namespace: str, spec: LLMDeploymentSpec, plan: Plan, release: EngineRelease, settings: Settings
) -> AutoscalerContext | None:
    """Fill the HorizontalPodAutoscaler, where one is wanted and the release exports its metric."""
    scaling = spec.scaling
    if scaling is None or scaling.keda is not None:
        return None
    metric = metric_name(scaling, release)
    if metric is None:
        return None
    target = workload_kind(plan)
    return AutoscalerContext(
        name=name,
        namespace=namespace,
        labels=common_labels(name),
        target_api_version=target.api_version,
        target_kind=target.kind,
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        metric=metric,
        target=scaling.target,
        behavior=behavior(scaling.behavior, load_seconds(plan, settings)),
    )


def scaled_object(
    name: str, namespace: str, spec: LLMDeploymentSpec, plan: Plan, release: EngineRelease, settings: Settings
) -> ScaledObjectContext | None:
    """Fill the ScaledObject, where one is wanted and the release exports its metric."""
    scaling = spec.scaling
    if scaling is None or scaling.keda is None:
        return None
    metric = metric_name(scaling, release)
    if metric is None:
        return None
    target, load = workload_kind(plan), load_seconds(plan, settings)
    mean = scaling.metric is ScalingMetric.TIME_TO_FIRST_TOKEN
    series = _series(name, namespace, target)
    return ScaledObjectContext(
        name=name,
        namespace=namespace,
        labels=common_labels(name),
        target_api_version=target.api_version,
        target_kind=target.kind,
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        cooldown_seconds=scaling.keda.cooldown_period_seconds,
        initial_cooldown_seconds=settings.minimum_startup_seconds + load,
        behavior=behavior(scaling.behavior, load),
        metric_type="Value" if mean else "AverageValue",
        prometheus=scaling.keda.prometheus_address,
        query=_mean(metric, series) if mean else f"sum({metric}{series})",
        threshold=_decimal(scaling.target),
        ignore_no_data="true" if mean else "false",
    )


def metric_name(scaling: Scaling, release: EngineRelease) -> str | None:
    """Return the metric an autoscaler reads; None where the release lacks it or the autoscaler cannot read it."""
    if scaling.metric is ScalingMetric.TIME_TO_FIRST_TOKEN and scaling.keda is None:
        return None
    return engine.scaling_metric(scaling.metric, release)


def load_seconds(plan: Plan, settings: Settings) -> int:
    """Return the seconds a replica is assumed to need to fetch and load its weights."""
    return weight_bytes(plan.model) // settings.load_bytes_per_second


def behavior(wanted: Behavior | None, load: int) -> dict[str, Any]:
    """Return the speed of scaling as a HorizontalPodAutoscaler has it; ``load`` is the seconds a replica loads.

    The backlog grows until the replicas that were asked for have loaded, so within that time they at most double.
    """
    period = min(max(60, load), _LONGEST_PERIOD)
    up = {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Pods", "value": 2, "periodSeconds": period},
            {"type": "Percent", "value": 100, "periodSeconds": period},
        ],
    }
    down = {
        "stabilizationWindowSeconds": min(max(600, 2 * load), _LONGEST_WINDOW),
        "selectPolicy": "Max",
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 300}],
    }
    wanted = wanted or Behavior()
    return {"scaleUp": {**up, **_stated(wanted.scale_up)}, "scaleDown": {**down, **_stated(wanted.scale_down)}}


def unscaled_floor(scaling: Scaling | None, applied: frozenset[str]) -> int | None:
    """Return the replicas to hold where none of the kinds applied sets them; None: one does, or they are fixed."""
    if scaling is None or applied & {kind.kind for kind in AUTOSCALER_KINDS}:
        return None
    return max(1, scaling.min_replicas)


def _stated(rules: ScalingRules | None) -> dict[str, Any]:
    return {} if rules is None else rules.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _series(name: str, namespace: str, target: Kind) -> str:
    pods = _DEPLOYMENT_POD if target == DEPLOYMENT else _LEADER_POD
    return f"{{namespace={json.dumps(namespace)},pod=~{json.dumps(f'{name}-{pods}')}}}"


def _mean(histogram: str, series: str) -> str:
    """Return the query for the mean of a histogram; without observations it has no answer."""
    total, count = (f"sum(rate({histogram}_{part}{series}[{_RATE_WINDOW}]))" for part in ("sum", "count"))
    return f"{total} / ({count} > 0)"


def _decimal(target: str) -> str:
    """Return a quantity as the decimal number KEDA reads: 500m is 0.5."""
    return f"{int(target[:-1]) / 1000:g}" if target.endswith("m") else target
