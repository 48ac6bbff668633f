"""What stands around the workload: the contexts of every object that neither runs the model nor is mounted by it."""

from __future__ import annotations

from collections.abc import Mapping

from trtllm_operator import autoscaling, disruption, monitoring, network
from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.engine_versions import EngineRelease
from trtllm_operator.planned import Plan
from trtllm_operator.settings import Settings


def surroundings(
    name: str, namespace: str, spec: LLMDeploymentSpec, plan: Plan, release: EngineRelease, settings: Settings
) -> Mapping[str, object | None]:
    """Return one context for each kind; None where the object is not wanted."""
    return {
        "Service": network.service(name, namespace, spec),
        "NetworkPolicy": network.network_policy(name, namespace, spec, plan.nodes),
        "PodDisruptionBudget": disruption.disruption_budget(name, namespace, spec, plan.nodes),
        "HorizontalPodAutoscaler": autoscaling.autoscaler(name, namespace, spec, plan, release, settings),
        "ScaledObject": autoscaling.scaled_object(name, namespace, spec, plan, release, settings),
        "PodMonitor": monitoring.pod_monitor(name, namespace, spec),
        "Ingress": network.ingress(name, namespace, spec),
        "InferencePool": network.inference_pool(name, namespace, spec),
        "HTTPRoute": network.http_route(name, namespace, spec),
    }
