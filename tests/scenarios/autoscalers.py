"""I. Autoscalers: the operator's own, KEDA's, and those of others."""

from __future__ import annotations

import json
from itertools import pairwise

from control_plane import Manifest, wait_until
from faults.oracles import assert_converged
from faults.stand import Scene, Stand
from scenarios.registry import scenario

HPA = ("HorizontalPodAutoscaler", "llama")
KEDA = {"prometheusAddress": "http://prometheus:9090"}
API_ARRIVES = 90
"""Seconds; the operator looks for a missing API every 30 to 36, and the machine may be busy."""


def _until_ready(scene: Scene, text: str) -> None:
    wait_until(lambda: scene.namespace.get("llmd", "llama")["status"].get("ready") == text, 60)


def _patch(scene: Scene, spec: Manifest) -> None:
    scene.namespace.kubectl("patch", "llmd", "llama", "--type=merge", f"--patch={json.dumps({'spec': spec})}")


@scenario(
    97,
    "Autoscaling is switched on with replicas in place",
    injected="four replicas, then `scaling` in place of `replicas`",
    asserted="never fewer than four available",
    gate=True,
)
def autoscaling_is_switched_on(stand: Stand) -> None:
    with stand.scene("hand-over") as scene:
        scene.namespace.deploy(replicas=4)
        _until_ready(scene, "4/4")
        _patch(scene, {"replicas": None, "scaling": {"maxReplicas": 8}})
        wait_until(lambda: scene.namespace.list("hpa"))
        scene.namespace.until_reason("Ready")
        differs = ("Deployment llama.spec.replicas", "LLMDeployment.status", "pods")
        assert_converged(scene, available=4, differs=differs)


@scenario(
    98,
    "The autoscaler has scaled, then the image changes",
    injected="the Deployment's scale set to seven, as an autoscaler does, then a new image",
    asserted="seven replicas stay seven",
    gate=True,
)
def the_autoscaler_has_scaled(stand: Stand) -> None:
    with stand.scene("scaled") as scene:
        scene.namespace.deploy(scaling={"maxReplicas": 8})
        scene.namespace.ready()
        scene.namespace.kubectl("scale", "deployment", "llama", "--replicas=7")
        _until_ready(scene, "7/7")
        scene.namespace.deploy(scaling={"maxReplicas": 8}, engine={"image": {"tag": "1.3.0rc25"}})
        scene.namespace.until_reason("Ready")
        assert scene.namespace.get("deployment", "llama")["spec"]["replicas"] == 7
        wanted = [
            happening.manifest["spec"]["replicas"]
            for happening in scene.trace.happenings
            if happening.place == ("Deployment", "llama")
        ]
        assert 7 in wanted
        assert set(wanted[wanted.index(7) :]) == {7}
        differs = ("Deployment llama.spec.replicas", "LLMDeployment.status", "pods")
        assert_converged(scene, differs=differs)
        assert scene.namespace.told("ReplicasContested") == []


@scenario(
    99,
    "Autoscaling is switched off",
    injected="seven replicas by the autoscaler, then `replicas: 2` in place of `scaling`",
    asserted="two replicas, the autoscaler is gone",
)
def autoscaling_is_switched_off(stand: Stand) -> None:
    with stand.scene("off") as scene:
        scene.namespace.deploy(scaling={"maxReplicas": 8})
        scene.namespace.ready()
        scene.namespace.kubectl("scale", "deployment", "llama", "--replicas=7")
        _until_ready(scene, "7/7")
        _patch(scene, {"replicas": 2, "scaling": None})
        _until_ready(scene, "2/2")
        assert_converged(scene, deleted={HPA: 1}, recreated={HPA: 1})
        assert scene.namespace.told("ReplicasContested") == []


@scenario(
    100,
    "KEDA is missing or comes later",
    injected="the CRD of ScaledObject deleted while an object asks for one; then installed",
    asserted="ScalingReady names the CRD and the replicas serve on; the ScaledObject is made without a restart",
)
def keda_comes_later(stand: Stand) -> None:
    with stand.scene("no-keda") as scene:
        stand.cluster.kubectl("delete", "crd", "scaledobjects.keda.sh", "--timeout=60s")
        try:
            scene.namespace.deploy(scaling={"minReplicas": 2, "maxReplicas": 3, "keda": KEDA})
            told = _until_scaling(scene, "APIMissing")
            assert "scaledobjects.keda.sh" in told["message"]
            _until_ready(scene, "2/2")
            assert scene.namespace.condition()["status"] == "True"
        finally:
            stand.sandbox.install("keda")
        _until_scaling(scene, "AutoscalerPending")
        assert scene.namespace.find("scaledobject", "llama")
        scene.quiet()
        assert scene.namespace.get("llmd", "llama")["status"]["ready"] == "2/2"


