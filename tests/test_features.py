"""What the status tells of autoscalers, routes, monitors, budgets and prices."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from builders import a_plan, a_spec
from trtllm_operator.api_status import ConditionType, CostStatus, LLMDeploymentStatus
from trtllm_operator.engine_versions import find_release
from trtllm_operator.errors import ClusterError, Forbidden, NotFound
from trtllm_operator.facts import Observed
from trtllm_operator.features import Features, features
from trtllm_operator.findings import LiveObjects
from trtllm_operator.kinds import (
    AUTOSCALER,
    HTTP_ROUTE,
    INFERENCE_POOL,
    INGRESS,
    KINDS,
    LEADER_WORKER_SET,
    POD_MONITOR,
    SCALED_OBJECT,
    SERVICE,
    Kind,
)
from trtllm_operator.optional_apis import missing, optional_apis
from trtllm_operator.status import Outcome, status, transitions

Found = dict[Kind, dict[str, Any]]

RUNS = Observed(kind="Deployment", name="llama", wanted=2, replicas=2, ready=2, settled=True)
LOADS = Observed(kind="Deployment", name="llama", wanted=2, replicas=2, ready=0, settled=False)
KEDA = {"keda": {"prometheusAddress": "http://prometheus:9090"}}
GATEWAY = {"gateway": {"name": "inference", "hostnames": ["llama.example.com"]}}
POOL = {"inferencePool": {"endpointPicker": {"name": "epp"}}}


def _told(
    spec: dict[str, Any],
    found: Found | None = None,
    absent: dict[Kind, ClusterError] | None = None,
    gateway: dict[str, Any] | None = None,
    observed: Observed | None = RUNS,
    tag: str = "1.3.0rc24",
) -> Features:
    wanted = a_spec(**spec)
    return features(
        name="llama",
        namespace="team-a",
        spec=wanted,
        plan=a_plan(wanted),
        release=find_release(tag),
        live=LiveObjects(found=found or {}, absent=absent or {}, gateway=gateway),
        observed=observed,
    )


def _the(told: Features, condition: ConditionType) -> tuple[str, str, str]:
    (found,) = (finding for finding in told.findings if finding.type == condition)
    return found.status, found.reason, found.message


def _conditions(**conditions: tuple[str, str, str]) -> dict[str, Any]:
    listed = [{"type": t, "status": s, "reason": r, "message": m} for t, (s, r, m) in conditions.items()]
    return {"status": {"conditions": listed}}


def _parents(*parents: dict[str, tuple[str, str, str]]) -> dict[str, Any]:
    return {"status": {"parents": [_conditions(**parent)["status"] for parent in parents]}}


ABLE = ("True", "ReadyForNewScale", "")
NO_METRIC = ("False", "FailedGetPodsMetric", "no metrics returned from custom metrics API")


def test_nothing_is_told_of_what_nobody_asked_for() -> None:
    told = replace(_told({}), findings=tuple(f for f in _told({}).findings if f.type != ConditionType.MODEL_READY))
    assert told == Features(workload=None, findings=(), url="http://llama.team-a.svc:8000/v1", cost=None)


@pytest.mark.parametrize(
    ("scaling", "found", "observed", "status", "reason", "text"),
    [
        pytest.param({}, {}, RUNS, "Unknown", "Creating", "HorizontalPodAutoscaler", id="no-autoscaler-yet"),
        pytest.param({}, {AUTOSCALER: {}}, RUNS, "Unknown", "AutoscalerPending", "not looked", id="no-status-yet"),
        pytest.param(
            {},
            {AUTOSCALER: _conditions(AbleToScale=ABLE, ScalingActive=NO_METRIC)},
            RUNS,
            "False",
            "MetricUnavailable",
            "FailedGetPodsMetric: no metrics returned from custom metrics API; it needs an adapter",
            id="no-adapter",
        ),
        pytest.param(
            {},
            {AUTOSCALER: _conditions(AbleToScale=ABLE, ScalingActive=NO_METRIC)},
            LOADS,
            "Unknown",
            "WaitingForPods",
            "no replica",
            id="nothing-exports-yet",
        ),
        pytest.param(
            {},
            {AUTOSCALER: _conditions(AbleToScale=("False", "FailedGetScale", "not found"))},
            RUNS,
            "False",
            "AutoscalerFailing",
            "FailedGetScale: not found",
            id="no-target",
        ),
        pytest.param(
            {},
            {AUTOSCALER: _conditions(AbleToScale=ABLE, ScalingActive=("True", "ValidMetricFound", ""))},
            RUNS,
            "True",
            "ScalingActive",
            "follows the load",
            id="works",
        ),
        pytest.param(
            {},
            {
                AUTOSCALER: _conditions(
                    ScalingActive=("True", "ValidMetricFound", ""), ScalingLimited=("True", "TooManyReplicas", "")
                )
            },
            RUNS,
            "True",
            "ScalingActive",
            "more than spec.scaling.maxReplicas",
            id="at-its-limit",
        ),
        pytest.param(KEDA, {SCALED_OBJECT: {}}, RUNS, "Unknown", "AutoscalerPending", "KEDA", id="keda-not-yet"),
        pytest.param(
            KEDA,
            {SCALED_OBJECT: _conditions(Ready=("False", "ScaledObjectCheckFailed", "no such host"))},
            RUNS,
            "False",
            "AutoscalerFailing",
            "no such host",
            id="keda-fails",
        ),
        pytest.param(
            KEDA,
            {SCALED_OBJECT: _conditions(Ready=("True", "ScaledObjectReady", ""))},
            RUNS,
            "True",
            "ScalingActive",
            "KEDA",
            id="keda-works",
        ),
        pytest.param(
            {**KEDA, "minReplicas": 0},
            {SCALED_OBJECT: _conditions(Ready=("True", "ScaledObjectReady", ""))},
            RUNS,
            "False",
            "NoWakeSignal",
            "spec.scaling.minReplicas is 0",
            id="nothing-wakes-it",
        ),
    ],
)
def test_scaling(
    scaling: dict[str, Any], found: Found, observed: Observed, status: str, reason: str, text: str
) -> None:
    told = _told({"scaling": {"maxReplicas": 4, **scaling}}, found, observed=observed)
    assert _the(told, ConditionType.SCALING_READY)[:2] == (status, reason)
    assert text in _the(told, ConditionType.SCALING_READY)[2]


def test_a_release_without_the_metric_is_named_with_what_to_change() -> None:
    told = _told({"scaling": {"minReplicas": 2, "maxReplicas": 4}}, tag="1.3.0rc0")
    status, reason, message = _the(told, ConditionType.SCALING_READY)
    assert (status, reason) == ("False", "MetricNotExported")
    for text in ("1.3.0rc0", "QueueDepth", "at least 2", "spec.engine.image.tag"):
        assert text in message


ACCEPTED = {"Accepted": ("True", "Accepted", ""), "ResolvedRefs": ("True", "ResolvedRefs", "")}
REFUSED = {"Accepted": ("False", "NotAllowedByListeners", "no listener admits this namespace")}
UNRESOLVED = {**ACCEPTED, "ResolvedRefs": ("False", "BackendNotFound", "no Service")}


@pytest.mark.parametrize(
    ("expose", "found", "status", "reason", "text"),
    [
        pytest.param(GATEWAY, {}, "Unknown", "Creating", "HTTPRoute", id="no-route-yet"),
        pytest.param(
            GATEWAY,
            {HTTP_ROUTE: {}},
            "Unknown",
            "RoutePending",
            "Gateway inference in this namespace",
            id="nobody-looked",
        ),
        pytest.param(
            GATEWAY, {HTTP_ROUTE: _parents(REFUSED)}, "False", "RouteRefused", "NotAllowedByListeners", id="refused"
        ),
        pytest.param(
            GATEWAY,
            {HTTP_ROUTE: _parents(ACCEPTED, REFUSED)},
            "False",
            "RouteRefused",
            "NotAllowed",
            id="one-of-two-refuses",
        ),
        pytest.param(
            GATEWAY, {HTTP_ROUTE: _parents(UNRESOLVED)}, "False", "RouteRefused", "BackendNotFound", id="no-backend"
        ),
        pytest.param(GATEWAY, {HTTP_ROUTE: _parents(ACCEPTED)}, "True", "Exposed", "accepted", id="accepted"),
        pytest.param(
            {**GATEWAY, **POOL},
            {HTTP_ROUTE: _parents(ACCEPTED), INFERENCE_POOL: _parents(REFUSED)},
            "False",
            "RouteRefused",
            "InferencePool",
            id="pool-refused",
        ),
        pytest.param(
            {"ingress": {"host": "a.example.com"}},
            {INGRESS: {"status": {"loadBalancer": {}}}},
            "Unknown",
            "AddressPending",
            "className",
            id="ingress-without-address",
        ),
        pytest.param(
            {"ingress": {"host": "a.example.com"}},
            {INGRESS: {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}},
            "True",
            "Exposed",
            "192.0.2.1",
            id="ingress",
        ),
        pytest.param(
            {"service": {"type": "LoadBalancer"}},
            {SERVICE: {}},
            "Unknown",
            "AddressPending",
            "Service",
            id="no-balancer",
        ),
    ],
)
def test_exposure(expose: dict[str, Any], found: Found, status: str, reason: str, text: str) -> None:
    told = _the(_told({"expose": expose}, found), ConditionType.EXPOSURE_READY)
    assert told[:2] == (status, reason)
    assert text in told[2]


def _gateway(*listeners: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"listeners": list(listeners)}, "status": {"addresses": [{"value": "2001:db8::1"}]}}


HTTP = {"name": "http", "protocol": "HTTP", "port": 80}
HTTPS = {"name": "https", "protocol": "HTTPS", "port": 8443}


@pytest.mark.parametrize(
    ("expose", "found", "gateway", "url"),
    [
        pytest.param({"service": {"port": 80}}, {}, None, "http://llama.team-a.svc/v1", id="port-80"),
        pytest.param({"service": {"type": "NodePort"}}, {}, None, "http://llama.team-a.svc:8000/v1", id="node-port"),
        pytest.param(
            {"service": {"type": "LoadBalancer"}},
            {SERVICE: {}},
            None,
            "http://llama.team-a.svc:8000/v1",
            id="no-address",
        ),
        pytest.param(
            {"service": {"type": "LoadBalancer"}},
            {SERVICE: {"status": {"loadBalancer": {"ingress": [{"ip": "2001:db8::1"}]}}}},
            None,
            "http://[2001:db8::1]:8000/v1",
            id="balancer",
        ),
        pytest.param({"ingress": {"host": "a.example.com"}}, {}, None, "http://a.example.com/v1", id="ingress"),
        pytest.param(
            {"ingress": {"host": "a.example.com", "tlsSecretName": "tls"}},
            {},
            None,
            "https://a.example.com/v1",
            id="tls",
        ),
        pytest.param(
            {"ingress": {"host": "*.example.com"}}, {}, None, "http://llama.team-a.svc:8000/v1", id="wildcard"
        ),
        pytest.param(GATEWAY, {}, None, "http://llama.team-a.svc:8000/v1", id="gateway-out-of-sight"),
        pytest.param(GATEWAY, {}, _gateway(HTTP), "http://llama.example.com/v1", id="gateway"),
        pytest.param(GATEWAY, {}, _gateway(HTTP, HTTPS), "https://llama.example.com:8443/v1", id="gateway-with-tls"),
        pytest.param(
            GATEWAY,
            {},
            _gateway({**HTTPS, "hostname": "*.other.com"}, HTTP),
            "http://llama.example.com/v1",
            id="fitting",
        ),
        pytest.param(
            GATEWAY,
            {},
            _gateway({**HTTPS, "hostname": "*.example.com"}),
            "https://llama.example.com:8443/v1",
            id="wild",
        ),
        pytest.param(
            GATEWAY, {}, _gateway({**HTTP, "protocol": "TCP"}), "http://llama.team-a.svc:8000/v1", id="no-listener"
        ),
        pytest.param(
            {"gateway": {"name": "g"}}, {}, _gateway({**HTTP, "hostname": "b.com"}), "http://b.com/v1", id="listener-s"
        ),
        pytest.param({"gateway": {"name": "g"}}, {}, _gateway(HTTP), "http://[2001:db8::1]/v1", id="address"),
    ],
)
def test_the_url_follows_the_exposure(
    expose: dict[str, Any], found: Found, gateway: dict[str, Any] | None, url: str
) -> None:
    assert _told({"expose": expose}, found, gateway=gateway).url == url


@pytest.mark.parametrize(
    ("spec", "kind", "condition"),
    [
        pytest.param({"scaling": {"maxReplicas": 2, **KEDA}}, SCALED_OBJECT, "ScalingReady", id="keda"),
        pytest.param({"expose": GATEWAY}, HTTP_ROUTE, "ExposureReady", id="route"),
        pytest.param({"expose": POOL}, INFERENCE_POOL, "ExposureReady", id="pool"),
        pytest.param({"monitoring": {"podMonitor": True}}, POD_MONITOR, "MonitoringReady", id="monitor"),
    ],
)
def test_a_missing_api_is_told_by_the_field_that_waits_for_it(
    spec: dict[str, Any], kind: Kind, condition: ConditionType
) -> None:
    gone = _told(spec, absent={kind: NotFound("404", status=404)})
    assert _the(gone, condition) == ("False", "APIMissing", missing(kind))
    for text in ("spec.", f"{kind.plural}.{kind.group}", kind.api_version, "https://"):
        assert text in missing(kind)
    barred = _told(spec, absent={kind: Forbidden("list: 403", status=403)})
    assert _the(barred, condition)[:2] == ("False", "Forbidden")
    unasked = _told({}, absent={kind: NotFound("404", status=404)})
    assert {finding.type for finding in unasked.findings} == {ConditionType.MODEL_READY}


def test_replicas_of_several_nodes_wait_for_what_runs_them() -> None:
    spec = a_spec()
    waits = features(
        name="llama",
        namespace="team-a",
        spec=spec,
        plan=replace(a_plan(spec), nodes=2),
        release=find_release("1.3.0rc24"),
        live=LiveObjects(found={}, absent={LEADER_WORKER_SET: NotFound("404", status=404)}),
        observed=None,
    )
    after = _status(Outcome(verdict=a_plan(), features=waits))
    told = {condition.type: (condition.status, condition.reason) for condition in after.conditions}
    assert told["Ready"] == told["WorkloadReady"] == ("False", "APIMissing")
    assert told["Stalled"] == ("True", "APIMissing")


def test_every_optional_kind_says_where_to_get_it() -> None:
    optional = {kind.kind for kind in KINDS if kind.optional}
    assert optional <= set(optional_apis())


@pytest.mark.parametrize(
    ("spec", "status", "reason", "text"),
    [
        pytest.param({"replicas": 3}, "True", "Guarded", "at least 2", id="guarded"),
        pytest.param({"replicas": 2}, "False", "DrainsBlocked", "minAvailable is 2 and 2 replicas", id="blocked"),
        pytest.param({}, "False", "NothingToSpare", "wanted at any load: 1", id="one"),
        pytest.param(
            {"scaling": {"maxReplicas": 4}}, "False", "NothingToSpare", "two replicas or more", id="scaled-from-one"
        ),
    ],
)
def test_disruption(spec: dict[str, Any], status: str, reason: str, text: str) -> None:
    told = _the(_told({"disruption": {"minAvailable": 2}, **spec}), ConditionType.DISRUPTION_READY)
    assert told[:2] == (status, reason)
    assert text in told[2]


@pytest.mark.parametrize(
    ("price", "observed", "per_hour"),
    [
        pytest.param("2.50", RUNS, "20.00", id="two-replicas-of-four-gpus"),
        pytest.param("2", RUNS, "16.00", id="whole-number"),
        pytest.param("0.001", RUNS, "0.008", id="fine"),
        pytest.param("2.50", None, "10.00", id="nothing-runs-yet"),
    ],
)
def test_the_price_is_that_of_all_wanted_replicas(price: str, observed: Observed | None, per_hour: str) -> None:
    told = _told({"gpus": {"count": 4}, "cost": {"perGpuHour": price, "currency": "EUR"}}, observed=observed)
    assert told.cost == CostStatus(per_hour=per_hour, currency="EUR")


def _status(outcome: Outcome, before: LLMDeploymentStatus | None = None) -> LLMDeploymentStatus:
    return status(before or LLMDeploymentStatus(), "llama", 1, outcome, datetime(2026, 1, 1, tzinfo=UTC))


def test_what_waits_does_not_keep_the_model_from_being_ready_but_is_told() -> None:
    gone = _told({"expose": GATEWAY}, absent={HTTP_ROUTE: NotFound("404", status=404)})
    after = _status(Outcome(verdict=a_plan(), observed=RUNS, features=gone))
    told = {condition.type: condition for condition in after.conditions}
    assert (told["Ready"].status, told["ExposureReady"].status) == ("True", "False")
    assert told["Ready"].message == "2/2 replicas ready; ExposureReady is False (APIMissing)"


def test_a_pass_that_came_to_no_plan_leaves_what_was_told() -> None:
    known = _told({"expose": GATEWAY, "cost": {"perGpuHour": "1"}}, {HTTP_ROUTE: {}})
    before = _status(Outcome(verdict=a_plan(), observed=RUNS, features=known))
    after = _status(Outcome(observed=RUNS, error=NotFound("x", status=404)), before)
    assert (after.url, after.cost) == (before.url, before.cost)
    assert [c.reason for c in after.conditions if c.type == "ExposureReady"] == ["RoutePending"]


def test_an_unknown_feature_is_no_event_and_a_failed_one_is_a_warning() -> None:
    asked = {"expose": GATEWAY}
    steps = [
        _told(asked, {HTTP_ROUTE: {}}),
        _told(asked, {HTTP_ROUTE: _parents(REFUSED)}),
        _told(asked, {HTTP_ROUTE: _parents(ACCEPTED)}),
        _told({}),
    ]
    events, before = [], _status(Outcome(verdict=a_plan(), observed=RUNS))
    for step in steps:
        after = _status(Outcome(verdict=a_plan(), observed=RUNS, features=step), before)
        events += [(event.type, event.reason) for event in transitions(before, after)]
        before = after
    assert events == [("Warning", "RouteRefused"), ("Normal", "Exposed")]
    assert "ExposureReady" not in {condition.type for condition in before.conditions}
