"""E. Fields that pass something on to a pod: impossible, huge, immutable, or pointing where they may not."""

from __future__ import annotations

import json
from collections import Counter

from hypothesis import HealthCheck, given, settings

from control_plane import Manifest, an_llm_deployment, wait_until
from faults.oracles import assert_converged
from faults.stand import Scene, Stand
from generated import objects
from judge import Fate, desk_disagrees, judge
from mutations import distinct_places, mutations, text
from scenarios.registry import scenario

GENERATED = 200


@scenario(
    50,
    "Every spec the schema accepts has children the API server accepts",
    injected=f"{GENERATED} objects generated from the CRD's schema (`make fuzz` tries more), by dry run",
    asserted="each is refused by the API server or by the plan in words, or all of its children are accepted",
)
def every_spec_has_children(stand: Stand) -> None:
    fates: Counter[Fate] = Counter()

    @settings(
        max_examples=GENERATED,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(objects())
    def check(manifest: Manifest) -> None:
        judgement = judge(stand.cluster, manifest)
        assert not desk_disagrees(manifest, judgement)
        fates[judgement.fate] += 1

    check()
    assert set(fates) == set(Fate), fates


@scenario(
    51,
    "Each property mutated",
    injected="every property of the spec deleted, null, empty, of a wrong type, out of its bounds, huge, and with "
    "characters that mean something to YAML, JSON, shells and templates, by dry run",
    asserted="rejected in words that name the field, or harmless",
)
def each_property_mutated(stand: Stand) -> None:
    for spec, place, schema in distinct_places().values():
        assert judge(stand.cluster, an_llm_deployment(**spec)).fate is not Fate.REJECTED
        for mutation in mutations(place, schema):
            judgement = judge(stand.cluster, an_llm_deployment(**mutation.of(spec)))
            if judgement.fate is Fate.REJECTED:
                groups = [text(place[: end + 1]) for end in range(len(place))]
                assert any(group in judgement.message for group in groups), f"{mutation}: {judgement.message}"


NO_SUCH_NODE: Manifest = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "pool", "operator": "In", "values": ["none"]}]}]
        }
    }
}
IMPOSSIBLE: dict[str, tuple[Manifest, str, str]] = {
    "affinity": ({"affinity": NO_SUCH_NODE}, "Unschedulable", "node affinity/selector"),
    "node-selector": ({"nodeSelector": {"pool": "none"}}, "Unschedulable", "node affinity/selector"),
    "priority-class": ({"priorityClassName": "absent"}, "PriorityClassMissing", "spec.priorityClassName"),
    "runtime-class": ({"runtimeClassName": "absent"}, "RuntimeClassMissing", "spec.runtimeClassName"),
    "service-account": ({"serviceAccountName": "absent"}, "ServiceAccountMissing", "spec.serviceAccountName"),
    "storage-class": (
        {"modelCache": {"pvc": {"size": "200Gi", "storageClass": "absent"}}},
        "VolumeUnbound",
        "spec.modelCache.pvc.storageClass",
    ),
    "claim": ({"modelCache": {"pvc": {"create": False, "name": "absent"}}}, "VolumeMissing", "spec.modelCache"),
    "secret": (
        {
            "model": {"uri": "hf://meta-llama/Llama-3.1-8B-Instruct", "secretRef": {"name": "absent", "key": "token"}},
            "podMetadata": {"annotations": {"sandbox.trtllm.dev/fault": "never-ready"}},
        },
        "SecretMissing",
        "spec.model.secretRef",
    ),
}
"""What is impossible, the reason it gets, and the field its message must name."""


@scenario(
    52,
    "Impossible affinity, missing priority class, account or secret",
    injected="a served object is given a field that points to what is not there, then is given the good spec again; "
    "what a kubelet says of a missing Secret is written into the pod's status, as no kubelet runs",
    asserted="its own reason and the field to change; the replica that serves stays; a fresh create's state after",
    variants=tuple(IMPOSSIBLE),
)
def impossible_fields(stand: Stand, what: str) -> None:
    spec, reason, words = IMPOSSIBLE[what]
    with stand.scene(f"impossible-{what}") as scene:
        scene.namespace.deploy()
        scene.namespace.ready()
        scene.namespace.deploy(**spec)
        if what == "secret":
            _say_as_a_kubelet(scene, 'secret "absent" not found')
        assert words in scene.namespace.until_reason(reason)["message"]
        claim = [("PersistentVolumeClaim", "llama-models")] if what == "storage-class" else []
        downloads = [("Job", job["metadata"]["name"]) for job in scene.namespace.list("jobs")]
        scene.namespace.deploy()
        scene.namespace.until_reason("Ready")
        once = dict.fromkeys([*claim, *downloads], 1)
        assert_converged(scene, available=1, recreated=once, deleted=once)


def _say_as_a_kubelet(scene: Scene, message: str) -> None:
    """Let the container of the pod that is not ready wait for what this message says."""

    def waiting() -> Manifest | None:
        pods = scene.namespace.list("pods")
        faulty = [pod for pod in pods if "sandbox.trtllm.dev/fault" in pod["metadata"].get("annotations", {})]
        return next((pod for pod in faulty if pod.get("status", {}).get("containerStatuses")), None)

    pod = wait_until(waiting)
    (container,) = pod["status"]["containerStatuses"]
    state = {"waiting": {"reason": "CreateContainerConfigError", "message": message}}
    patch = json.dumps({"status": {"containerStatuses": [{**container, "ready": False, "state": state}]}})
    name = pod["metadata"]["name"]
    scene.namespace.kubectl("patch", "pod", name, "--subresource=status", "--type=merge", f"--patch={patch}")


