"""What the status tells of everything around the workload."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.api_status import ConditionType, CostStatus
from trtllm_operator.disruption import certain_replicas
from trtllm_operator.download_status import model_finding
from trtllm_operator.engine_versions import EngineRelease
from trtllm_operator.exposure import exposure_finding, url
from trtllm_operator.facts import Observed
from trtllm_operator.findings import FeatureReason, Finding, LiveObjects, Truth, absence, creating
from trtllm_operator.kinds import POD_MONITOR
from trtllm_operator.planned import Plan
from trtllm_operator.scaling_status import scaling_finding
from trtllm_operator.workload import workload_kind

FEATURE_CONDITIONS = (
    ConditionType.MODEL_READY,
    ConditionType.SCALING_READY,
    ConditionType.EXPOSURE_READY,
    ConditionType.MONITORING_READY,
    ConditionType.DISRUPTION_READY,
)
"""ModelReady, which Ready waits for; the others are present only while the spec asks for what they speak of, and do not
decide Ready: the model serves without."""

_CENTS = Decimal("0.00")
"""Added to a price, it shows two decimals or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """The conditions, the address and the price. ``workload`` is why nothing can run the model, where that is so."""

    workload: Finding | None
    findings: tuple[Finding, ...]
    url: str
    cost: CostStatus | None


def features(
    *,
    name: str,
    namespace: str,
    spec: LLMDeploymentSpec,
    plan: Plan,
    release: EngineRelease,
    live: LiveObjects,
    observed: Observed | None,
) -> Features:
    """Return what is to be told; ``observed`` is what runs."""
    findings = (
        model_finding(name, spec, plan, live),
        scaling_finding(spec, release, live, observed),
        exposure_finding(spec, live),
        _monitoring(spec, live),
        _disruption(spec, plan),
    )
    runner = workload_kind(plan)
    return Features(
        workload=absence(ConditionType.WORKLOAD_READY, runner, live.absent[runner]) if runner in live.absent else None,
        findings=tuple(finding for finding in findings if finding is not None),
        url=url(name, namespace, spec, live),
        cost=_cost(spec, plan, observed),
    )


def _monitoring(spec: LLMDeploymentSpec, live: LiveObjects) -> Finding | None:
    condition = ConditionType.MONITORING_READY
    if spec.monitoring is None or not spec.monitoring.pod_monitor:
        return None
    if POD_MONITOR in live.absent:
        return absence(condition, POD_MONITOR, live.absent[POD_MONITOR])
    if POD_MONITOR not in live.found:
        return creating(condition, POD_MONITOR)
    message = "the PodMonitor is there; a Prometheus whose podMonitorSelector matches spec.monitoring.labels reads it"
    return Finding(type=condition, status="True", reason=FeatureReason.POD_MONITOR_APPLIED, message=message)


def _disruption(spec: LLMDeploymentSpec, plan: Plan) -> Finding | None:
    if spec.disruption is None:
        return None
    replicas, kept = certain_replicas(spec), spec.disruption.min_available
    if replicas < 2:  # noqa: PLR2004 - one replica has nothing to spare
        message = f"spec.disruption needs two replicas or more to have an effect; wanted at any load: {replicas}"
        return _disruption_finding("False", FeatureReason.NOTHING_TO_SPARE, message)
    if plan.nodes > 1:
        return _disruption_finding("True", FeatureReason.GUARDED, "drains move one replica at a time")
    if kept >= replicas:
        message = (
            f"spec.disruption.minAvailable is {kept} and {replicas} replicas are wanted: no node that runs one can be "
            "drained; lower it"
        )
        return _disruption_finding("False", FeatureReason.DRAINS_BLOCKED, message)
    return _disruption_finding("True", FeatureReason.GUARDED, f"drains leave at least {kept} replicas")


def _disruption_finding(status: Truth, reason: FeatureReason, message: str) -> Finding:
    return Finding(type=ConditionType.DISRUPTION_READY, status=status, reason=reason, message=message)


def _cost(spec: LLMDeploymentSpec, plan: Plan, observed: Observed | None) -> CostStatus | None:
    if spec.cost is None:
        return None
    replicas = certain_replicas(spec) if observed is None else observed.wanted
    price = Decimal(spec.cost.per_gpu_hour) * plan.gpus * replicas
    return CostStatus(per_hour=f"{price + _CENTS:f}", currency=spec.cost.currency)
