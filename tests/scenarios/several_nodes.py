"""Replicas that span nodes: switches between workloads, groups that lose a pod, an absent API or controller."""

from __future__ import annotations

from typing import Any

from control_plane import Manifest, children, wait_until
from faults.oracles import assert_converged
from faults.rules import Kill, Moment, On
from faults.stand import Scene, Stand
from scenarios.registry import scenario
from trtllm_operator.kinds import DEPLOYMENT, LEADER_WORKER_SET
from trtllm_operator.sandbox.toolsets import LWS_CONTROLLER

ONE_NODE: Manifest = {"gpus": {"product": "NVIDIA-H100-80GB-HBM3", "count": 8}}
SEVERAL_NODES: Manifest = {"gpus": {"product": "NVIDIA-H100-80GB-HBM3", "count": 16}}
WORKLOAD = {"one-node": ("Deployment", "llama"), "several-nodes": ("LeaderWorkerSet", "llama")}
SPEC = {"one-node": ONE_NODE, "several-nodes": SEVERAL_NODES}
KEY = "Secret llama-ssh-UID"
"""The key of the pods of several nodes. The operator cannot look Secrets up, so it stays until the object goes."""

API_ARRIVES = 90
"""Seconds; the operator looks for a missing API every 30 to 36, and the machine may be busy."""


def switch(way: str) -> dict[str, Any]:
    """Return what an edit from one workload to the other, named after where it leads, does on purpose."""
    before = next(other for other in SPEC if other != way)
    gone = {WORKLOAD[before]: 1}
    return {"deleted": gone, "recreated": gone, "available": 1, "differs": (KEY,) if way == "one-node" else ()}


@scenario(
    9,
    "Killed between the deletion of one kind of workload and the creation of the other",
    injected="an edit from a Deployment to a LeaderWorkerSet, or back; SIGKILL before and after the old one is deleted",
    asserted="a replica stays available throughout; the end state of a fresh create, each object deleted once",
    variants=tuple(SPEC),
)
def killed_between_two_workloads(stand: Stand, way: str) -> None:
    kinds = {"one-node": LEADER_WORKER_SET, "several-nodes": DEPLOYMENT}
    (before,) = (SPEC[other] for other in SPEC if other != way)
    for moment in (Moment.BEFORE, Moment.AFTER):
        with stand.scene(f"switch-{way}-{moment.name}".lower()) as scene:
            scene.namespace.deploy(**before)
            scene.namespace.ready()
            deletion = On(verbs=frozenset({"delete"}), resources=frozenset({kinds[way].plural}))
            killing = scene.arm(deletion, Kill(moment))
            scene.namespace.deploy(**SPEC[way])
            scene.until_fired(killing, seconds=60)
            scene.operator.wait()
            scene.start()
            scene.namespace.until_reason("Ready")
            assert_converged(scene, **switch(way))


@scenario(
    21,
    "A kind that is installed later",
    injected="the CRD of LeaderWorkerSet deleted, an object of two nodes and one of one node created, then installed",
    asserted="APIMissing names the CRD, the other is served; served without a restart when the API is there",
)
def a_kind_that_is_installed_later(stand: Stand) -> None:
    with stand.scene("late-kind") as scene:
        stand.sandbox.stop_component(LWS_CONTROLLER)
        try:
            stand.cluster.kubectl("delete", "crd", "leaderworkersets.leaderworkerset.x-k8s.io", "--timeout=60s")
            scene.namespace.deploy(**SEVERAL_NODES)
            wait_until(lambda: scene.namespace.condition().get("reason") == "APIMissing", API_ARRIVES)
            assert "leaderworkersets.leaderworkerset.x-k8s.io" in scene.namespace.condition()["message"]
            scene.namespace.deploy("other")
            scene.namespace.ready("other")
        finally:
            stand.sandbox.install("lws")
        wait_until(lambda: scene.namespace.find("leaderworkersets", "llama"), API_ARRIVES)
        scene.namespace.ready()
        scene.namespace.kubectl("delete", "llmd", "other", "--wait=true")
        wait_until(lambda: not scene.namespace.find("deployment", "other"), 60)
        assert_converged(scene, recreated=dict.fromkeys(children("other"), 1))


def _pods(scene: Scene) -> dict[str, str]:
    """Return the uids of the pods that are not going, by their names."""
    pods = [pod["metadata"] for pod in scene.namespace.list("pods")]
    return {pod["name"]: pod["uid"] for pod in pods if "deletionTimestamp" not in pod}


@scenario(
    105,
    "A pod of a group dies",
    injected="the leader's or a worker's pod of a replica of two nodes is deleted; or only one node is free",
    asserted="the group is made anew as a whole; never Ready with half a group",
    variants=("leader", "worker", "half-a-group"),
)
def a_pod_of_a_group_dies(stand: Stand, which: str) -> None:
    with stand.scene(f"group-{which}") as scene:
        if which == "half-a-group":
            _with_one_node(scene)
        else:
            scene.namespace.deploy(**SEVERAL_NODES)
            scene.namespace.ready()
            before = _pods(scene)
            pod = {"leader": "llama-0", "worker": "llama-0-1"}[which]
            scene.namespace.kubectl("delete", "pod", pod, "--wait=false")
            wait_until(
                lambda: before.keys() == (now := _pods(scene)).keys() and not {*now.values()} & {*before.values()}
            )
        scene.namespace.kubectl("wait", "--for=condition=Ready", "llmd/llama", "--timeout=85s")
        assert_converged(scene)


def _with_one_node(scene: Scene) -> None:
    kubectl = scene.stand.cluster.kubectl
    _, *others = (name.split("/")[1] for name in kubectl("get", "nodes", "--output=name").split())
    try:
        kubectl("cordon", *others)
        scene.namespace.deploy(**SEVERAL_NODES)
        scene.namespace.until_reason("Unschedulable")
        assert scene.namespace.get("llmd", "llama")["status"]["ready"] == "0/1"
    finally:
        kubectl("uncordon", *others)


@scenario(
    106,
    "The LeaderWorkerSet controller is absent",
    injected="the controller of LeaderWorkerSets, and with it their webhooks, stopped before the create; then started",
    asserted="the condition says that the webhook does not answer; another object is served; served when it is back",
)
def the_controller_is_absent(stand: Stand) -> None:
    with stand.scene("no-controller") as scene:
        stand.sandbox.stop_component(LWS_CONTROLLER)
        try:
            scene.namespace.deploy(**SEVERAL_NODES)
            wait_until(lambda: "webhook" in scene.namespace.condition().get("message", ""))
            assert scene.namespace.condition()["status"] == "False"
            scene.namespace.deploy("other")
            scene.namespace.ready("other")
        finally:
            stand.sandbox.start_component(LWS_CONTROLLER)
        scene.namespace.kubectl("wait", "--for=condition=Ready", "llmd/llama", "--timeout=85s")
        assert_converged(scene, recreated=dict.fromkeys(children("other"), 1))
