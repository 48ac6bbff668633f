"""Where the serving pods may run, and under which classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.api_base import ApiModel
from trtllm_operator.hardware import GPU_RESOURCE, PRODUCT_LABEL
from trtllm_operator.naming import selector_labels
from trtllm_operator.planned import Plan


class PodField(NamedTuple):
    """A field of a pod's spec that is only there when somebody asks for it."""

    name: str
    value: Any


GPU_TAINT = {"key": GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule"}
"""The taint that nodes with GPUs usually carry."""

DEFAULT_ACCOUNT = "default"
"""What the API server gives a pod that names no service account."""


def gpu_resource(spec: LLMDeploymentSpec, plan: Plan) -> str:
    """Return the extended resource of the GPUs: as stated, else as the nodes offer the product."""
    return (spec.gpus and spec.gpus.resource_name) or plan.pool.gpu.resource_name


def node_selector(spec: LLMDeploymentSpec, plan: Plan, product: str) -> dict[str, str]:
    """Return the user's labels and the pod's GPU product, under the label that belongs to the resource.

    GPU feature discovery labels MIG slices that have a resource of their own with ``nvidia.com/mig-1g.10gb.product``.
    """
    resource = gpu_resource(spec, plan)
    label = f"{resource}.product" if resource.startswith("nvidia.com/") else PRODUCT_LABEL
    return {**spec.node_selector, label: product}


def tolerations(spec: LLMDeploymentSpec) -> tuple[Mapping[str, Any], ...]:
    """Return the taint of GPU nodes and the user's own."""
    return (GPU_TAINT, *(_dump(toleration) for toleration in spec.tolerations))


def optional_fields(name: str, spec: LLMDeploymentSpec) -> tuple[PodField, ...]:
    """Return what a pod's spec holds only when the LLMDeployment says so, and the account, which it always names.

    The API server keeps a copy of the account's name in the deprecated ``serviceAccount`` and restores the name from
    it, so that a name once given can be replaced and never be taken away.
    """
    asked = {
        "affinity": None if spec.affinity is None else _dump(spec.affinity),
        "topologySpreadConstraints": _spread(name, spec),
        "priorityClassName": spec.priority_class_name,
        "schedulerName": spec.scheduler_name,
        "runtimeClassName": spec.runtime_class_name,
        "serviceAccountName": spec.service_account_name or DEFAULT_ACCOUNT,
    }
    return tuple(PodField(field, value) for field, value in asked.items() if value)


def _spread(name: str, spec: LLMDeploymentSpec) -> Sequence[Mapping[str, Any]]:
    ours = {"labelSelector": {"matchLabels": selector_labels(name)}}
    return [{**ours, **_dump(constraint)} for constraint in spec.topology_spread_constraints]


def _dump(value: ApiModel) -> dict[str, Any]:
    return value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
