"""The kinds of object the operator handles: one table for watches, prune, rights and schema tests."""

from __future__ import annotations

from dataclasses import dataclass

from trtllm_operator.naming import GROUP, KIND, PLURAL, VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of a Kubernetes API; ``group`` is empty for the core API."""

    group: str = ""
    version: str = "v1"
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """Return the value of ``apiVersion``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the URL path of the collection, the object or its subresource."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts += [self.plural, *(part for part in (name, subresource) if part is not None)]
        return "/".join(parts)


LLM_DEPLOYMENT = Kind(group=GROUP, version=VERSION, kind=KIND, plural=PLURAL)
CONFIG_MAP = Kind(kind="ConfigMap", plural="configmaps")
SERVICE = Kind(kind="Service", plural="services")
DEPLOYMENT = Kind(group="apps", kind="Deployment", plural="deployments")
AUTOSCALER = Kind(group="autoscaling", version="v2", kind="HorizontalPodAutoscaler", plural="horizontalpodautoscalers")
POD = Kind(kind="Pod", plural="pods")
NODE = Kind(kind="Node", plural="nodes", namespaced=False)
EVENT = Kind(kind="Event", plural="events")

KINDS = (CONFIG_MAP, SERVICE, DEPLOYMENT, AUTOSCALER)
"""Children, in the order they are applied: what a pod mounts comes before the pod."""

CHILD_KINDS = {kind.kind: kind for kind in KINDS}
"""Children by the ``kind`` of their manifests."""

OBSERVED_KINDS = (POD, NODE)
"""Read, never written."""
