"""The control plane is a real one: scheduling, admission, RBAC, quota, garbage collection."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trtllm_operator.sandbox import Sandbox, SandboxError

pytestmark = pytest.mark.component

Wait = Callable[[Callable[[], Any], float], Any]


def pod(name: str, namespace: str, *, gpus: int = 0, **annotations: str) -> dict[str, Any]:
    limits = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": {f"sandbox.trtllm.dev/{key.replace('_', '-')}": value for key, value in annotations.items()},
        },
        "spec": {
            "containers": [
                {
                    "name": "main",
                    "image": "example.com/image:1",
                    "resources": {"limits": limits, "requests": limits},
                    "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}},
                }
            ]
        },
    }


def is_ready(found: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in found["status"].get("conditions", []))


def test_nodes_are_ready_with_gpus(kubectl: Any) -> None:
    nodes = kubectl.get("nodes")["items"]
    assert [node["metadata"]["name"] for node in nodes] == ["gpu-h100-80gb-hbm3-0", "gpu-h100-80gb-hbm3-1"]
    for node in nodes:
        assert is_ready(node)
        assert node["status"]["allocatable"]["nvidia.com/gpu"] == "8"
        assert node["metadata"]["labels"]["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"
        assert "taints" not in node["spec"]


def test_gpu_pods_are_scheduled_while_gpus_last(kubectl: Any, namespace: str, wait: Wait) -> None:
    kubectl.apply(*(pod(f"p{i}", namespace, gpus=8) for i in range(3)))

    def settled() -> bool:
        pods = kubectl.get("pods", f"--namespace={namespace}")["items"]
        return sum(is_ready(found) for found in pods) == 2

    wait(settled, 20)
    (pending,) = [p for p in kubectl.get("pods", f"--namespace={namespace}")["items"] if not is_ready(p)]
    condition = pending["status"]["conditions"][0]
    assert (condition["type"], condition["reason"]) == ("PodScheduled", "Unschedulable")
    assert "2 Insufficient nvidia.com/gpu" in condition["message"]


def test_rbac_is_enforced_for_a_service_account(sandbox: Sandbox, kubectl: Any, namespace: str, tmp_path: Path) -> None:
    kubectl("create", "serviceaccount", "reader", f"--namespace={namespace}")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(sandbox.service_account_kubeconfig(namespace, "reader"))
    reader = type(kubectl)(sandbox, kubeconfig)
    assert "forbidden" in reader("get", "pods", f"--namespace={namespace}", code=1)
    kubectl("create", "role", "read", "--verb=list,get", "--resource=pods", f"--namespace={namespace}")
    kubectl("create", "rolebinding", "read", "--role=read", f"--serviceaccount={namespace}:reader", f"-n{namespace}")
    assert reader.get("pods", f"--namespace={namespace}")["items"] == []
    assert "forbidden" in reader("get", "nodes", code=1)


def test_unknown_service_account_is_one_clear_error(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match=r'404: serviceaccounts "nobody" not found'):
        sandbox.service_account_kubeconfig("default", "nobody")


def test_pod_security_refuses_a_privileged_pod(kubectl: Any, namespace: str) -> None:
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    privileged = pod("privileged", namespace)
    privileged["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    refusal = kubectl("create", "--filename=-", stdin=privileged, code=1)
    assert 'violates PodSecurity "restricted:latest": privileged' in refusal


def test_resource_quota_on_gpus_is_enforced(kubectl: Any, namespace: str, wait: Wait) -> None:
    kubectl("create", "quota", "gpus", "--hard=requests.nvidia.com/gpu=4", f"--namespace={namespace}")
    wait(lambda: kubectl.get("quota", "gpus", f"--namespace={namespace}")["status"].get("used"), 20)
    kubectl("create", "--filename=-", stdin=pod("first", namespace, gpus=4))
    refusal = kubectl("create", "--filename=-", stdin=pod("second", namespace, gpus=1), code=1)
    assert "exceeded quota: gpus, requested: requests.nvidia.com/gpu=1" in refusal


def test_garbage_collection_deletes_the_child_of_a_deleted_owner(kubectl: Any, namespace: str, wait: Wait) -> None:
    kubectl("create", "configmap", "owner", f"--namespace={namespace}")
    uid = kubectl.get("configmap", "owner", f"--namespace={namespace}")["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    metadata = {"name": "child", "namespace": namespace, "ownerReferences": [owner]}
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    kubectl("delete", "configmap", "owner", f"--namespace={namespace}")
    wait(lambda: "child" not in kubectl("get", "configmaps", f"--namespace={namespace}"), 30)


def test_validating_admission_policy_refuses(kubectl: Any, namespace: str, wait: Wait) -> None:
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]
    kind = {"apiVersion": "admissionregistration.k8s.io/v1"}
    kubectl.apply(
        {
            **kind,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "no-bad"},
            "spec": {
                "matchConstraints": {"resourceRules": rules},
                "validations": [{"expression": "!object.metadata.name.startsWith('bad')", "message": "no bad"}],
            },
        },
        {
            **kind,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "no-bad"},
            "spec": {"policyName": "no-bad", "validationActions": ["Deny"]},
        },
    )
    create = ("create", "configmap", f"--namespace={namespace}", "--dry-run=server")

    def refused() -> bool:
        try:
            return "no bad" in kubectl(*create, "bad", code=1)
        except AssertionError:  # the policy takes effect a moment after it was created
            return False

    wait(refused, 20)


def test_audit_log_names_who_did_what(sandbox: Sandbox, kubectl: Any, namespace: str) -> None:
    kubectl("create", "configmap", "seen", f"--namespace={namespace}")
    records = [json.loads(line) for line in sandbox.audit_log.read_text().splitlines()]
    (record,) = [
        r
        for r in records
        if r["verb"] == "create"
        and r.get("objectRef", {}).get("resource") == "configmaps"
        and r["objectRef"].get("name") == "seen"
    ]
    assert record["user"]["username"] == "sandbox-admin"
    assert record["level"] == "Metadata"
    assert {r["stage"] for r in records} & {"RequestReceived"} == set()


def test_stopped_component_is_really_gone_and_comes_back(
    sandbox: Sandbox, kubectl: Any, namespace: str, wait: Wait
) -> None:
    sandbox.stop_component("kube-scheduler")
    states = {component.name: component.state for component in sandbox.status()}
    assert states["kube-scheduler"] == "stopped"
    kubectl.apply(pod("waits", namespace, gpus=1))
    found = kubectl.get("pod", "waits", f"--namespace={namespace}")
    assert "nodeName" not in found["spec"]
    sandbox.start_component("kube-scheduler")
    wait(lambda: is_ready(kubectl.get("pod", "waits", f"--namespace={namespace}")), 30)


def test_paused_component_does_not_answer_until_resumed(sandbox: Sandbox, kubectl: Any, wait: Wait) -> None:
    sandbox.pause("kube-apiserver")
    try:
        kubectl("get", "nodes", "--request-timeout=1s", code=1)
        (state,) = [c.state for c in sandbox.status() if c.name == "kube-apiserver"]
        assert state == "paused"
    finally:
        sandbox.resume("kube-apiserver")
    wait(lambda: all(component.healthy for component in sandbox.status()), 20)
    kubectl("get", "nodes")


def test_unknown_component_is_one_clear_error(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match="no component 'kubelet'; there are: etcd, kube-apiserver"):
        sandbox.stop_component("kubelet")
