"""G to I. Several operators, GitOps, autoscalers."""

from __future__ import annotations

import json
import subprocess

from control_plane import Manifest, an_llm_deployment, wait_until
from faults.oracles import assert_converged
from faults.stand import Scene, Stand
from scenarios.registry import scenario
from trtllm_operator.crd import crd_yaml

HPA = ("HorizontalPodAutoscaler", "llama")


def _until_ready(scene: Scene, text: str) -> None:
    wait_until(lambda: scene.namespace.get("llmd", "llama")["status"].get("ready") == text, 60)


def _patch(scene: Scene, spec: Manifest) -> None:
    scene.namespace.kubectl("patch", "llmd", "llama", "--type=merge", f"--patch={json.dumps({'spec': spec})}")


@scenario(
    80,
    "Two operators without election",
    injected="a second operator serves the same namespace, during a create, an edit and the loss of a child",
    asserted="no ping-pong: at rest, each child made once for each time it was missing",
    gate=True,
)
def two_operators(stand: Stand) -> None:
    with stand.scene("two") as scene:
        scene.another_operator()
        scene.namespace.deploy()
        scene.namespace.ready()
        scene.namespace.deploy(replicas=2)
        _until_ready(scene, "2/2")
        scene.namespace.kubectl("delete", "service", "llama")
        wait_until(lambda: scene.namespace.find("service", "llama"))
        assert_converged(scene, recreated={("Service", "llama"): 2})


@scenario(
    88,
    "Git applies the same object every second",
    injected="`kubectl apply --server-side --force-conflicts` of the same object 10 times; autoscaling on",
    asserted="nothing is written",
)
def git_applies_the_same(stand: Stand) -> None:
    with stand.scene("git") as scene:
        manifest = scene.namespace.deploy(scaling={"maxReplicas": 3})
        scene.namespace.ready()
        scene.quiet()
        before = len(scene.audit_writes())
        for _ in range(10):
            scene.namespace.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=manifest)
        scene.quiet()
        assert scene.audit_writes()[before:] == []
        assert_converged(scene)


@scenario(
    89,
    "The user's object is never written",
    injected="create, edits, autoscaling on and off",
    asserted="the audit log shows no write of the operator to an LLMDeployment but to its status; no finalizer",
    gate=True,
)
def the_user_s_object_is_never_written(stand: Stand) -> None:
    with stand.scene("spec") as scene:
        for spec in ({}, {"replicas": 2}, {"scaling": {"maxReplicas": 2}}, {"replicas": 1}):
            scene.namespace.deploy(**spec)
            scene.namespace.until_reason("Ready")
        own = [e["objectRef"] for e in scene.audit_writes() if e["objectRef"]["resource"] == "llmdeployments"]
        assert own
        assert {reference.get("subresource") for reference in own} == {"status"}
        assert "finalizers" not in scene.namespace.get("llmd", "llama")["metadata"]
        assert_converged(scene, deleted={HPA: 1}, recreated={HPA: 1})


@scenario(
    93,
    "Waiting for Ready right after an edit",
    injected="`kubectl wait` for Ready of the new generation, 0 ms after the edit, ten times",
    asserted="returns only when the edit is served",
    gate=True,
)
def waiting_right_after_an_edit(stand: Stand) -> None:
    with stand.scene("wait") as scene:
        scene.namespace.deploy()
        scene.namespace.ready()
        for turn in range(5):
            tag = f"1.3.0rc{30 + turn}"
            scene.namespace.deploy(engine={"image": {"tag": tag}})
            generation = scene.namespace.get("llmd", "llama")["metadata"]["generation"]
            jsonpath = f"--for=jsonpath={{.status.observedGeneration}}={generation}"
            scene.namespace.kubectl("wait", jsonpath, "llmd/llama", "--timeout=60s")
            scene.namespace.ready()
            deployment = scene.namespace.get("deployment", "llama")
            assert deployment["spec"]["template"]["spec"]["containers"][0]["image"].endswith(tag)
            assert deployment["status"]["updatedReplicas"] == deployment["status"]["availableReplicas"] == 1
        assert_converged(scene)


@scenario(
    95,
    "CRD and object in one apply",
    injected="`kubectl apply` of the CRD, which is there already, and an object, in one file",
    asserted="served",
)
def crd_and_object_in_one_apply(stand: Stand) -> None:
    with stand.scene("one-file") as scene:
        text = crd_yaml() + "\n---\n" + json.dumps(an_llm_deployment())
        command = [str(stand.sandbox.binary("kubectl")), f"--kubeconfig={stand.sandbox.kubeconfig}"]
        arguments = ["apply", "--server-side", f"--namespace={scene.namespace.name}", "--filename=-"]
        subprocess.run([*command, *arguments], input=text, text=True, check=True)
        scene.namespace.ready()
        assert_converged(scene)


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


