"""Replicas: how their number follows the load, and how they are replaced."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from trtllm_operator.api_base import ApiModel, cel, rules


class ScalingMetric(StrEnum):
    """What a replica is busy with."""

    QUEUE_DEPTH = "QueueDepth"
    RUNNING_REQUESTS = "RunningRequests"
    KV_CACHE_UTILIZATION = "KvCacheUtilization"
    TIME_TO_FIRST_TOKEN = "TimeToFirstToken"  # noqa: S105 - a metric, not a password


class PolicyType(StrEnum):
    """What a scaling policy counts."""

    PODS = "Pods"
    PERCENT = "Percent"


class SelectPolicy(StrEnum):
    """Which of several scaling policies holds."""

    MAX = "Max"
    MIN = "Min"
    DISABLED = "Disabled"


class ScalingPolicy(ApiModel):
    """A limit on how fast replicas change."""

    type: PolicyType
    """Whether `value` counts replicas or percent of them."""

    value: Annotated[int, Field(ge=1, le=10_000)]
    """Replicas, or percent, that may change within `periodSeconds`."""

    period_seconds: Annotated[int, Field(ge=1, le=1800)]
    """Length of the window in seconds."""


class ScalingRules(ApiModel):
    """How fast replicas change in one direction."""

    stabilization_window_seconds: Annotated[int, Field(ge=0, le=3600)] | None = None
    """Seconds of past recommendations to consider before acting on one. Default: 0 for scaling up; for scaling down
    600, or twice the estimated time to load a replica, whichever is longer."""

    select_policy: SelectPolicy | None = None
    """Which of several policies holds; Disabled forbids this direction. Default: Max."""

    policies: Annotated[tuple[ScalingPolicy, ...], Field(max_length=8)] = ()
    """Limits on the speed. Default: for scaling up, twice the replicas, or two more, within the estimated time to load
    one; for scaling down, one replica in 300 s."""


class Behavior(ApiModel):
    """Speed of scaling in both directions, as in a HorizontalPodAutoscaler."""

    scale_up: ScalingRules | None = None
    """Adding replicas."""

    scale_down: ScalingRules | None = None
    """Removing replicas."""


class Keda(ApiModel):
    """A KEDA ScaledObject in place of a HorizontalPodAutoscaler."""

    prometheus_address: Annotated[str, Field(min_length=8, max_length=512, pattern=r"^https?://[!-~]+$")]
    """Prometheus server that scrapes the replicas. Example: http://prometheus.monitoring:9090."""

    cooldown_period_seconds: Annotated[int, Field(ge=0, le=86_400)] = 300
    """Seconds without load before the last replica is removed, when `minReplicas` is 0."""


class Scaling(ApiModel):
    """Replicas chosen by a HorizontalPodAutoscaler."""

    model_config = rules(
        cel(
            "self.minReplicas <= self.maxReplicas",
            "scaling.minReplicas (%d) is larger than scaling.maxReplicas (%d)",
            "self.minReplicas",
            "self.maxReplicas",
        ),
        cel(
            "self.minReplicas > 0 || has(self.keda)",
            "scaling.minReplicas (%d) needs scaling.keda: a HorizontalPodAutoscaler does not scale from zero",
            "self.minReplicas",
        ),
        cel(
            "self.metric != 'TimeToFirstToken' || has(self.keda)",
            "scaling.metric %s needs scaling.keda: it is a histogram, which a HorizontalPodAutoscaler cannot read",
            "self.metric",
        ),
        cel(
            "self.metric != 'KvCacheUtilization' || quantity(self.target).compareTo(quantity('1')) <= 0",
            "scaling.target (%s) must be a fraction of at most 1 for KvCacheUtilization, such as 0.8",
            "self.target",
        ),
        cel(
            "quantity(self.target).isGreaterThan(quantity('0'))",
            "scaling.target (%s) must be larger than 0",
            "self.target",
        ),
    )

    min_replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Fewest replicas; 0 needs `keda`. From 0 the metrics of trtllm-serve, which end with the last replica, cannot
    bring one back; condition ScalingReady says so."""

    max_replicas: Annotated[int, Field(ge=1, le=1000)]
    """Most replicas."""

    metric: ScalingMetric = ScalingMetric.QUEUE_DEPTH
    """Metric of trtllm-serve, averaged over the replicas. Without `keda` it needs an adapter that serves
    custom.metrics.k8s.io; TimeToFirstToken needs `keda`."""

    target: Annotated[str, Field(max_length=16, pattern=r"^[0-9]+(\.[0-9]+|m)?$")] = "4"
    """Wanted average per replica: requests for QueueDepth and RunningRequests, a fraction such as 0.8 for
    KvCacheUtilization; for TimeToFirstToken, the mean over all requests of two minutes, in seconds."""

    behavior: Behavior | None = None
    """Speed of scaling. Default: made for replicas that take minutes to load."""

    keda: Keda | None = None
    """Scale by a KEDA ScaledObject, which can scale to zero. Needs KEDA in the cluster."""


class RolloutStrategy(StrEnum):
    """How replicas are replaced when something changes."""

    AUTO = "Auto"
    ROLLING_UPDATE = "RollingUpdate"
    RECREATE = "Recreate"


class Rollout(ApiModel):
    """How replicas are replaced when something changes."""

    model_config = rules(
        cel(
            "!(has(self.maxSurge) || has(self.maxUnavailable))"
            " || (has(self.strategy) && self.strategy == 'RollingUpdate')",
            "rollout.maxSurge and rollout.maxUnavailable need rollout.strategy RollingUpdate; it is %s",
            "has(self.strategy) ? self.strategy : 'Auto'",
        ),
        cel(
            "!(has(self.maxSurge) && has(self.maxUnavailable) && self.maxSurge == 0 && self.maxUnavailable == 0)",
            "rollout.maxSurge (%d) and rollout.maxUnavailable (%d) cannot both be 0: no replica could be replaced",
            "self.maxSurge",
            "self.maxUnavailable",
        ),
    )

    strategy: RolloutStrategy = RolloutStrategy.AUTO
    """RollingUpdate keeps serving, Recreate frees the GPUs first. Default: Auto, by whether a further replica's GPUs
    are free."""

    max_surge: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Replicas above the wanted number during a rolling update; each needs free GPUs. Default: 0."""

    max_unavailable: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Replicas that may be missing during a rolling update. Default: 1."""


class PlanChangePolicy(StrEnum):
    """What happens when an edit leads to another plan."""

    APPLY = "Apply"
    REQUIRE_APPROVAL = "RequireApproval"
