"""Bad input, strangers, and pods that do not come up: the operator goes on, and so does what heals.

What is said of each failure is in test_failure_stories.
"""

from __future__ import annotations

from typing import Any

import pytest

from control_plane import Namespace, an_llm_deployment, config_map_name, wait_until

pytestmark = pytest.mark.component


def test_what_cannot_be_planned_makes_nothing_and_leaves_others_alone(namespace: Namespace) -> None:
    namespace.deploy(model={"uri": "hf://acme/secret"})
    namespace.until_reason("ModelSizeUnknown")
    assert namespace.condition("Planned")["reason"] == "ModelSizeUnknown"
    assert namespace.condition("Stalled")["status"] == "True"
    assert not namespace.list("deployments")
    namespace.deploy("good")
    namespace.ready("good")


STRANGERS = [
    {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"name": "llama"},
        "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}},
    },
    {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": config_map_name()}, "data": {"mine": "1"}},
    {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": "llama"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "x", "image": "x"}]}},
        },
    },
]


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda stranger: str(stranger["kind"]))
def test_a_stranger_s_object_is_left_alone(namespace: Namespace, stranger: dict[str, Any]) -> None:
    namespace.apply(stranger)
    kind, name = stranger["kind"].lower(), stranger["metadata"]["name"]
    before = namespace.get(kind, name)
    namespace.deploy()
    condition = namespace.until_reason("NameConflict")
    assert f"{stranger['kind']} {namespace.name}/{name}" in condition["message"]
    assert namespace.condition("Stalled")["status"] == "True"
    after = namespace.get(kind, name)
    for part in ("spec", "data"):
        assert after.get(part) == before.get(part)
    metadata = after["metadata"]
    assert "ownerReferences" not in metadata
    assert metadata.get("labels") == before["metadata"].get("labels")
    assert not [key for key in metadata.get("annotations", {}) if key.startswith("trtllm.dev/")]
    assert "trtllm-operator" not in [entry["manager"] for entry in metadata["managedFields"]]
    namespace.kubectl("delete", kind, name)
    namespace.ready()


def test_a_stranger_that_comes_while_the_child_is_away_is_left_alone(namespace: Namespace) -> None:
    namespace.deploy()
    namespace.ready()
    namespace.cluster.sandbox.pause("operator")
    try:
        namespace.kubectl("delete", "service", "llama")
        namespace.apply(STRANGERS[0])
    finally:
        namespace.cluster.sandbox.resume("operator")
    namespace.until_reason("NameConflict")
    assert namespace.get("service", "llama")["spec"]["selector"] == {"a": "b"}


def test_a_predecessor_s_children_are_waited_for(namespace: Namespace) -> None:
    namespace.deploy()
    namespace.ready()
    before = namespace.get("deployment", "llama")["metadata"]["uid"]
    sandbox = namespace.cluster.sandbox
    sandbox.stop_component("kube-controller-manager")
    try:
        namespace.kubectl("delete", "llmd", "llama")
        namespace.deploy()
        namespace.until_reason("Leftover")
        assert namespace.condition("Reconciling")["status"] == "True"
    finally:
        sandbox.start_component("kube-controller-manager")
    wait_until(
        lambda: (namespace.find("deployment", "llama") or {}).get("metadata", {}).get("uid") not in (None, before), 60
    )
    namespace.ready()


@pytest.mark.parametrize(
    ("fault", "reason", "text"),
    [
        ("crash-loop", "CrashLoop", "exited with code 1"),
        ("oom-killed", "OutOfMemory", "exit code 137"),
        ("image-pull", "ImageNotFound", "spec.engine.image"),
        ("never-ready", "WaitingForPods", "0/1 replicas ready"),
    ],
)
def test_pods_that_do_not_come_up(namespace: Namespace, fault: str, reason: str, text: str) -> None:
    namespace.deploy(podMetadata={"annotations": {"sandbox.trtllm.dev/fault": fault}})
    condition = namespace.until_reason(reason)
    assert text in condition["message"]
    assert namespace.condition("Reconciling")["status"] == "True"
    namespace.deploy()
    namespace.until_reason("Ready")


def test_no_room_is_told_in_the_scheduler_s_words(namespace: Namespace) -> None:
    namespace.deploy(gpus={"count": 8}, replicas=3)
    condition = namespace.until_reason("Unschedulable")
    assert "Insufficient nvidia.com/gpu" in condition["message"]
    assert "/3 replicas ready" in condition["message"]


def test_a_raised_quota_lets_the_pods_in(namespace: Namespace) -> None:
    namespace.kubectl("create", "quota", "gpus", "--hard=requests.nvidia.com/gpu=1")
    namespace.deploy(gpus={"count": 2})
    condition = namespace.until_reason("QuotaExceeded")
    assert "requests.nvidia.com/gpu=2" in condition["message"]
    namespace.kubectl("delete", "quota", "gpus")
    namespace.kubectl("wait", "--for=condition=Ready", "llmd/llama", "--timeout=80s")


def test_pods_pass_the_baseline_level(namespace: Namespace) -> None:
    namespace.cluster.kubectl("label", "namespace", namespace.name, "pod-security.kubernetes.io/enforce=baseline")
    namespace.deploy()
    namespace.ready()


def test_a_forged_status_is_repaired_and_foreign_conditions_stay(namespace: Namespace) -> None:
    namespace.deploy(model={"uri": "hf://acme/secret"})
    namespace.until_reason("ModelSizeUnknown")
    forged = {"type": "Ready", "status": "True", "reason": "Forged", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    foreign = {**forged, "type": "Audited", "reason": "Checked"}
    status = {**an_llm_deployment(), "status": {"conditions": [forged, foreign]}}
    arguments = [
        "--server-side",
        "--force-conflicts",
        "--subresource=status",
        "--field-manager=mallory",
        "--filename=-",
    ]
    namespace.kubectl("apply", *arguments, stdin=status)
    namespace.until_reason("ModelSizeUnknown")
    assert namespace.condition("Audited")["reason"] == "Checked"


def test_a_namespace_with_models_goes_away(namespace: Namespace) -> None:
    for number in range(3):
        namespace.deploy(f"llama-{number}")
    namespace.ready("llama-0")
    namespace.cluster.kubectl("delete", "namespace", namespace.name, "--timeout=60s")
    namespace.cluster.kubectl("create", "namespace", namespace.name)
    wait_until(lambda: "default" in namespace.kubectl("get", "serviceaccounts"))
    namespace.deploy("llama-0")
    namespace.ready("llama-0")
