"""The serving pods: resources, labels and where they may run. Each type has the shape of its Kubernetes namesake."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field
from pydantic.config import JsonDict

from trtllm_operator.api_base import (
    QUALIFIED_KEYS,
    Annotations,
    ApiModel,
    LabelKey,
    Labels,
    LabelValue,
    Quantity,
    cel,
    rules,
)


class SecurityProfile(StrEnum):
    """Pod Security Standard the serving pods meet."""

    BASELINE = "Baseline"
    RESTRICTED = "Restricted"


_MANAGED_LABELS = "self.labels.filter(k, k.startsWith('trtllm.dev/') || k.startsWith('app.kubernetes.io/'))"
_MANAGED_ANNOTATIONS = "self.annotations.filter(k, k.startsWith('trtllm.dev/'))"


class PodMetadata(ApiModel):
    """Labels and annotations for the serving pods."""

    model_config = rules(
        cel(
            f"!has(self.labels) || {_MANAGED_LABELS}.size() == 0",
            "podMetadata.labels may not hold %s: the operator manages the prefixes trtllm.dev/ and app.kubernetes.io/",
            f"{_MANAGED_LABELS}[0]",
        ),
        cel(
            f"!has(self.annotations) || {_MANAGED_ANNOTATIONS}.size() == 0",
            "podMetadata.annotations may not hold %s: the operator manages the prefix trtllm.dev/",
            f"{_MANAGED_ANNOTATIONS}[0]",
        ),
    )

    labels: Labels = {}
    """Further labels. Example: {kueue.x-k8s.io/queue-name: gpu}."""

    annotations: Annotations = {}
    """Further annotations."""


ResourceList = Annotated[dict[str, Quantity], Field(max_length=16, json_schema_extra=QUALIFIED_KEYS)]


def _no_gpus(field: str) -> JsonDict:
    gpus = f"self.{field}.filter(k, k.startsWith('nvidia.com/'))"
    return cel(
        f"!has(self.{field}) || {gpus}.size() == 0",
        f"resources.{field} may not hold %s (%s): GPUs follow from the plan; set gpus.count and gpus.resourceName",
        f"{gpus}[0]",
        f"self.{field}[{gpus}[0]]",
    )


_STANDARD = "k in ['cpu', 'memory', 'ephemeral-storage']"
_ODD_REQUESTS = f"self.requests.filter(k, !({_STANDARD}))"
_ODD_LIMITS = f"self.limits.filter(k, !({_STANDARD}) && !k.contains('/'))"
_PARTIAL_DEVICES = "self.limits.filter(k, k.contains('/') && !quantity(string(self.limits[k])).isInteger())"
_ABOVE_LIMIT = (
    "self.requests.filter(k, k in self.limits"
    " && quantity(string(self.requests[k])).isGreaterThan(quantity(string(self.limits[k]))))"
)


class Resources(ApiModel):
    """CPU, memory and further devices of one serving container. Its GPUs follow from the plan."""

    model_config = rules(
        _no_gpus("requests"),
        _no_gpus("limits"),
        cel(
            f"!has(self.requests) || {_ODD_REQUESTS}.size() == 0",
            "resources.requests may hold cpu, memory and ephemeral-storage, not %s; a device is requested by its limit",
            f"{_ODD_REQUESTS}[0]",
        ),
        cel(
            f"!has(self.limits) || {_ODD_LIMITS}.size() == 0",
            "resources.limits may hold cpu, memory, ephemeral-storage and devices with their domain such as rdma/hca,"
            " not %s",
            f"{_ODD_LIMITS}[0]",
        ),
        cel(
            f"!has(self.limits) || {_PARTIAL_DEVICES}.size() == 0",
            "resources.limits.%s is %s; devices are whole numbers",
            f"{_PARTIAL_DEVICES}[0]",
            f"self.limits[{_PARTIAL_DEVICES}[0]]",
        ),
        cel(
            f"!has(self.requests) || !has(self.limits) || {_ABOVE_LIMIT}.size() == 0",
            "resources.requests.%s (%s) is larger than resources.limits.%s (%s)",
            f"{_ABOVE_LIMIT}[0]",
            f"self.requests[{_ABOVE_LIMIT}[0]]",
            f"{_ABOVE_LIMIT}[0]",
            f"self.limits[{_ABOVE_LIMIT}[0]]",
        ),
    )

    requests: ResourceList = {}
    """What the scheduler sets aside. Example: {cpu: 16, memory: 180Gi}."""

    limits: ResourceList = {}
    """What the container may use. Example: {memory: 180Gi, rdma/hca: 1}."""


class TolerationOperator(StrEnum):
    """How a toleration compares a taint's value."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does to pods that do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(ApiModel):
    """Lets pods onto nodes with a matching taint."""

    model_config = rules(
        cel(
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            "tolerations: operator must be Exists when key is missing",
        ),
        cel(
            "!has(self.value) || self.value == '' || !has(self.operator) || self.operator == 'Equal'",
            "tolerations: value (%s) must be missing when operator is Exists",
            "self.value",
        ),
        cel(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerations: tolerationSeconds (%d) needs effect NoExecute",
            "self.tolerationSeconds",
        ),
    )

    key: LabelKey | None = None
    """Key of the taint; absent matches every key. Example: nvidia.com/gpu."""

    operator: TolerationOperator | None = None
    """Exists ignores the value. Absent: Equal."""

    value: LabelValue | None = None
    """Value of the taint, for Equal."""

    effect: TaintEffect | None = None
    """Effect of the taint; absent matches every effect. Example: NoSchedule."""

    toleration_seconds: Annotated[int, Field(ge=0, le=86_400)] | None = None
    """Seconds to stay on a node after a NoExecute taint appears. Absent: for ever."""