@scenario(
    57,
    "Huge but legal specs",
    injected="64 environment variables and 32 annotations of 4 KiB each for the pods; then all of them changed",
    asserted="served, and after the edit too; the operator's memory stays under its limit",
)
def huge_but_legal(stand: Stand) -> None:
    with stand.scene("huge") as scene:
        for letter in "ab":
            _apply_on_the_server(scene, _huge(letter))
            scene.namespace.ready()
            wait_until(lambda letter=letter: _first_variable(scene).startswith(letter))
        scene.namespace.until_reason("Ready")
        assert_converged(scene)


def _huge(letter: str) -> Manifest:
    env = [{"name": f"HUGE_{number}", "value": letter * 4096} for number in range(64)]
    annotations = {f"example.com/huge-{number}": letter * 4096 for number in range(32)}
    return an_llm_deployment(engine={"env": env}, podMetadata={"annotations": annotations})


def _apply_on_the_server(scene: Scene, manifest: Manifest) -> None:
    """Apply without the annotation in which `kubectl apply` keeps the whole object, which may have 256 KiB at most."""
    scene.namespace.kubectl("apply", "--server-side", "--filename=-", stdin=manifest)


def _first_variable(scene: Scene) -> str:
    (container,) = scene.namespace.get("deployment", "llama")["spec"]["template"]["spec"]["containers"]
    return next(str(variable["value"]) for variable in container["env"] if variable["name"] == "HUGE_0")


CLAIM: Manifest = {"size": "200Gi", "storageClass": "fast"}
IMMUTABLE: dict[str, tuple[Manifest, Manifest, str]] = {
    "claim-shrinks": (
        {"modelCache": {"pvc": CLAIM}},
        {"modelCache": {"pvc": {**CLAIM, "size": "100Gi"}}},
        "modelCache.pvc.size cannot shrink from 200Gi to 100Gi",
    ),
    "claim-class": (
        {"modelCache": {"pvc": CLAIM}},
        {"modelCache": {"pvc": {**CLAIM, "storageClass": "slow"}}},
        "modelCache.pvc.storageClass cannot be changed from fast",
    ),
    "claim-name": (
        {"modelCache": {"pvc": CLAIM}},
        {"modelCache": {"pvc": {**CLAIM, "name": "other"}}},
        "modelCache.pvc.name cannot be changed from its default",
    ),
}


@scenario(
    58,
    "Edits of immutable fields",
    injected="the claim of a stored object made smaller, of another class or name; the type of the Service to and fro; "
    "a replica of two nodes made one of four",
    asserted="refused by the API server in words that name the field, or served; no child is refused for ever",
    variants=(*IMMUTABLE, "service-type", "group-size"),
)
def edits_of_immutable_fields(stand: Stand, what: str) -> None:
    with stand.scene(f"immutable-{what}") as scene:
        if what in IMMUTABLE:
            first, then, words = IMMUTABLE[what]
            scene.namespace.deploy(**first)
            scene.quiet()
            before = len(scene.audit_writes())
            refused = scene.namespace.kubectl("apply", "--filename=-", stdin=an_llm_deployment(**then), fails=True)
            assert words in refused
            scene.quiet()
            assert scene.audit_writes()[before:] == []
            return
        for spec in SERVED[what]:
            scene.namespace.deploy(**spec)
            scene.namespace.until_reason("Ready")
        assert_converged(scene)


SERVED: dict[str, list[Manifest]] = {
    "service-type": [
        {"expose": {"service": {"type": kind}}} for kind in ("ClusterIP", "LoadBalancer", "NodePort", "ClusterIP")
    ],
    "group-size": [{"gpus": {"product": "NVIDIA-H100-80GB-HBM3", "count": count}} for count in (16, 32)],
}


ACROSS: dict[str, tuple[Manifest, str]] = {
    "secret": (
        {"model": {"uri": "hf://a/b", "secretRef": {"name": "token", "key": "token", "namespace": "other"}}},
        'unknown field "spec.model.secretRef.namespace"',
    ),
    "path": (
        {"model": {"uri": "hf://a/b", "secretRef": {"name": "../other/token", "key": "token"}}},
        "spec.model.secretRef.name",
    ),
    "claim": ({"modelCache": {"pvc": {"create": False, "name": "other/models"}}}, "spec.modelCache.pvc.name"),
    "claim-uri": ({"model": {"uri": "pvc://../other/models"}}, "model.uri must be"),
    "variable": (
        {"engine": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "other/token", "key": "k"}}}]}},
        "secretKeyRef.name",
    ),
    "account": ({"serviceAccountName": "system:serviceaccount:other:admin"}, "spec.serviceAccountName"),
    "host-path": ({"modelCache": {"hostPath": "/var/lib/kubelet"}}, "HostPathNotAllowed"),
}


@scenario(
    62,
    "References across trust borders",
    injected="a Secret, a claim, an account or a directory of the node, that is not the namespace's own",
    asserted="refused by the API server, or by the operator's administrator; no child is written",
    variants=tuple(ACROSS),
)
def across_trust_borders(stand: Stand, what: str) -> None:
    spec, words = ACROSS[what]
    with stand.scene(f"border-{what}") as scene:
        if what == "host-path":
            scene.namespace.deploy(**spec)
            scene.namespace.until_reason(words)
        else:
            manifest = an_llm_deployment(**spec)
            assert words in scene.namespace.kubectl("create", "--filename=-", stdin=manifest, fails=True)
        written = {entry["objectRef"]["resource"] for entry in scene.audit_writes()}
        assert written <= {"llmdeployments", "events"}
