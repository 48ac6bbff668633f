"""D. Strangers, users and adversaries at work on the same objects."""

from __future__ import annotations

import json
import time
from typing import Any

from control_plane import Manifest, an_llm_deployment, children, config_map_name, wait_until
from faults.oracles import assert_converged, differences, snapshot
from faults.stand import Scene, Stand
from scenarios.registry import scenario

POD_TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
STRANGERS: dict[str, Manifest] = {
    "service": {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}},
    "configmap": {"apiVersion": "v1", "kind": "ConfigMap", "data": {"mine": "1"}},
    "deployment": {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": POD_TEMPLATE},
    },
    "horizontalpodautoscaler": {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}},
    },
}
KINDS = {
    "service": "Service",
    "configmap": "ConfigMap",
    "deployment": "Deployment",
    "horizontalpodautoscaler": "HorizontalPodAutoscaler",
}


def _name(kind: str) -> str:
    return config_map_name() if kind == "configmap" else "llama"


def _spec(kind: str) -> Manifest:
    return {"scaling": {"maxReplicas": 2}} if kind == "horizontalpodautoscaler" else {}


def _served(scene: Scene, **spec: Any) -> None:
    scene.namespace.deploy(**spec)
    scene.namespace.ready()
    scene.quiet(0.7)


def _patch(scene: Scene, kind: str, patch: Any, *, form: str = "merge") -> None:
    scene.namespace.kubectl("patch", kind, _name(kind), f"--type={form}", f"--patch={json.dumps(patch)}")


@scenario(
    37,
    "A stranger's object has the name of a child",
    injected="a Service, ConfigMap, Deployment or HorizontalPodAutoscaler that is not the operator's; later deleted",
    asserted="untouched but for its version, Stalled with NameConflict; healed when it is gone",
    variants=tuple(STRANGERS),
    gate=("service", "configmap"),
)
def a_stranger_has_the_name(stand: Stand, kind: str) -> None:
    with stand.scene(f"stranger-{kind}") as scene:
        scene.namespace.apply({**STRANGERS[kind], "metadata": {"name": _name(kind)}})
        before = scene.namespace.get(kind, _name(kind))
        scene.namespace.deploy(**_spec(kind))
        condition = scene.namespace.until_reason("NameConflict")
        assert f"{KINDS[kind]} {scene.namespace.name}/{_name(kind)}" in condition["message"]
        assert scene.namespace.condition("Stalled")["status"] == "True"
        after = scene.namespace.get(kind, _name(kind))
        for part in ("spec", "data"):
            assert after.get(part) == before.get(part)
        for part in ("labels", "ownerReferences"):
            assert after["metadata"].get(part) == before["metadata"].get(part)
        assert not [key for key in after["metadata"].get("annotations", {}) if key.startswith("trtllm.dev/")]
        scene.namespace.kubectl("delete", kind, _name(kind))
        scene.namespace.kubectl("wait", "--for=condition=Ready", "llmd/llama", "--timeout=80s")
        assert_converged(scene)


@scenario(
    38,
    "The object belongs to another LLMDeployment",
    injected="a Service of the child's name whose controller is another LLMDeployment",
    asserted="NameConflict, the Service untouched; healed when it is gone",
)
def the_object_belongs_to_another(stand: Stand) -> None:
    with stand.scene("other-owner") as scene:
        _served(scene, replicas=0)
        owner = scene.namespace.get("service", "llama")["metadata"]["ownerReferences"]
        service = {**STRANGERS["service"], "metadata": {"name": "second", "ownerReferences": owner}}
        scene.namespace.apply(service)
        before = scene.namespace.get("service", "second")
        scene.namespace.deploy("second")
        scene.namespace.until_reason("NameConflict", name="second")
        after = scene.namespace.get("service", "second")
        assert after["spec"] == before["spec"]
        assert after["metadata"]["ownerReferences"] == owner
        scene.namespace.kubectl("delete", "service", "second")
        scene.namespace.kubectl("wait", "--for=condition=Ready", "llmd/second", "--timeout=80s")
        once = dict.fromkeys(children("second"), 1)
        ours = dict.fromkeys(children("llama"), 1)
        assert_converged(scene, name="second", recreated={**once, **ours})


@scenario(
    39,
    "A child is deleted",
    injected="a user deletes one child",
    asserted="made anew, once; the others untouched",
    variants=tuple(KINDS),
    gate=("service",),
)
def a_child_is_deleted(stand: Stand, kind: str) -> None:
    with stand.scene(f"deleted-{kind}") as scene:
        _served(scene, scaling={"maxReplicas": 2})
        uid = scene.namespace.get(kind, _name(kind))["metadata"]["uid"]
        scene.namespace.kubectl("delete", kind, _name(kind), "--wait=false")
        wait_until(lambda: _uid(scene, kind) not in ("", uid))
        scene.namespace.ready()
        assert_converged(scene, recreated={(KINDS[kind], _name(kind)): 2})


