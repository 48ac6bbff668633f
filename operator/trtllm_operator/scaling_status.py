"""Whether an autoscaler can do its work, in the words of the autoscaler itself: the condition ScalingReady."""

from __future__ import annotations

from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.api_scaling import Scaling
from trtllm_operator.api_status import ConditionType
from trtllm_operator.autoscaling import metric_name, unscaled_floor
from trtllm_operator.engine_versions import EngineRelease
from trtllm_operator.facts import Observed
from trtllm_operator.findings import (
    FeatureReason,
    Finding,
    LiveObjects,
    Manifest,
    Truth,
    absence,
    condition_of,
    creating,
)
from trtllm_operator.kinds import AUTOSCALER, SCALED_OBJECT, Kind


def scaling_finding(
    spec: LLMDeploymentSpec, release: EngineRelease, live: LiveObjects, observed: Observed | None
) -> Finding | None:
    """Return the condition; None where the number of replicas is fixed."""
    scaling = spec.scaling
    if scaling is None:
        return None
    kind = AUTOSCALER if scaling.keda is None else SCALED_OBJECT
    if kind in live.absent:
        return absence(ConditionType.SCALING_READY, kind, live.absent[kind])
    if metric_name(scaling, release) is None:
        return _not_exported(scaling, kind, release)
    found = live.found.get(kind)
    if found is None:
        return creating(ConditionType.SCALING_READY, kind)
    return _horizontal(found, observed) if scaling.keda is None else _keda(found, scaling)


def _not_exported(scaling: Scaling, kind: Kind, release: EngineRelease) -> Finding:
    floor = unscaled_floor(scaling, frozenset())
    return _finding(
        "False",
        FeatureReason.METRIC_NOT_EXPORTED,
        f"TensorRT-LLM {release.name} exports nothing that a {kind.kind} can read for spec.scaling.metric "
        f"{scaling.metric}, so nothing scales: the replicas stay as they are, at least {floor}; set "
        "spec.engine.image.tag to a release that does, or another metric",
    )


def _horizontal(found: Manifest, observed: Observed | None) -> Finding:
    able, active = condition_of(found, "AbleToScale"), condition_of(found, "ScalingActive")
    if able.get("status") == "False":
        return _finding("False", FeatureReason.AUTOSCALER_FAILING, _words(able))
    if not active:
        return _finding("Unknown", FeatureReason.AUTOSCALER_PENDING, "the autoscaler has not looked at the load yet")
    if active["status"] == "True":
        return _finding("True", FeatureReason.SCALING_ACTIVE, _limited(found))
    if observed is None or observed.ready == 0:
        return _finding("Unknown", FeatureReason.WAITING_FOR_PODS, "no replica that exports a metric is ready yet")
    return _finding(
        "False",
        FeatureReason.METRIC_UNAVAILABLE,
        f"{_words(active)}; it needs an adapter that serves custom.metrics.k8s.io from Prometheus, such as "
        "prometheus-adapter, and a Prometheus that scrapes the replicas (spec.monitoring); or set spec.scaling.keda",
    )


def _keda(found: Manifest, scaling: Scaling) -> Finding:
    ready = condition_of(found, "Ready")
    if ready.get("status") == "False":
        return _finding("False", FeatureReason.AUTOSCALER_FAILING, _words(ready))
    if ready.get("status") != "True":
        return _finding("Unknown", FeatureReason.AUTOSCALER_PENDING, "KEDA has not taken up the ScaledObject yet")
    if scaling.min_replicas == 0:
        return _finding(
            "False",
            FeatureReason.NO_WAKE_SIGNAL,
            "spec.scaling.minReplicas is 0, and the metrics of trtllm-serve end with the last replica, so that nothing "
            "starts one again; set it to 1 to wake it, and to keep it awake",
        )
    return _finding("True", FeatureReason.SCALING_ACTIVE, "KEDA follows the load")


def _limited(found: Manifest) -> str:
    limited = condition_of(found, "ScalingLimited")
    beyond = limited.get("status") == "True" and limited.get("reason") == "TooManyReplicas"
    return "the load asks for more than spec.scaling.maxReplicas" if beyond else "the autoscaler follows the load"


def _words(condition: Manifest) -> str:
    return f"{condition.get('reason', '')}: {condition.get('message', '')}"


def _finding(status: Truth, reason: FeatureReason, message: str) -> Finding:
    return Finding(type=ConditionType.SCALING_READY, status=status, reason=reason, message=message)
