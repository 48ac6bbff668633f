"""Where the server is reached, and whether what leads there is in force: status.url and the condition ExposureReady."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.api_network import Expose, Gateway, Service, ServiceType
from trtllm_operator.api_status import ConditionType
from trtllm_operator.findings import (
    FeatureReason,
    Finding,
    LiveObjects,
    Manifest,
    Truth,
    absence,
    creating,
    parent_condition,
)
from trtllm_operator.kinds import HTTP_ROUTE, INFERENCE_POOL, INGRESS, SERVICE, Kind

_DEFAULT_PORTS = {"http": 80, "https": 443}


def exposure_finding(spec: LLMDeploymentSpec, live: LiveObjects) -> Finding | None:
    """Return the condition; None where nothing but a Service inside the cluster is asked for."""
    parts = list(_parts(spec.expose or Expose(), live))
    unmet = next((part for part in parts if part.status != "True"), None)
    if unmet is not None or not parts:
        return unmet
    return _finding("True", FeatureReason.EXPOSED, "; ".join(part.message for part in parts))


def url(name: str, namespace: str, spec: LLMDeploymentSpec, live: LiveObjects) -> str:
    """Return the base URL of the API: from outside where that is known, else inside the cluster."""
    expose = spec.expose or Expose()
    service = expose.service or Service()
    if expose.ingress is not None and "*" not in expose.ingress.host:
        return _base("https" if expose.ingress.tls_secret_name else "http", expose.ingress.host)
    if expose.gateway is not None and (found := _gateway_url(expose.gateway, live)) is not None:
        return found
    if service.type is ServiceType.LOAD_BALANCER and (address := _address(live.found.get(SERVICE, {}))) is not None:
        return _base("http", address, service.port)
    return _base("http", f"{name}.{namespace}.svc", service.port)


def _parts(expose: Expose, live: LiveObjects) -> Iterator[Finding]:
    if expose.service is not None and expose.service.type is ServiceType.LOAD_BALANCER:
        yield _addressed(SERVICE, live, "spec.expose.service.type LoadBalancer needs a cloud's or another controller")
    if expose.ingress is not None:
        yield _addressed(INGRESS, live, "spec.expose.ingress.className must be that of a running Ingress controller")
    if expose.gateway is not None:
        where = expose.gateway.namespace or "this namespace"
        yield _accepted(HTTP_ROUTE, live, f"is there a Gateway {expose.gateway.name} in {where}, and does it run?")
    if expose.inference_pool is not None:
        yield _accepted(INFERENCE_POOL, live, "does a gateway that knows InferencePools lead to it?")


def _addressed(kind: Kind, live: LiveObjects, hint: str) -> Finding:
    found = live.found.get(kind)
    if found is None:
        return creating(ConditionType.EXPOSURE_READY, kind)
    address = _address(found)
    if address is None:
        return _finding("Unknown", FeatureReason.ADDRESS_PENDING, f"the {kind.kind} has no address yet; {hint}")
    return _finding("True", FeatureReason.EXPOSED, f"the {kind.kind} has the address {address}")


def _accepted(kind: Kind, live: LiveObjects, hint: str) -> Finding:
    if kind in live.absent:
        return absence(ConditionType.EXPOSURE_READY, kind, live.absent[kind])
    found = live.found.get(kind)
    if found is None:
        return creating(ConditionType.EXPOSURE_READY, kind)
    for name in ("Accepted", "ResolvedRefs"):
        told = parent_condition(found, name)
        if not told:
            message = f"no gateway's controller has told whether the {kind.kind} is {name}; {hint}"
            return _finding("Unknown", FeatureReason.ROUTE_PENDING, message)
        if told["status"] != "True":
            message = f"{kind.kind}: {told.get('reason', '')}: {told.get('message', '')}"
            return _finding("False", FeatureReason.ROUTE_REFUSED, message)
    return _finding("True", FeatureReason.EXPOSED, f"the {kind.kind} is accepted")


def _address(manifest: Manifest) -> str | None:
    """Return the first address of a load balancer, as a URL has it."""
    points = manifest.get("status", {}).get("loadBalancer", {}).get("ingress") or [{}]
    return points[0].get("hostname") or _bracketed(points[0].get("ip"))


def _gateway_url(wanted: Gateway, live: LiveObjects) -> str | None:
    """Return the URL through the Gateway; None where the operator cannot see it or it has no listener that fits."""
    if live.gateway is None:
        return None
    hosts = [host for host in wanted.hostnames if "*" not in host] or [""]
    listeners = [
        listener
        for listener in live.gateway["spec"]["listeners"]
        if listener["protocol"] in ("HTTP", "HTTPS") and _fits(hosts[0], listener.get("hostname", ""))
    ]
    listener = max(listeners, key=lambda found: bool(found["protocol"] == "HTTPS"), default=None)
    if listener is None:
        return None
    own = listener.get("hostname", "")
    host = hosts[0] or ("" if "*" in own else own) or _gateway_address(live.gateway)
    return _base(listener["protocol"].lower(), host, listener["port"]) if host else None


def _fits(host: str, listener: str) -> bool:
    return not host or not listener or host == listener or (listener[0] == "*" and host.endswith(listener[1:]))


def _gateway_address(gateway: Mapping[str, Any]) -> str | None:
    addresses = gateway.get("status", {}).get("addresses") or [{}]
    return _bracketed(addresses[0].get("value"))


def _bracketed(address: str | None) -> str | None:
    return f"[{address}]" if address and ":" in address else address


def _base(scheme: str, host: str, port: int | None = None) -> str:
    shown = "" if port in (None, _DEFAULT_PORTS[scheme]) else f":{port}"
    return f"{scheme}://{host}{shown}/v1"


def _finding(status: Truth, reason: FeatureReason, message: str) -> Finding:
    return Finding(type=ConditionType.EXPOSURE_READY, status=status, reason=reason, message=message)
