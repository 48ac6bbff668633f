"""What one look at an LLMDeployment found, as a condition will tell it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from trtllm_operator.api_status import ConditionType
from trtllm_operator.errors import ClusterError, Forbidden
from trtllm_operator.facts import Problem
from trtllm_operator.kinds import Kind
from trtllm_operator.optional_apis import missing, optional_apis

Manifest = Mapping[str, Any]

Truth = Literal["True", "False", "Unknown"]


class FeatureReason(StrEnum):
    """Why something around the workload is in force, or is not."""

    ADDRESS_PENDING = "AddressPending"
    API_MISSING = "APIMissing"
    AUTOSCALER_FAILING = "AutoscalerFailing"
    AUTOSCALER_PENDING = "AutoscalerPending"
    CREATING = "Creating"
    DRAINS_BLOCKED = "DrainsBlocked"
    EXPOSED = "Exposed"
    FORBIDDEN = "Forbidden"
    GUARDED = "Guarded"
    METRIC_NOT_EXPORTED = "MetricNotExported"
    METRIC_UNAVAILABLE = "MetricUnavailable"
    NOTHING_TO_SPARE = "NothingToSpare"
    NO_WAKE_SIGNAL = "NoWakeSignal"
    POD_MONITOR_APPLIED = "PodMonitorApplied"
    ROUTE_PENDING = "RoutePending"
    ROUTE_REFUSED = "RouteRefused"
    SCALING_ACTIVE = "ScalingActive"
    WAITING_FOR_PODS = "WaitingForPods"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A condition without its dates."""

    type: ConditionType
    status: Truth
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveObjects:
    """The objects around one workload as the cluster reports them, and the kinds it cannot have.

    ``gateway`` is the Gateway that spec.expose names, where the operator can see it; ``download_pods`` are those of the
    ``jobs``; ``unstarted`` is what Events tell of pods, by name.
    """

    found: Mapping[Kind, Manifest]
    absent: Mapping[Kind, ClusterError]
    gateway: Manifest | None = None
    jobs: tuple[Manifest, ...] = ()
    download_pods: tuple[Manifest, ...] = ()
    unstarted: Mapping[str, Problem] = field(default_factory=dict)
    workloads: tuple[Manifest, ...] = ()


def absence(condition: ConditionType, kind: Kind, error: ClusterError) -> Finding:
    """Tell that an object cannot be made because its API is missing, or because the operator may not use it."""
    if isinstance(error, Forbidden):
        needs = optional_apis()[kind.kind].needs
        message = f"{needs}: the operator may not use {kind.plural}.{kind.group}: {error}"
        return Finding(type=condition, status="False", reason=FeatureReason.FORBIDDEN, message=message)
    return Finding(type=condition, status="False", reason=FeatureReason.API_MISSING, message=missing(kind))


def creating(condition: ConditionType, kind: Kind) -> Finding:
    """Tell that an object is not there yet."""
    message = f"the {kind.kind} is being created"
    return Finding(type=condition, status="Unknown", reason=FeatureReason.CREATING, message=message)


def condition_of(manifest: Manifest, condition: str) -> Mapping[str, str]:
    """Return one condition of an object's status; empty when its controller has not told it."""
    return _named(manifest.get("status", {}).get("conditions", []), condition)


def parent_condition(manifest: Manifest, condition: str) -> Mapping[str, str]:
    """Return one condition that a Gateway told of a route or a pool: one that is not True before one that is."""
    told = [_named(parent.get("conditions", []), condition) for parent in manifest.get("status", {}).get("parents", [])]
    return min(filter(None, told), key=lambda found: found["status"] == "True", default={})


def _named(conditions: Iterable[Mapping[str, str]], name: str) -> Mapping[str, str]:
    return next((condition for condition in conditions if condition["type"] == name), {})
