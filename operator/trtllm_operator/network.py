"""How the server is reached, and by whom: the contexts of Service, Ingress, HTTPRoute, InferencePool, NetworkPolicy."""

from __future__ import annotations

from dataclasses import dataclass

from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.api_network import Expose, Service, ServiceType
from trtllm_operator.engine import PORT
from trtllm_operator.kinds import INFERENCE_POOL, SERVICE
from trtllm_operator.naming import common_labels, selector_labels, serving_labels

Labels = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceContext:
    """The stable address of the serving pods."""

    name: str
    namespace: str
    labels: Labels
    annotations: dict[str, str]
    type: ServiceType
    selector: Labels
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressContext:
    """A host name that leads to the Service."""

    name: str
    namespace: str
    labels: Labels
    annotations: dict[str, str]
    class_name: str | None
    host: str
    tls_secret: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRouteContext:
    """A route from a Gateway to the Service or the InferencePool (``backend_port`` None)."""

    name: str
    namespace: str
    labels: Labels
    gateway: str
    gateway_namespace: str
    hostnames: tuple[str, ...]
    backend_group: str
    backend_kind: str
    backend_port: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InferencePoolContext:
    """The serving pods as a pool from which an endpoint picker chooses."""

    name: str
    namespace: str
    labels: Labels
    selector: Labels
    port: int
    picker: str
    picker_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPolicyContext:
    """Who may reach the pods; with ``ranks`` the pods of a replica reach each other on any port."""

    name: str
    namespace: str
    labels: Labels
    selector: Labels
    ranks: bool
    namespaces: tuple[str, ...]
    port: int


def service(name: str, namespace: str, spec: LLMDeploymentSpec) -> ServiceContext:
    """Fill the Service."""
    wanted = _expose(spec).service or Service()
    return ServiceContext(
        name=name,
        namespace=namespace,
        labels=common_labels(name),
        annotations=wanted.annotations,
        type=wanted.type,
        selector=serving_labels(name),
        port=wanted.port,
    )


def ingress(name: str, namespace: str, spec: LLMDeploymentSpec) -> IngressContext | None:
    """Fill the Ingress, where one is wanted."""
    wanted = _expose(spec).ingress
    if wanted is None:
        return None
    return IngressContext(
        name=name,
        namespace=namespace,
        labels=common_labels(name),
        annotations=wanted.annotations,
        class_name=wanted.class_name,
        host=wanted.host,
        tls_secret=wanted.tls_secret_name,
    )


def http_route(name: str, namespace: str, spec: LLMDeploymentSpec) -> HTTPRouteContext | None:
    """Fill the HTTPRoute, where one is wanted."""
    expose = _expose(spec)
    if expose.gateway is None:
        return None
    pooled = expose.inference_pool is not None
    backend = INFERENCE_POOL if pooled else SERVICE
    return HTTPRouteContext(
        name=name,
        namespace=namespace,
        labels=common_labels(name),
        gateway=expose.gateway.name,
        gateway_namespace=expose.gateway.namespace or namespace,
        hostnames=expose.gateway.hostnames,
        backend_group=backend.group,
        backend_kind=backend.kind,
        backend_port=None if pooled else (expose.service or Service()).port,
    )


def inference_pool(name: str, namespace: str, spec: LLMDeploymentSpec) -> InferencePoolContext | None:
    """Fill the InferencePool, where one is wanted."""
    wanted = _expose(spec).inference_pool
    if wanted is None:
        return None
    return InferencePoolContext(
        name=name,
        namespace=namespace,
        labels=common_labels(name),
        selector=serving_labels(name),
        port=PORT,
        picker=wanted.endpoint_picker.name,
        picker_port=wanted.endpoint_picker.port,
    )


def network_policy(name: str, namespace: str, spec: LLMDeploymentSpec, nodes: int) -> NetworkPolicyContext | None:
    """Fill the NetworkPolicy, where one is wanted; ``nodes`` is the number of pods of one replica.

    It restricts who connects to the pods, not what they connect to: weights come from hosts whose addresses change.
    """
    wanted = spec.network_policy
    if wanted is None or not wanted.enabled:
        return None
    return NetworkPolicyContext(
        name=name,
        namespace=namespace,
        labels=common_labels(name),
        selector=selector_labels(name),
        ranks=nodes > 1,
        namespaces=tuple(sorted({namespace, *wanted.allow_from_namespaces})),
        port=PORT,
    )


def _expose(spec: LLMDeploymentSpec) -> Expose:
    return spec.expose or Expose()
