"""How the server is reached, watched and kept apart."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from trtllm_operator.api_base import (
    Annotations,
    ApiModel,
    Hostname,
    Labels,
    NamespaceName,
    ObjectName,
    ServiceName,
    cel,
    rules,
)


class ServiceType(StrEnum):
    """Where a Service is reachable from."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


class Service(ApiModel):
    """The Service in front of the replicas."""

    type: ServiceType = ServiceType.CLUSTER_IP
    """ClusterIP is reachable inside the cluster only. trtllm-serve asks nobody for a password."""

    port: Annotated[int, Field(ge=1, le=65_535)] = 8000
    """Port of the Service; the server's own port stays 8000."""

    annotations: Annotations = {}
    """Annotations of the Service, which cloud load balancers read."""


class Ingress(ApiModel):
    """An Ingress to the Service."""

    class_name: ObjectName | None = None
    """Ingress class. Default: the cluster's. Example: nginx."""

    host: Hostname
    """Host name. Example: llama.example.com."""

    tls_secret_name: ObjectName | None = None
    """Secret with the certificate. Absent: plain HTTP."""

    annotations: Annotations = {}
    """Annotations of the Ingress, such as a longer read timeout."""


class Gateway(ApiModel):
    """An HTTPRoute to the Service. Needs the Gateway API in the cluster."""

    name: ObjectName
    """Gateway to attach to. Example: inference."""

    namespace: NamespaceName | None = None
    """Namespace of the Gateway. Default: the LLMDeployment's."""

    hostnames: Annotated[
        tuple[Hostname, ...], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = ()
    """Host names to answer to. Absent: the listener's. Example: [llama.example.com]."""


class EndpointPicker(ApiModel):
    """The Service of an endpoint picker, which chooses the replica for each request."""

    name: ServiceName
    """Service of the endpoint picker, in the LLMDeployment's namespace. Example: llama-70b-epp."""

    port: Annotated[int, Field(ge=1, le=65_535)] = 9002
    """Its gRPC port. Default: 9002, which the Gateway API Inference Extension's charts use."""


class InferencePool(ApiModel):
    """An InferencePool of the replicas, for a gateway that sends each request to the least busy one."""

    endpoint_picker: EndpointPicker
    """The endpoint picker, which the operator does not install: it is released with the Gateway API Inference
    Extension and with llm-d."""


class Expose(ApiModel):
    """How the server is reached."""

    model_config = rules(
        cel(
            "!(has(self.ingress) && has(self.gateway))",
            "set either expose.ingress (%s) or expose.gateway (%s), not both",
            "self.ingress.host",
            "self.gateway.name",
        )
    )

    service: Service | None = None
    """The Service in front of the replicas, which always exists."""

    ingress: Ingress | None = None
    """An Ingress to the Service. Not together with `gateway`."""

    gateway: Gateway | None = None
    """An HTTPRoute to the Service. Not together with `ingress`."""

    inference_pool: InferencePool | None = None
    """An InferencePool, to which the HTTPRoute of `gateway` then leads in place of the Service. Needs the Gateway API
    Inference Extension in the cluster."""


class Monitoring(ApiModel):
    """Scraping of the replicas' metrics."""

    pod_monitor: bool = False
    """Create a PodMonitor for /prometheus/metrics. Needs the Prometheus operator. Default: false."""

    interval: Annotated[str, Field(max_length=8, pattern=r"^[1-9][0-9]*(s|m|h)$")] = "15s"
    """Time between scrapes."""

    labels: Labels = {}
    """Labels of the PodMonitor, by which Prometheus selects it. Example: {release: prometheus}."""


class Disruption(ApiModel):
    """A PodDisruptionBudget, made while `replicas` or `scaling.minReplicas` is 2 or more."""

    min_available: Annotated[int, Field(ge=1, le=1000)]
    """Replicas that stay up while nodes are drained; a budget for one replica would stop every drain. Where a replica
    spans several nodes, one is moved at a time, whatever this says. Example: 1."""


class NetworkPolicy(ApiModel):
    """Who may reach the server."""

    enabled: bool = False
    """Create a NetworkPolicy that admits the listed namespaces, the LLMDeployment's own and nobody else to the server.
    What the replicas themselves reach (DNS, weights) is not restricted. Default: false."""

    allow_from_namespaces: Annotated[
        tuple[NamespaceName, ...], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = ()
    """Further namespaces that may reach the server: those of clients, of Prometheus and of the gateway's or Ingress
    controller's own pods. Example: [apps, monitoring]."""


ProxyAddress = Annotated[str, Field(min_length=8, max_length=512, pattern=r"^https?://[!-~]+$")]


class Proxy(ApiModel):
    """Proxy for downloading weights."""

    http_proxy: ProxyAddress | None = None
    """Proxy for http://. Example: http://proxy.example.com:3128."""

    https_proxy: ProxyAddress | None = None
    """Proxy for https://. Example: http://proxy.example.com:3128."""

    no_proxy: Annotated[str, Field(max_length=2048, pattern=r"^[!-~]*$")] | None = None
    """Hosts and domains reached directly, separated by commas. The cluster's own are added.
    Example: .example.com,10.0.0.0/8."""

    ca_config_map: ObjectName | None = None
    """ConfigMap whose key `ca.crt` holds further certificate authorities to trust. An init container joins them to the
    image's own with Python's certifi; that every release's image has it is unverified."""