def _uid(scene: Scene, kind: str) -> str:
    found = scene.namespace.find(kind, _name(kind))
    return str(found["metadata"]["uid"]) if found else ""


EDITS: dict[str, tuple[str, list[Manifest]]] = {
    "image": ("deployment", [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "evil:1"}]),
    "replicas": ("deployment", [{"op": "replace", "path": "/spec/replicas", "value": 3}]),
    "port": ("service", [{"op": "replace", "path": "/spec/ports/0/port", "value": 9000}]),
    "selector": ("service", [{"op": "replace", "path": "/spec/selector", "value": {"app": "evil"}}]),
    "data": ("configmap", [{"op": "replace", "path": "/data/engine.json", "value": "{}"}]),
    "label": ("service", [{"op": "remove", "path": "/metadata/labels/app.kubernetes.io~1managed-by"}]),
}


@scenario(
    40,
    "A field of a child is edited",
    injected="a user edits an owned field, or takes the label away by which the operator watches",
    asserted="reverted by at most three writes",
    variants=tuple(EDITS),
    gate=("image", "label"),
)
def a_field_is_edited(stand: Stand, edit: str) -> None:
    kind, patch = EDITS[edit]
    with stand.scene(f"edited-{edit}") as scene:
        _served(scene)
        before = len(scene.audit_writes())
        _patch(scene, kind, patch, form="json")
        assert_converged(scene)
        writes = [e for e in scene.audit_writes()[before:] if e["objectRef"]["resource"].startswith(kind)]
        assert 1 <= len(writes) <= 3


@scenario(
    41,
    "What others add",
    injected="annotation, label, sidecar by server-side apply, `kubectl rollout restart`; then an edit of the spec",
    asserted="kept, and not fought over",
    gate=True,
)
def what_others_add(stand: Stand) -> None:
    sidecar = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "llama", "annotations": {"team": "search"}},
        "spec": {"template": {"spec": {"containers": [{"name": "sidecar", "image": "sidecar:1"}]}}},
    }
    with stand.scene("added") as scene:
        _served(scene)
        scene.namespace.kubectl("label", "service", "llama", "team=search")
        scene.namespace.kubectl("apply", "--server-side", "--field-manager=mesh", "--filename=-", stdin=sidecar)
        scene.namespace.kubectl("rollout", "restart", "deployment/llama")
        scene.namespace.deploy(replicas=2)
        wait_until(lambda: scene.namespace.get("llmd", "llama")["status"].get("ready") == "2/2", 60)
        template = scene.namespace.get("deployment", "llama")["spec"]["template"]
        assert {"sidecar"} < {container["name"] for container in template["spec"]["containers"]}
        assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]
        added = (
            "Deployment llama.metadata.annotations.team",
            "Deployment llama.spec.template",
            "Service llama.metadata.labels.team",
        )
        assert_converged(scene, differs=added)


@scenario(
    42,
    "The owner reference is taken away",
    injected="a user removes the ownerReferences of the Service; later deletes the Service",
    asserted="NameConflict and no second child; healed when it is gone",
)
def the_owner_reference_is_taken_away(stand: Stand) -> None:
    with stand.scene("disowned") as scene:
        _served(scene)
        _patch(scene, "service", [{"op": "remove", "path": "/metadata/ownerReferences"}], form="json")
        scene.namespace.until_reason("NameConflict")
        scene.namespace.kubectl("delete", "service", "llama")
        scene.namespace.kubectl("wait", "--for=condition=Ready", "llmd/llama", "--timeout=80s")
        assert_converged(scene, recreated={("Service", "llama"): 2})


@scenario(
    43,
    "The Deployment is deleted and its pods are orphaned",
    injected="`kubectl delete deployment --cascade=orphan`",
    asserted="the new Deployment adopts them; no GPU is booked twice",
)
def the_pods_are_orphaned(stand: Stand) -> None:
    with stand.scene("orphaned") as scene:
        _served(scene)
        uid = _uid(scene, "deployment")
        (pod,) = scene.namespace.list("pods")
        scene.namespace.kubectl("delete", "deployment", "llama", "--cascade=orphan")
        wait_until(lambda: _uid(scene, "deployment") not in ("", uid))
        scene.namespace.until_reason("Ready")
        scene.quiet()
        assert [p["metadata"]["uid"] for p in scene.namespace.list("pods")] == [pod["metadata"]["uid"]]
        assert_converged(scene, recreated={("Deployment", "llama"): 2})


@scenario(
    44,
    "Somebody deletes a child again and again",
    injected="the Service deleted every 300 ms for 10 s",
    asserted="at most one create per deletion; at rest at once when it stops",
)
def somebody_deletes_again_and_again(stand: Stand) -> None:
    with stand.scene("adversary") as scene:
        _served(scene)
        deleted, until = 0, time.monotonic() + 10
        while time.monotonic() < until:
            if scene.namespace.find("service", "llama"):
                scene.namespace.kubectl("delete", "service", "llama", "--wait=false")
                deleted += 1
        assert deleted > 5
        wait_until(lambda: _uid(scene, "service") != "", 60)
        assert_converged(scene, recreated={("Service", "llama"): deleted + 1})


