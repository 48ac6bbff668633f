"""What the operator does when there is nothing to do, and what it may do at all: read from the audit log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from control_plane import Cluster, Manifest, Namespace, wait_until
from support import specs
from trtllm_operator.kinds import KINDS, LLM_DEPLOYMENT, POD

pytestmark = pytest.mark.component

OPERATOR = "system:serviceaccount:trtllm-operator-system:trtllm-operator"
STILL_SECONDS = 30
WRITES = ("create", "update", "patch", "delete", "deletecollection")


def _requests(cluster: Cluster) -> list[dict[str, Any]]:
    return [entry for entry in cluster.audit() if entry["user"]["username"] == OPERATOR]


def _writes(cluster: Cluster) -> list[dict[str, Any]]:
    return [entry for entry in _requests(cluster) if entry["verb"] in WRITES]


def _writes_in(namespace: Namespace) -> list[str]:
    """What the operator wrote in this namespace; those of earlier tests may still be on their way out."""
    return [
        f"{entry['verb']} {entry['requestURI']}"
        for entry in _writes(namespace.cluster)
        if entry["objectRef"].get("namespace") == namespace.name
    ]


def _settled(cluster: Cluster) -> None:
    """Wait until the operator has written nothing for two seconds, as the audit log tells it."""
    seen = [-1]

    def quiet() -> bool:
        before, seen[0] = seen[0], len(_requests(cluster))
        return before == seen[0]

    wait_until(_every(20, quiet), seconds=60)


def _every(polls: int, condition: Callable[[], bool]) -> Callable[[], bool]:
    """Hold only when the condition held for that many polls in a row."""
    streak = [0]

    def held() -> bool:
        streak[0] = streak[0] + 1 if condition() else 0
        return streak[0] >= polls

    return held


def _deploy_every_kind(namespace: Namespace) -> None:
    """Ask for every kind of object, with no replicas where that is possible: GPUs are few."""
    for parameter in specs():
        (wanted,) = parameter.values
        spec = wanted["spec"] if "scaling" in wanted["spec"] else {**wanted["spec"], "replicas": 0}
        namespace.deploy(wanted["metadata"]["name"], **{**spec, "disruption": None})


def _looked_at(autoscaler: Manifest) -> bool:
    """Whether its controller, which comes round every 15 s, has told of the load: what it says is for the status."""
    told = autoscaler.get("status", {}).get("conditions", [])
    return any(condition["type"] == "ScalingActive" for condition in told)


def test_a_restart_writes_nothing(cluster: Cluster, namespace: Namespace) -> None:
    for number in range(5):
        namespace.deploy(f"llama-{number}", scaling={"maxReplicas": 2} if number % 2 else None)
    _deploy_every_kind(namespace)
    for number in range(5):
        namespace.ready(f"llama-{number}")
    wait_until(lambda: all(_looked_at(autoscaler) for autoscaler in namespace.list("hpa")), seconds=60)
    _settled(cluster)
    before = _writes_in(namespace)
    cluster.sandbox.stop_component("operator")
    cluster.sandbox.start_component("operator")
    _settled(cluster)
    assert _writes_in(namespace) == before


def test_applying_the_same_object_again_writes_nothing(cluster: Cluster, namespace: Namespace) -> None:
    manifest = namespace.deploy()
    namespace.ready()
    _settled(cluster)
    before = _writes_in(namespace)
    namespace.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=manifest)
    _settled(cluster)
    assert _writes_in(namespace) == before


def test_a_create_costs_a_write_for_each_child_and_its_status_and_events(
    cluster: Cluster, namespace: Namespace
) -> None:
    namespace.deploy()
    namespace.ready()
    _settled(cluster)
    mine = [entry["objectRef"] for entry in _writes(cluster) if entry["objectRef"].get("namespace") == namespace.name]
    children = [ref["resource"] for ref in mine if ref["resource"] not in ("llmdeployments", "events")]
    assert sorted(children) == ["configmaps", "deployments", "services"]
    statuses = [ref for ref in mine if ref["resource"] == "llmdeployments"]
    # One when the children are applied, one when the pod is there, one when it is ready; fewer when they coincide.
    assert 1 <= len(statuses) <= 3
    events = [ref for ref in mine if ref["resource"] == "events"]
    assert len(events) == 1


def test_no_event_is_read_of_pods_that_start(cluster: Cluster, namespace: Namespace) -> None:
    namespace.deploy(replicas=2)
    namespace.ready()
    _settled(cluster)
    about = [(entry["verb"], entry.get("objectRef", {})) for entry in _requests(cluster)]
    mine = [(verb, ref["resource"]) for verb, ref in about if ref.get("namespace") == namespace.name]
    assert ("patch", "deployments") in mine
    assert ("list", "events") not in mine


def test_only_the_status_of_the_user_s_object_is_written(cluster: Cluster) -> None:
    objects = [entry["objectRef"] for entry in _writes(cluster) if entry["objectRef"]["resource"] == "llmdeployments"]
    assert objects
    assert {ref.get("subresource") for ref in objects} == {"status"}


def test_no_request_of_the_operator_was_forbidden(cluster: Cluster) -> None:
    forbidden = [
        entry["requestURI"]
        for entry in _requests(cluster)
        # While a namespace goes away, nothing can be created in it: the server's 403 for that is not a missing right.
        if entry.get("responseStatus", {}).get("code") == 403
        and "because it is being terminated" not in entry["responseStatus"].get("message", "")
    ]
    assert forbidden == []


@pytest.mark.scenario
def test_nothing_changes_for_thirty_seconds(cluster: Cluster, namespace: Namespace) -> None:
    for number in range(3):
        namespace.deploy(f"llama-{number}")
    _deploy_every_kind(namespace)
    namespace.deploy("refused", model={"uri": "hf://acme/secret"})
    for number in range(3):
        namespace.ready(f"llama-{number}")
    namespace.until_reason("ModelSizeUnknown", name="refused")
    wait_until(lambda: all(_has_looked_at_the_load(hpa) for hpa in namespace.list("hpa")), seconds=90)
    _settled(cluster)
    before, deadline = _versions(namespace), time.monotonic() + STILL_SECONDS
    assert len(before) > len(specs())
    while time.monotonic() < deadline:
        assert _versions(namespace) == before


def _has_looked_at_the_load(autoscaler: Manifest) -> bool:
    """Whether the autoscaler's controller has told all it will tell; it takes a look every 15 seconds."""
    conditions = autoscaler["status"].get("conditions", ())
    return any(condition["type"] == "ScalingActive" for condition in conditions)


def _versions(namespace: Namespace) -> dict[tuple[str, str], str]:
    """Return the resourceVersion of every LLMDeployment, of what was made for it, and of its pods."""
    kinds = [kind.plural for kind in (LLM_DEPLOYMENT, *KINDS, POD)]
    return {
        (manifest["kind"], manifest["metadata"]["name"]): manifest["metadata"]["resourceVersion"]
        for manifest in namespace.list(*kinds)
    }
