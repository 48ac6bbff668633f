"""H. GitOps tools and kubectl; and the pause of a single object."""

from __future__ import annotations

import json
import subprocess

from control_plane import Manifest, an_llm_deployment
from faults.oracles import assert_converged
from faults.stand import Stand
from scenarios.registry import scenario
from trtllm_operator.crd import crd_yaml

HPA = ("HorizontalPodAutoscaler", "llama")


@scenario(
    87,
    "Paused",
    injected="`paused: true`; then a child edited, another deleted, and the spec changed; then `paused` taken away",
    asserted="nothing but the status is written while paused, and it says so; all of it is put right afterwards",
)
def paused(stand: Stand) -> None:
    with stand.scene("paused") as scene:
        scene.namespace.deploy()
        scene.namespace.ready()
        scene.namespace.deploy(paused=True)
        scene.namespace.until_reason("Paused", "Paused")
        assert scene.namespace.condition()["status"] == "True"
        before = len(scene.audit_writes())
        scene.namespace.kubectl("set", "image", "deployment/llama", "*=example.com/other:1")
        scene.namespace.kubectl("delete", "service", "llama")
        scene.namespace.deploy(paused=True, gpus={"count": 2})
        assert scene.namespace.until_reason("Paused")["status"] == "False"
        scene.restart()
        scene.quiet()
        written = {entry["objectRef"]["resource"] for entry in scene.audit_writes()[before:]}
        assert written <= {"llmdeployments", "events"}
        scene.namespace.deploy(gpus={"count": 2})
        scene.namespace.until_reason("Ready")
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
    90,
    "Quantities in other words",
    injected="the memory of an unknown GPU as 81920Mi, then as 80Gi",
    asserted="the same plan and the same pods: of the children, the annotation that digests the spec alone is written",
)
def quantities_in_other_words(stand: Stand) -> None:
    with stand.scene("quantities") as scene:
        gpus: Manifest = {"product": "ACME-1", "count": 1}
        scene.namespace.deploy(gpus={**gpus, "memory": "81920Mi"})
        scene.namespace.until_reason("PlanSelected", "Planned")
        scene.quiet()
        before, writes = scene.namespace.get("deployment", "llama"), len(scene.audit_writes())
        scene.namespace.deploy(gpus={**gpus, "memory": "80Gi"})
        scene.quiet()
        later = [e["objectRef"]["resource"] for e in scene.audit_writes()[writes:]]
        assert set(later) <= {"llmdeployments", "events", "deployments"}
        after = scene.namespace.get("deployment", "llama")
        assert after["spec"] == before["spec"]
        assert scene.namespace.get("llmd", "llama")["status"]["observedGeneration"] == 2


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
