"""F. Objects, namespaces and the CRD itself go away."""

from __future__ import annotations

import subprocess

from control_plane import Manifest, children, wait_until
from faults.oracles import assert_converged, assert_gone
from faults.stand import Scene, Stand
from scenarios.registry import scenario
from trtllm_operator.crd import crd_yaml
from trtllm_operator.sandbox.addons import wait_established

CHILDREN = children("llama")
SPECS: dict[str, Manifest] = {
    "at-once": {},
    "loading": {"podMetadata": {"annotations": {"sandbox.trtllm.dev/ready-after": "60s"}}},
    "ready": {},
    "failed": {"podMetadata": {"annotations": {"sandbox.trtllm.dev/fault": "crash-loop"}}},
    "refused": {"model": {"uri": "hf://acme/secret"}},
}
REASONS = {"loading": "WaitingForPods", "ready": "Ready", "failed": "CrashLoop", "refused": "ModelSizeUnknown"}


@scenario(
    63,
    "Deleted in every phase",
    injected="deleted just created, loading, ready, failed or refused; in the background or the foreground",
    asserted="nothing is left",
    variants=tuple(f"{phase}-{way}" for phase in SPECS for way in ("background", "foreground")),
    gate=("at-once-background", "ready-foreground"),
)
def deleted_in_every_phase(stand: Stand, variant: str) -> None:
    phase, _, way = variant.rpartition("-")
    with stand.scene(f"delete-{variant}") as scene:
        scene.namespace.deploy(**SPECS[phase])
        if phase in REASONS:
            scene.namespace.until_reason(REASONS[phase])
        scene.namespace.kubectl("delete", "llmd", "llama", f"--cascade={way}", "--timeout=60s")
        assert_gone(scene)


@scenario(
    64,
    "Deleted while the operator is down",
    injected="SIGKILL of the operator, then the object is deleted",
    asserted="gone at once, the children collected; the operator starts to nothing",
    gate=True,
)
def deleted_while_the_operator_is_down(stand: Stand) -> None:
    with stand.scene("down") as scene:
        scene.namespace.deploy(scaling={"maxReplicas": 2})
        scene.namespace.ready()
        scene.operator.end()
        scene.namespace.kubectl("delete", "llmd", "llama", "--timeout=10s")
        assert_gone(scene)
        scene.start()
        assert_gone(scene)


@scenario(
    65,
    "Deleted and made anew at once",
    injected="delete and create of the same name, 15 times without a pause",
    asserted="one set of children, all of the last uid",
    gate=True,
)
def deleted_and_made_anew(stand: Stand) -> None:
    with stand.scene("anew") as scene:
        scene.namespace.deploy()
        for _ in range(15):
            scene.namespace.kubectl("delete", "llmd", "llama", "--wait=false")
            scene.namespace.deploy()
        scene.namespace.kubectl("wait", "--for=condition=Ready", "llmd/llama", "--timeout=85s")
        scene.quiet()
        uid = scene.namespace.get("llmd", "llama")["metadata"]["uid"]
        for kind, name in CHILDREN:
            owners = scene.namespace.get(kind, name)["metadata"]["ownerReferences"]
            assert [owner["uid"] for owner in owners] == [uid]
        made = {(e["objectRef"]["resource"], e["responseStatus"]["code"]) for e in scene.audit_writes()}
        assert ("deployments", 201) in made
        created = {place: _created(scene, place) for place in CHILDREN}
        assert all(1 <= count <= 16 for count in created.values())
        assert_converged(scene, recreated=created)


def _created(scene: Scene, place: tuple[str, str]) -> int:
    plural = f"{place[0].lower()}s"
    return sum(
        entry["objectRef"]["resource"] == plural and entry["responseStatus"]["code"] == 201
        for entry in scene.audit_writes()
    )


@scenario(
    66,
    "The namespace is deleted",
    injected="a namespace with five objects is deleted while the operator works",
    asserted="gone within 60 s, nothing created in it once it terminates",
    gate=True,
)
def the_namespace_is_deleted(stand: Stand) -> None:
    with stand.scene("namespace") as scene:
        for number in range(5):
            scene.namespace.deploy(f"llama-{number}")
        scene.namespace.ready("llama-0")
        stand.cluster.kubectl("delete", "namespace", scene.namespace.name, "--timeout=60s")
        created = [e["objectRef"]["resource"] for e in scene.audit_writes() if _is_late_create(e)]
        assert created == []
        assert "Traceback" not in scene.operator.log
        stand.cluster.kubectl("create", "namespace", scene.namespace.name)


def _is_late_create(entry: Manifest) -> bool:
    """Whether a create was refused for another reason than that the namespace goes away."""
    status = entry["responseStatus"]
    refused = status["code"] == 403
    return refused and "because it is being terminated" not in status.get("message", "")


@scenario(
    67,
    "The namespace is made anew at once",
    injected="a namespace deleted and created again with the same object",
    asserted="the new object is served",
)
def the_namespace_is_made_anew(stand: Stand) -> None:
    with stand.scene("reborn") as scene:
        scene.namespace.deploy()
        scene.namespace.ready()
        stand.cluster.kubectl("delete", "namespace", scene.namespace.name, "--timeout=60s")
        stand.cluster.kubectl("create", "namespace", scene.namespace.name)
        wait_until(lambda: "default" in scene.namespace.kubectl("get", "serviceaccounts"))
        scene.namespace.deploy()
        scene.namespace.ready()
        assert_converged(scene, recreated=dict.fromkeys(CHILDREN, 2))