def _until_scaling(scene: Scene, reason: str) -> Manifest:
    def told() -> Manifest | None:
        condition = scene.namespace.condition("ScalingReady")
        return condition if condition.get("reason") == reason else None

    found: Manifest = wait_until(told, API_ARRIVES, what=lambda: str(scene.namespace.condition("ScalingReady")))
    return found


@scenario(
    101,
    "To zero and back",
    injected="the Deployment of an object with KEDA scaled to zero, and back to one whose pod loads for five seconds",
    asserted="Ready with the reason ScaledToZero, then WaitingForPods, then Ready; the operator never writes replicas",
)
def to_zero_and_back(stand: Stand) -> None:
    slow = {"annotations": {"sandbox.trtllm.dev/ready-after": "5s"}}
    with stand.scene("zero") as scene:
        scene.namespace.deploy(scaling={"minReplicas": 0, "maxReplicas": 2, "keda": KEDA}, podMetadata=slow)
        scene.namespace.ready()
        scene.quiet()
        before = len(scene.audit_writes())
        scene.namespace.kubectl("scale", "deployment", "llama", "--replicas=0")
        assert scene.namespace.until_reason("ScaledToZero")["status"] == "True"
        scene.namespace.kubectl("scale", "deployment", "llama", "--replicas=1")
        scene.namespace.until_reason("WaitingForPods")
        scene.namespace.ready()
        scene.quiet()
        assert {e["objectRef"]["resource"] for e in scene.audit_writes()[before:]} <= {"llmdeployments", "events"}


@scenario(
    102,
    "A user's own autoscaler on our Deployment",
    injected="a HorizontalPodAutoscaler with a minimum of three, on an LLMDeployment that states its replicas "
    "(without, Kubernetes reads zero and scales nothing) or on its Deployment",
    asserted="on the LLMDeployment: three replicas; on the Deployment: the spec wins, one write for each of the "
    "autoscaler's, one event that names its controller, and at rest when it is deleted",
    variants=("llmdeployment", "deployment"),
)
def a_user_s_own_autoscaler(stand: Stand, target: str) -> None:
    with stand.scene(f"hpa-on-{target}") as scene:
        scene.namespace.deploy(replicas=1)
        scene.namespace.ready()
        scene.namespace.apply(_autoscaler(target))
        if target == "llmdeployment":
            _until_ready(scene, "3/3")
            assert scene.namespace.get("llmd", "llama")["spec"]["replicas"] == 3
            assert_converged(scene)
            assert scene.namespace.told("ReplicasContested") == []
            return
        wait_until(lambda: _times_scaled(scene) >= 2, 60)
        scene.namespace.kubectl("delete", "hpa", "users")
        _until_ready(scene, "1/1")
        assert_converged(scene)
        writes = [e for e in scene.audit_writes() if e["objectRef"]["resource"] == "deployments"]
        assert len(writes) == 1 + _times_scaled(scene), "one for the create, one for each time it was scaled"
        (told,) = scene.namespace.told("ReplicasContested")
        assert told.startswith("kube-controller-manager set the replicas of Deployment llama to 3; set back to 1; ")


def _autoscaler(target: str) -> Manifest:
    kinds = {
        "llmdeployment": {"apiVersion": "trtllm.dev/v1alpha1", "kind": "LLMDeployment", "name": "llama"},
        "deployment": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "llama"},
    }
    metric = {"type": "Utilization", "averageUtilization": 50}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "users"},
        "spec": {
            "minReplicas": 3,
            "maxReplicas": 4,
            "scaleTargetRef": kinds[target],
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": metric}}],
        },
    }


def _times_scaled(scene: Scene) -> int:
    """Return how often the Deployment went to three replicas."""
    wanted = [
        happening.manifest["spec"]["replicas"]
        for happening in scene.trace.happenings
        if happening.place == ("Deployment", "llama")
    ]
    return sum((before, after) == (1, 3) for before, after in pairwise(wanted))
