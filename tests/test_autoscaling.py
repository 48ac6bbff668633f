"""Replicas by the load: which object, which metric, how fast."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from builders import a_plan, a_spec
from trtllm_operator.api_scaling import Behavior, Scaling
from trtllm_operator.autoscaling import behavior, metric_name, scaled_object, unscaled_floor
from trtllm_operator.engine_versions import find_release
from trtllm_operator.planned import Plan
from trtllm_operator.render import Manifest, Owner, render
from trtllm_operator.settings import Settings

KEDA = {"keda": {"prometheusAddress": "http://prometheus:9090"}}


def _scaler(kind: str, plan: Plan | None = None, **scaling: Any) -> Manifest:
    spec = a_spec(scaling={"maxReplicas": 4, **scaling})
    manifests = render(Owner(name="llama", namespace="team-a"), spec, plan or a_plan(spec), Settings())
    (found,) = (
        manifest["spec"] for manifest in manifests if manifest["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")
    )
    assert {manifest["kind"] for manifest in manifests} >= {kind}
    return dict(found)


@pytest.mark.parametrize(
    ("metric", "query"),
    [
        pytest.param("QueueDepth", "sum(trtllm_num_requests_waiting{SERIES})", id="queue"),
        pytest.param("KvCacheUtilization", "sum(trtllm_kv_cache_utilization{SERIES})", id="kv-cache"),
        pytest.param(
            "TimeToFirstToken",
            "sum(rate(trtllm_time_to_first_token_seconds_sum{SERIES}[2m]))"
            " / (sum(rate(trtllm_time_to_first_token_seconds_count{SERIES}[2m])) > 0)",
            id="latency",
        ),
    ],
)
def test_the_query_of_a_metric(metric: str, query: str) -> None:
    (trigger,) = _scaler("ScaledObject", metric=metric, target="1", **KEDA)["triggers"]
    series = 'namespace="team-a",pod=~"llama-[a-z0-9]{1,10}-[a-z0-9]{5}"'
    assert trigger["metadata"]["query"] == query.replace("SERIES", series)


@pytest.mark.parametrize(
    ("metric", "metric_type", "ignores"),
    [
        pytest.param("RunningRequests", "AverageValue", "false", id="no-data-of-a-gauge-is-an-error"),
        pytest.param("TimeToFirstToken", "Value", "true", id="no-data-of-a-mean-is-no-load"),
    ],
)
def test_how_an_answer_is_read(metric: str, metric_type: str, ignores: str) -> None:
    (trigger,) = _scaler("ScaledObject", metric=metric, **KEDA)["triggers"]
    assert (trigger["metricType"], trigger["metadata"]["ignoreNullValues"]) == (metric_type, ignores)


@pytest.mark.parametrize(
    ("target", "threshold"),
    [
        pytest.param("500m", "0.5", id="milli"),
        pytest.param("8", "8", id="integer"),
        pytest.param("0.8", "0.8", id="fraction"),
    ],
)
def test_keda_is_told_a_number(target: str, threshold: str) -> None:
    (trigger,) = _scaler("ScaledObject", target=target, **KEDA)["triggers"]
    assert trigger["metadata"]["threshold"] == threshold


def _pods(nodes: int) -> re.Pattern[str]:
    spec = a_spec(scaling={"maxReplicas": 4, **KEDA})
    plan = replace(a_plan(spec), nodes=nodes)
    context = scaled_object("llama", "team-a", spec, plan, find_release("1.3.0rc24"), Settings())
    assert context is not None
    (pattern,) = re.findall(r'pod=~"([^"]*)"', context.query)
    return re.compile(pattern)


@pytest.mark.parametrize(
    ("nodes", "pod", "ours"),
    [
        pytest.param(1, "llama-7d9c5b8f4b-x2x4z", True, id="pod-of-a-deployment"),
        pytest.param(1, "llama-7b-7d9c5b8f4b-x2x4z", False, id="longer-name"),
        pytest.param(1, "llama-7b-0", False, id="group-of-a-longer-name"),
        pytest.param(2, "llama-0", True, id="leader"),
        pytest.param(2, "llama-0-1", False, id="worker"),
        pytest.param(2, "llama-7b-0", False, id="leader-of-a-longer-name"),
    ],
)
def test_only_our_pods_count(nodes: int, pod: str, ours: bool) -> None:
    assert (_pods(nodes).fullmatch(pod) is not None) == ours


def test_several_nodes_scale_by_groups() -> None:
    spec = a_spec(scaling={"maxReplicas": 4, **KEDA})
    context = scaled_object(
        "llama", "team-a", spec, replace(a_plan(spec), nodes=2), find_release("1.3.0rc24"), Settings()
    )
    assert context is not None
    assert (context.target_api_version, context.target_kind) == ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet")


def test_keda_waits_for_the_first_load_before_it_removes_the_last_replica() -> None:
    found = _scaler("ScaledObject", minReplicas=0, **KEDA)
    assert (found["minReplicaCount"], found["cooldownPeriod"]) == (0, 300)
    assert found["initialCooldownPeriod"] > Settings().minimum_startup_seconds


@pytest.mark.parametrize(
    ("load", "period", "window"),
    [
        pytest.param(10, 60, 600, id="small"),
        pytest.param(700, 700, 1400, id="minutes"),
        pytest.param(7200, 1800, 3600, id="hours-are-cut-to-what-is-allowed"),
    ],
)
def test_the_default_speed_follows_the_time_to_load(load: int, period: int, window: int) -> None:
    told = behavior(None, load)
    assert {policy["periodSeconds"] for policy in told["scaleUp"]["policies"]} == {period}
    assert told["scaleDown"]["stabilizationWindowSeconds"] == window


def test_what_the_user_says_of_the_speed_wins_and_the_rest_stays() -> None:
    wanted = Behavior.model_validate({"scaleDown": {"stabilizationWindowSeconds": 0}})
    plain, told = behavior(None, 100), behavior(wanted, 100)
    assert told["scaleUp"] == plain["scaleUp"]
    assert told["scaleDown"] == {**plain["scaleDown"], "stabilizationWindowSeconds": 0}


@pytest.mark.parametrize(
    ("scaling", "tag", "name"),
    [
        pytest.param({}, "1.3.0rc24", "trtllm_num_requests_waiting", id="exported"),
        pytest.param({}, "1.3.0rc0", None, id="not-exported"),
        pytest.param({"metric": "TimeToFirstToken"}, "1.3.0rc24", None, id="histogram-without-keda"),
        pytest.param(
            {"metric": "TimeToFirstToken", **KEDA}, "1.3.0rc24", "trtllm_time_to_first_token_seconds", id="histogram"
        ),
    ],
)
def test_a_metric_that_can_be_read(scaling: dict[str, Any], tag: str, name: str | None) -> None:
    wanted = Scaling.model_validate({"maxReplicas": 2, **scaling})
    assert metric_name(wanted, find_release(tag)) == name


@pytest.mark.parametrize(
    ("scaling", "applied", "floor"),
    [
        pytest.param(None, {"Deployment"}, None, id="fixed"),
        pytest.param({"minReplicas": 3}, {"Deployment", "HorizontalPodAutoscaler"}, None, id="autoscaler"),
        pytest.param({"minReplicas": 3}, {"Deployment", "ScaledObject"}, None, id="keda"),
        pytest.param({"minReplicas": 3}, {"Deployment"}, 3, id="nobody"),
        pytest.param({"minReplicas": 0, **KEDA}, {"Deployment"}, 1, id="nobody-wakes-it"),
    ],
)
def test_replicas_are_held_where_nobody_sets_them(
    scaling: dict[str, Any] | None, applied: set[str], floor: int | None
) -> None:
    wanted = scaling and Scaling.model_validate({"maxReplicas": 4, **scaling})
    assert unscaled_floor(wanted or None, frozenset(applied)) == floor
