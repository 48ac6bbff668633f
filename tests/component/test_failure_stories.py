"""What the pager reads when a model does not come up: the reason, the numbers and the field, in `kubectl describe`.

All stories are staged at once and then looked at one by one: most of the time is spent by controllers, not by us.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from control_plane import Cluster, Manifest, Namespace, an_llm_deployment, wait_until
from failure_stories import PAGE, Story, page, steady, stories, told
from support import Golden
from trtllm_operator.forecast import FORECAST_AGE
from trtllm_operator.hardware import GPU_RESOURCE, NodeGroup
from trtllm_operator.kinds import DEPLOYMENT, POD
from trtllm_operator.sandbox.binaries import KUBERNETES_VERSION
from trtllm_operator.sandbox.nodes import node_manifests

pytestmark = pytest.mark.component

STORIES = stories()
PRODUCT = "NVIDIA-A100-SXM4-80GB"
COMMON_NODES = {"group": f"4x8x{PRODUCT}"}
RESTARTS = 3
_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "x"},
    "spec": {"containers": [{"name": "x", "image": "x"}]},
}
CLUSTER_SCOPED = ("PersistentVolume", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
HELD = {"sandbox.trtllm.dev/ready-after": "24h", "sandbox.trtllm.dev/back-off": "24h"}
"""Keeps a pod as the story's kubelet reports it."""


@pytest.fixture(scope="module")
def stage(cluster: Cluster) -> Iterator[Cluster]:
    """Make every namespace, node and object, and then every LLMDeployment."""
    namespaces = [_namespace(story) for story in STORIES]
    nodes = [node for described in _described_nodes() for node in _nodes(described)]
    objects = [_in(story, manifest) for story in STORIES for manifest in [*story.objects, *_others_pods(story)]]
    cluster.apply(*namespaces, *nodes)
    try:
        _wait_for_accounts_and_nodes(cluster, [node["metadata"]["name"] for node in nodes])
        cluster.apply(*objects)
        counted_anew = time.monotonic() + FORECAST_AGE
        _wait_for_quotas_and_policies(cluster)
        wait_until(lambda: time.monotonic() > counted_anew, what=lambda: "the pods of others may not be counted yet")
        cluster.apply(*(_in(story, _llm_deployment(story)) for story in STORIES))
        yield cluster
    finally:
        strays = [manifest for manifest in objects if manifest["kind"] in CLUSTER_SCOPED]
        cluster.delete(*strays, *namespaces)
        cluster.delete(*nodes)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.namespace.removeprefix("story-"))
def test_describe_tells_the_reason_the_numbers_and_the_field(stage: Cluster, story: Story, golden: Golden) -> None:
    namespace = Namespace(stage, story.namespace)
    if story.plays_the_kubelet:
        _play_the_kubelet(namespace, story)
    wanted = [*story.numbers, story.hint]
    wait_until(
        lambda: _is_told(namespace, story, wanted),
        90,
        what=lambda: f"{story.reason} with {wanted} in {namespace.condition(story.condition)}",
    )
    described = wait_until(lambda: _with_event(namespace, story.reason), what=lambda: f"no event {story.reason}")
    condition = _condition(described, story.condition)
    assert condition["Reason"] == story.reason
    assert condition["Status"] == "False"
    event = _events(described)[story.reason]
    for text in wanted:
        assert text in condition["Message"]
        assert text in event
    if story.capacity:
        assert _condition(described, "CapacityAvailable")["Reason"] == story.capacity
        assert story.capacity in _events(described)
    golden.check_file(PAGE, page({**told(), story.title: steady(condition["Message"])}))


def _is_told(namespace: Namespace, story: Story, wanted: Sequence[str]) -> bool:
    condition = namespace.condition(story.condition)
    return condition.get("reason") == story.reason and all(text in condition["message"] for text in wanted)


def _with_event(namespace: Namespace, reason: str) -> str | None:
    """Return what kubectl describes once it shows the event, which is posted after the status."""
    described = namespace.kubectl("describe", "llmd", "llama")
    return described if reason in _events(described) else None


def _condition(described: str, kind: str) -> dict[str, str]:
    """Return the lines of one condition as kubectl describe prints them."""
    entries = re.split(r"^ +Last Transition Time: .*\n", described.partition("\nEvents:")[0], flags=re.MULTILINE)
    for entry in entries[1:]:
        lines = dict(re.findall(r"^ +(Message|Reason|Status|Type): +(.*)$", entry, flags=re.MULTILINE))
        if lines["Type"] == kind:
            return lines
    return {}