@scenario(
    68,
    "Nobody collects the garbage",
    injected="the controller manager killed; the object deleted and made anew; the controller manager started",
    asserted="the predecessor's children are neither adopted nor deleted by the operator; served when they are gone",
)
def nobody_collects_the_garbage(stand: Stand) -> None:
    with stand.scene("garbage") as scene:
        scene.namespace.deploy()
        scene.namespace.ready()
        scene.quiet()
        stand.sandbox.stop_component("kube-controller-manager")
        try:
            scene.namespace.kubectl("delete", "llmd", "llama")
            scene.namespace.deploy()
            scene.namespace.until_reason("Leftover")
        finally:
            stand.sandbox.start_component("kube-controller-manager")
        scene.namespace.kubectl("wait", "--for=condition=Ready", "llmd/llama", "--timeout=85s")
        assert_converged(scene, recreated=dict.fromkeys(CHILDREN, 2))


@scenario(
    69,
    "The CRD is deleted",
    injected="the CRD deleted with an object in place, and applied again, while the operator runs",
    asserted="the operator survives it and serves a new object",
)
def the_crd_is_deleted(stand: Stand) -> None:
    with stand.scene("crd") as scene:
        scene.namespace.deploy()
        scene.namespace.ready()
        name = "llmdeployments.trtllm.dev"
        stand.cluster.kubectl("delete", "crd", name, "--timeout=60s")
        try:
            wait_until(lambda: not scene.namespace.list("deployments"), 60)
        finally:
            _apply_text(stand, crd_yaml())
            wait_established(stand.cluster.kubectl, f"crd/{name}")
        scene.namespace.deploy()
        scene.namespace.kubectl("wait", "--for=condition=Ready", "llmd/llama", "--timeout=85s")
        assert "Traceback" not in scene.operator.log


def _apply_text(stand: Stand, text: str) -> None:
    command = [str(stand.sandbox.binary("kubectl")), f"--kubeconfig={stand.sandbox.kubeconfig}"]
    subprocess.run([*command, "apply", "--server-side", "--filename=-"], input=text, text=True, check=True)


@scenario(
    70,
    "A child is held by somebody's finalizer",
    injected="a foreign finalizer on the Service; the object deleted and made anew; the finalizer taken away",
    asserted="the deletion is not held up; the new object waits, then is served",
)
def a_child_is_held(stand: Stand) -> None:
    with stand.scene("finalizer") as scene:
        scene.namespace.deploy()
        scene.namespace.ready()
        scene.namespace.kubectl(
            "patch", "service", "llama", "--type=merge", '--patch={"metadata":{"finalizers":["test/held"]}}'
        )
        scene.namespace.kubectl("delete", "llmd", "llama", "--timeout=20s")
        scene.namespace.deploy()
        scene.namespace.until_reason("Leftover")
        scene.namespace.kubectl("patch", "service", "llama", "--type=merge", '--patch={"metadata":{"finalizers":null}}')
        scene.namespace.kubectl("wait", "--for=condition=Ready", "llmd/llama", "--timeout=85s")
        assert_converged(scene, recreated=dict.fromkeys(CHILDREN, 2))


@scenario(
    71,
    "A quota is exceeded, then raised",
    injected="a ResourceQuota of one GPU for an object of two; the quota deleted",
    asserted="QuotaExceeded with the numbers; healed by itself",
    gate=True,
)
def a_quota_is_exceeded(stand: Stand) -> None:
    with stand.scene("quota") as scene:
        scene.namespace.kubectl("create", "quota", "gpus", "--hard=requests.nvidia.com/gpu=1")
        scene.namespace.deploy(gpus={"count": 2})
        condition = scene.namespace.until_reason("QuotaExceeded")
        assert "requests.nvidia.com/gpu=2" in condition["message"]
        scene.namespace.kubectl("delete", "quota", "gpus")
        scene.namespace.kubectl("wait", "--for=condition=Ready", "llmd/llama", "--timeout=85s")
        assert_converged(scene)


@scenario(
    72,
    "A LimitRange fills requests in",
    injected="a LimitRange with default requests and limits for containers",
    asserted="no fight over the pods' resources",
)
def a_limit_range(stand: Stand) -> None:
    limits = {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "limits"},
        "spec": {
            "limits": [{"type": "Container", "default": {"cpu": "4", "memory": "8Gi"}, "defaultRequest": {"cpu": "1"}}]
        },
    }
    with stand.scene("limits") as scene:
        scene.namespace.apply(limits)
        scene.namespace.deploy()
        scene.namespace.ready()
        assert_converged(scene)


@scenario(
    73,
    "Pod security",
    injected="a namespace that enforces the restricted or the baseline level",
    asserted="baseline: served; restricted: PodSecurity with the API server's words, healed when the level is lowered",
    variants=("baseline", "restricted"),
    gate=("baseline",),
)
def pod_security(stand: Stand, level: str) -> None:
    label = "pod-security.kubernetes.io/enforce"
    with stand.scene(f"pod-security-{level}") as scene:
        stand.cluster.kubectl("label", "namespace", scene.namespace.name, f"{label}={level}")
        scene.namespace.deploy()
        if level == "restricted":
            assert "runAsNonRoot" in scene.namespace.until_reason("PodSecurity")["message"]
            stand.cluster.kubectl("label", "namespace", scene.namespace.name, f"{label}-")
        scene.namespace.kubectl("wait", "--for=condition=Ready", "llmd/llama", "--timeout=85s")
        assert_converged(scene)
