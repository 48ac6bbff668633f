"""The kinds of object the operator handles: one table for watches, prune, rights and schema tests."""

from __future__ import annotations

from dataclasses import dataclass

from trtllm_operator.naming import GROUP, KIND, PLURAL, VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of a Kubernetes API; ``group`` is empty for the core API.

    ``optional``: a cluster may lack the API; then the operator does without the objects of this kind.
    """

    group: str = ""
    version: str = "v1"
    kind: str
    plural: str
    namespaced: bool = True
    optional: bool = False

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
VOLUME_CLAIM = Kind(kind="PersistentVolumeClaim", plural="persistentvolumeclaims")
JOB = Kind(group="batch", kind="Job", plural="jobs")
SERVICE = Kind(kind="Service", plural="services")
DEPLOYMENT = Kind(group="apps", kind="Deployment", plural="deployments")
LEADER_WORKER_SET = Kind(
    group="leaderworkerset.x-k8s.io", kind="LeaderWorkerSet", plural="leaderworkersets", optional=True
)
AUTOSCALER = Kind(group="autoscaling", version="v2", kind="HorizontalPodAutoscaler", plural="horizontalpodautoscalers")
DISRUPTION_BUDGET = Kind(group="policy", kind="PodDisruptionBudget", plural="poddisruptionbudgets")
NETWORK_POLICY = Kind(group="networking.k8s.io", kind="NetworkPolicy", plural="networkpolicies")
INGRESS = Kind(group="networking.k8s.io", kind="Ingress", plural="ingresses")
HTTP_ROUTE = Kind(group="gateway.networking.k8s.io", kind="HTTPRoute", plural="httproutes", optional=True)
INFERENCE_POOL = Kind(group="inference.networking.k8s.io", kind="InferencePool", plural="inferencepools", optional=True)
SCALED_OBJECT = Kind(group="keda.sh", version="v1alpha1", kind="ScaledObject", plural="scaledobjects", optional=True)
GATEWAY = Kind(group="gateway.networking.k8s.io", kind="Gateway", plural="gateways", optional=True)
POD_MONITOR = Kind(group="monitoring.coreos.com", kind="PodMonitor", plural="podmonitors", optional=True)
POD = Kind(kind="Pod", plural="pods")
NODE = Kind(kind="Node", plural="nodes", namespaced=False)
EVENT = Kind(kind="Event", plural="events")
LIMIT_RANGE = Kind(kind="LimitRange", plural="limitranges")
RESOURCE_QUOTA = Kind(kind="ResourceQuota", plural="resourcequotas")
LEASE = Kind(group="coordination.k8s.io", kind="Lease", plural="leases")
SECRET = Kind(kind="Secret", plural="secrets")

KINDS = (
    CONFIG_MAP,
    VOLUME_CLAIM,
    SERVICE,
    NETWORK_POLICY,
    DISRUPTION_BUDGET,
    JOB,
    DEPLOYMENT,
    LEADER_WORKER_SET,
    AUTOSCALER,
    SCALED_OBJECT,
    POD_MONITOR,
    INGRESS,
    INFERENCE_POOL,
    HTTP_ROUTE,
)
"""Children, in the order they are applied: what a pod mounts comes before the pod."""

CHILD_KINDS = {kind.kind: kind for kind in KINDS}
"""Children by the ``kind`` of their manifests."""

WORKLOAD_KINDS = (DEPLOYMENT, LEADER_WORKER_SET)
"""Children that run pods; they have a scale subresource."""

REPORTING_KINDS = (SERVICE, AUTOSCALER, SCALED_OBJECT, POD_MONITOR, INGRESS, INFERENCE_POOL, HTTP_ROUTE)
"""Children around the workload, named as the LLMDeployment, of which the status tells."""

AUTOSCALER_KINDS = (AUTOSCALER, SCALED_OBJECT)
"""Children that set a workload's replicas."""

CREATED_KINDS = (EVENT, SECRET)
"""Created; our own are never read."""

OBSERVED_KINDS = (POD, NODE, GATEWAY)
"""Read, never written."""

SURVEYED_KINDS = (RESOURCE_QUOTA, LIMIT_RANGE, EVENT)
"""Listed while a replica waits for GPUs, or a pod for its volumes; never watched."""