def _events(described: str) -> dict[str, str]:
    """Return the messages of the Warnings that the operator posted, by reason."""
    line = re.compile(r"^ +Warning +(\w+) +.*?trtllm-operator +(.*)$", re.MULTILINE)
    return dict(line.findall(described.partition("\nEvents:")[2]))


def _described_nodes() -> list[Manifest]:
    return [COMMON_NODES, *(nodes for story in STORIES for nodes in story.nodes)]


def _nodes(described: Manifest) -> list[Manifest]:
    spec = {key: described[key] for key in ("taints", "unschedulable") if key in described}
    made = node_manifests([NodeGroup.parse(described["group"])], KUBERNETES_VERSION)
    return [{**node, "spec": spec} for node in made]


def _others_pods(story: Story) -> Iterator[Manifest]:
    for described in story.nodes:
        for node, gpus in zip(_nodes(described), described.get("busy", []), strict=False):
            name = node["metadata"]["name"]
            container = {"name": "x", "image": "x", "resources": {"limits": {GPU_RESOURCE: gpus}}}
            spec = {"nodeName": name, "containers": [container]}
            yield {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"other-{name}"}, "spec": spec}


def _namespace(story: Story) -> Manifest:
    metadata = {"name": story.namespace, "labels": dict(story.namespace_labels)}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def _in(story: Story, manifest: Manifest) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": story.namespace}}


def _llm_deployment(story: Story) -> Manifest:
    held = {"podMetadata": {"annotations": HELD}} if story.plays_the_kubelet else {}
    return an_llm_deployment(**{"gpus": {"product": PRODUCT, "count": 1}, **held, **story.spec})


def _wait_for_accounts_and_nodes(cluster: Cluster, nodes: list[str]) -> None:
    cluster.kubectl("wait", "--for=condition=Ready", "--timeout=60s", *(f"node/{node}" for node in nodes))
    wanted = {story.namespace for story in STORIES}
    path = "-o=jsonpath={.items[*].metadata.namespace}"
    select = "--field-selector=metadata.name=default"
    wait_until(lambda: wanted <= set(cluster.kubectl("get", "serviceaccounts", "-A", select, path).split()), 60)


def _wait_for_quotas_and_policies(cluster: Cluster) -> None:
    """Wait until what was made is in force, which takes its controllers a moment."""
    for story in STORIES:
        kinds = {manifest["kind"] for manifest in story.objects}
        namespace = Namespace(cluster, story.namespace)
        if "ResourceQuota" in kinds:
            wait_until(lambda n=namespace: n.kubectl("get", "quota", "-o=jsonpath={.items[*].status.hard}"))
        if "ValidatingAdmissionPolicyBinding" in kinds:
            wait_until(lambda n=namespace: n.cluster.refusal(_POD, n.name))


def _play_the_kubelet(namespace: Namespace, story: Story) -> None:
    pod = wait_until(lambda: _started(namespace), what=lambda: str(namespace.list("pods")))
    if story.stuck:
        deployment = namespace.get("deployment", "llama")
        _give_up(namespace, deployment)
        return
    if story.event is not None:
        namespace.strand(pod, **story.event)
        return
    key = "containerStatuses" if story.container == "trtllm-serve" else "initContainerStatuses"
    statuses = [
        _reported(status, story) if status["name"] == story.container else status for status in pod["status"][key]
    ]
    namespace.patch_status(POD, pod["metadata"]["name"], {key: statuses})


def _started(namespace: Namespace) -> Manifest | None:
    """Return the pod once the sandbox has nothing more to report of it."""
    for pod in namespace.list("pods"):
        if any("running" in status["state"] for status in pod["status"].get("containerStatuses", [])):
            return pod
    return None


def _reported(status: Manifest, story: Story) -> Manifest:
    if story.died is None:
        return {**status, "state": {"waiting": story.waiting}}
    waiting = {"reason": "CrashLoopBackOff", "message": f"back-off 40s restarting failed container={story.container}"}
    ended = {"reason": "Error", "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:01:00Z", **story.died}
    state: dict[str, Any] = {"state": {"waiting": waiting}, "lastState": {"terminated": ended}}
    return {**status, **state, "ready": False, "started": False, "restartCount": RESTARTS}


def _give_up(namespace: Namespace, deployment: Manifest) -> None:
    """Say what the deployment controller says, which keeps to it, after progressDeadlineSeconds."""
    conditions = [
        {
            **condition,
            "status": "False",
            "reason": "ProgressDeadlineExceeded",
            "message": 'ReplicaSet "llama" has timed out progressing.',
        }
        if condition["type"] == "Progressing"
        else condition
        for condition in deployment["status"]["conditions"]
    ]
    namespace.patch_status(DEPLOYMENT, "llama", {"conditions": conditions})