@scenario(
    45,
    "A pod is relabelled",
    injected="the label by which the Service selects is taken from a pod",
    asserted="the Deployment replaces it, and the status follows",
)
def a_pod_is_relabelled(stand: Stand) -> None:
    with stand.scene("relabelled") as scene:
        _served(scene)
        (pod,) = scene.namespace.list("pods")
        scene.namespace.kubectl("label", "pod", pod["metadata"]["name"], "trtllm.dev/name-")
        wait_until(lambda: len(scene.namespace.list("pods", selector="trtllm.dev/name=llama")) == 1)
        scene.namespace.until_reason("Ready")
        assert_converged(scene)


@scenario(
    46,
    "The spec changes all the time",
    injected="100 edits between two specs, as fast as the API server takes them",
    asserted="ends at the last one; fewer writes of children than edits; Ready never told of a generation not applied",
    gate=True,
)
def the_spec_changes_all_the_time(stand: Stand) -> None:
    with stand.scene("flapping") as scene:
        _served(scene)
        before = len(scene.audit_writes())
        for turn in range(100):
            tag = "1.3.0rc25" if turn % 2 else "1.3.0rc24"
            body = an_llm_deployment(engine={"image": {"tag": tag}})
            scene.namespace.cluster.replace_spec(scene.namespace.name, body)
        scene.namespace.until_reason("Ready")
        assert_converged(scene, within=90)
        children = [e for e in scene.audit_writes()[before:] if e["objectRef"]["resource"] == "deployments"]
        assert len(children) < 100
        image = scene.namespace.get("deployment", "llama")["spec"]["template"]["spec"]["containers"][0]["image"]
        assert image.endswith(":1.3.0rc25")


@scenario(
    47,
    "The spec changes during a rollout",
    injected="three images in a row, each before the pods of the last are ready",
    asserted="only the last one is served",
)
def the_spec_changes_during_a_rollout(stand: Stand) -> None:
    with stand.scene("rollouts") as scene:
        _served(scene)
        for number in (25, 26, 27):
            scene.namespace.deploy(engine={"image": {"tag": f"1.3.0rc{number}"}})
            wait_until(
                lambda tag=f":1.3.0rc{number}": scene.namespace.get("deployment", "llama")["spec"]["template"]["spec"][
                    "containers"
                ][0]["image"].endswith(tag)
            )
        scene.namespace.until_reason("Ready")
        assert_converged(scene)


@scenario(
    48,
    "A forged status",
    injected="a user forges Ready=True and a condition of another type in the status of an object without a plan",
    asserted="Ready is repaired, the other condition stays",
    gate=True,
)
def a_forged_status(stand: Stand) -> None:
    forged = {"type": "Ready", "status": "True", "reason": "Forged", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    spec: Manifest = {"model": {"uri": "hf://acme/secret"}}
    with stand.scene("forged") as scene:
        scene.namespace.deploy(**spec)
        scene.namespace.until_reason("ModelSizeUnknown")
        status = {**an_llm_deployment(), "status": {"conditions": [forged, {**forged, "type": "Audited"}]}}
        force = ("--server-side", "--force-conflicts", "--subresource=status", "--field-manager=mallory")
        scene.namespace.kubectl("apply", *force, "--filename=-", stdin=status)
        scene.namespace.until_reason("ModelSizeUnknown")
        assert scene.namespace.condition("Audited")["reason"] == "Forged"
        scene.quiet()
        scene.namespace.deploy()
        scene.namespace.until_reason("Ready")
        scene.quiet()
        reference = stand.reference("llama", scene.namespace.get("llmd", "llama")["spec"], snapshot, ready=True)
        found = differences(snapshot(scene, "llama"), reference)
        assert {line.split(":")[0] for line in found} == {"LLMDeployment.status.conditions.Audited"}


@scenario(
    49,
    "Forged metadata",
    injected="an LLMDeployment with the operator's own annotations and labels, and some of others",
    asserted="none of them reaches a child",
    gate=True,
)
def forged_metadata(stand: Stand) -> None:
    with stand.scene("metadata") as scene:
        forged = {"trtllm.dev/digest": "0", "argocd.argoproj.io/tracking-id": "app", "team": "search"}
        manifest = an_llm_deployment()
        labels = {"app.kubernetes.io/instance": "app", "trtllm.dev/name": "other"}
        manifest["metadata"] |= {"annotations": forged, "labels": labels}
        scene.namespace.apply(manifest)
        scene.namespace.ready()
        assert_converged(scene)
        for child in scene.namespace.list("deployments", "services", "configmaps", selector="trtllm.dev/name=llama"):
            assert set(forged) & set(child["metadata"].get("annotations", {})) <= {"trtllm.dev/digest"}
            assert child["metadata"]["labels"]["app.kubernetes.io/instance"] == "llama"
