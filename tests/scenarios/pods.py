"""J. Pods and nodes that fail."""

from __future__ import annotations

from faults.oracles import assert_converged
from faults.stand import Stand
from scenarios.registry import scenario


@scenario(
    103,
    "Pods that do not come up",
    injected="crash loop, out of memory, image that cannot be pulled, never ready; then healthy",
    asserted="its own reason for each; the end state of a fresh create when it is healthy again",
    variants=("crash-loop", "oom-killed", "image-pull", "never-ready"),
)
def pods_that_do_not_come_up(stand: Stand, fault: str) -> None:
    reasons = {
        "crash-loop": "CrashLoop",
        "oom-killed": "OutOfMemory",
        "image-pull": "ImageNotFound",
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