@scenario(
    103,
    "Pods that do not come up",
    injected="crash loop, crash after ready, out of memory, image that cannot be pulled, never ready; then healthy",
    asserted="its own reason for each; the end state of a fresh create when it is healthy again",
    variants=("crash-loop", "oom-killed", "image-pull", "never-ready"),
)
def pods_that_do_not_come_up(stand: Stand, fault: str) -> None:
    reasons = {
        "crash-loop": "CrashLoop",
        "oom-killed": "OutOfMemory",
        "image-pull": "ImagePullFailed",
        "never-ready": "WaitingForPods",
    }
    with stand.scene(f"pods-{fault}") as scene:
        scene.namespace.deploy(podMetadata={"annotations": {"sandbox.trtllm.dev/fault": fault}})
        scene.namespace.until_reason(reasons[fault])
        scene.namespace.deploy()
        scene.namespace.until_reason("Ready")
        assert_converged(scene)


@scenario(
    104,
    "A node goes away",
    injected="every node cordoned and the pod deleted; then uncordoned",
    asserted="Unschedulable with the scheduler's words; ready again by itself",
)
def a_node_goes_away(stand: Stand) -> None:
    nodes = [name.split("/")[1] for name in stand.cluster.kubectl("get", "nodes", "--output=name").split()]
    with stand.scene("cordoned") as scene:
        scene.namespace.deploy()
        scene.namespace.ready()
        try:
            stand.cluster.kubectl("cordon", *nodes)
            scene.namespace.kubectl("delete", "pods", "--all", "--wait=false")
            condition = scene.namespace.until_reason("Unschedulable")
            assert "nodes are available" in condition["message"]
        finally:
            stand.cluster.kubectl("uncordon", *nodes)
        scene.namespace.kubectl("wait", "--for=condition=Ready", "llmd/llama", "--timeout=85s")
        assert_converged(scene)


@scenario(
    107,
    "A slow start, and the operator restarts meanwhile",
    injected="a model that loads for 12 s; the operator killed three times during that",
    asserted="the pod is the first one, never restarted",
)
def a_slow_start(stand: Stand) -> None:
    with stand.scene("slow-start") as scene:
        slow = {"sandbox.trtllm.dev/ready-after": "12s"}
        scene.namespace.deploy(podMetadata={"annotations": slow})
        scene.namespace.until_reason("WaitingForPods")
        uids = {pod["metadata"]["uid"] for pod in scene.namespace.list("pods")}
        for _ in range(3):
            scene.restart()
        scene.namespace.ready()
        assert {pod["metadata"]["uid"] for pod in scene.namespace.list("pods")} == uids
        assert_converged(scene)


@scenario(
    90,
    "Quantities in other words",
    injected="the memory of an unknown GPU as 81920Mi, then as 80Gi",
    asserted="the same plan: no child is written",
)
def quantities_in_other_words(stand: Stand) -> None:
    with stand.scene("quantities") as scene:
        gpus: Manifest = {"product": "ACME-1", "count": 1}
        scene.namespace.deploy(gpus={**gpus, "memory": "81920Mi"})
        scene.namespace.until_reason("PlanSelected", "Planned")
        scene.quiet()
        before = len(scene.audit_writes())
        scene.namespace.deploy(gpus={**gpus, "memory": "80Gi"})
        scene.quiet()
        later = [e["objectRef"]["resource"] for e in scene.audit_writes()[before:]]
        assert set(later) <= {"llmdeployments", "events"}


@scenario(
    91,
    "Tracking labels of a GitOps tool",
    injected="an object with Argo CD's and Helm's tracking labels and annotations",
    asserted="no child carries them: they would be pruned as nobody's",
    gate=True,
)
def tracking_labels(stand: Stand) -> None:
    with stand.scene("tracking") as scene:
        manifest = an_llm_deployment()
        manifest["metadata"] |= {
            "labels": {"argocd.argoproj.io/instance": "app", "helm.sh/chart": "x"},
            "annotations": {"argocd.argoproj.io/tracking-id": "app:x", "meta.helm.sh/release-name": "x"},
        }
        scene.namespace.apply(manifest)
        scene.namespace.ready()
        for child in scene.namespace.list("deployments", "services", "configmaps", selector="trtllm.dev/name=llama"):
            keys = {*child["metadata"]["labels"], *child["metadata"].get("annotations", {})}
            assert not [key for key in keys if "argoproj" in key or "helm.sh" in key]
        assert_converged(scene)


@scenario(
    112,
    "Good and bad objects side by side",
    injected="30 objects, every second of which cannot be planned or is refused by a quota of GPUs that is used up",
    asserted="the good ones are ready within 30 s",
)
def good_and_bad_side_by_side(stand: Stand) -> None:
    with stand.scene("mixed") as scene:
        for number in range(15):
            scene.namespace.deploy(f"bad-{number}", model={"uri": "hf://acme/secret"})
            scene.namespace.deploy(f"good-{number}")
        for number in range(15):
            scene.namespace.kubectl("wait", "--for=condition=Ready", f"llmd/good-{number}", "--timeout=30s")
        for number in range(15):
            assert scene.namespace.condition(name=f"bad-{number}")["reason"] == "ModelSizeUnknown"
