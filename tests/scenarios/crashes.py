"""A. The operator dies in the middle of something."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Iterable

import yaml

from control_plane import Manifest, an_llm_deployment, children, wait_until
from faults import limited_memory
from faults.oracles import assert_converged
from faults.rules import Kill, Moment, Reset, Slow, writes
from faults.stand import Scene, Stand
from scenarios.enumeration import kill_at_each_write
from scenarios.registry import scenario
from scenarios.several_nodes import ONE_NODE, SEVERAL_NODES, switch
from support import ROOT

MIB = 2**20
HPA = ("HorizontalPodAutoscaler", "llama")
IMAGE = {"engine": {"image": {"tag": "1.3.0rc25"}}}

EDITS: dict[str, dict[str, Manifest]] = {
    "scale": {"first": {"replicas": 1}, "then": {"replicas": 2}},
    "image": {"first": {}, "then": IMAGE},
    "gpus": {"first": {"gpus": {"count": 1}}, "then": {"gpus": {"count": 2}}},
    "autoscaling-on": {"first": {"replicas": 2}, "then": {"scaling": {"maxReplicas": 3}}},
    "autoscaling-off": {"first": {"scaling": {"maxReplicas": 3}}, "then": {"replicas": 2}},
}
ON_PURPOSE: dict[str, Manifest] = {
    # Handed over at two replicas, while a fresh create begins with one.
    "autoscaling-on": {
        "available": 2,
        "differs": ("Deployment llama.spec.replicas", "LLMDeployment.status", "pods"),
    },
    "autoscaling-off": {"deleted": {HPA: 1}, "recreated": {HPA: 1}},
}
SWITCHES: dict[str, dict[str, Manifest]] = {
    "one-node": {"first": SEVERAL_NODES, "then": ONE_NODE},
    "several-nodes": {"first": ONE_NODE, "then": SEVERAL_NODES},
}
"""Edits from one kind of workload to the other. One run at a time: each fills three of the eight nodes."""


@scenario(
    1,
    "Killed after each write of a create",
    injected="SIGKILL after write i of a create, one run for each i",
    asserted="end state and numbers of creates and deletes as without a fault",
    gate=True,
)
def killed_after_each_write_of_a_create(stand: Stand) -> None:
    kill_at_each_write(stand, Moment.AFTER, then={})


@scenario(
    2,
    "Killed after each write of an edit",
    injected="SIGKILL after write i of an edit, one run for each i",
    asserted="end state and numbers of creates and deletes as without a fault; availability kept by autoscaling",
    variants=(*EDITS, *SWITCHES),
    gate=("scale",),
)
def killed_after_each_write_of_an_edit(stand: Stand, edit: str) -> None:
    if edit in SWITCHES:
        kill_at_each_write(stand, Moment.AFTER, at_once=1, **SWITCHES[edit], **switch(edit))
    else:
        kill_at_each_write(stand, Moment.AFTER, **EDITS[edit], **ON_PURPOSE.get(edit, {}))


@scenario(
    3,
    "Killed before each write",
    injected="SIGKILL before write i reaches the API server, one run for each i",
    asserted="end state and numbers of creates and deletes as without a fault",
    variants=("create", *EDITS),
)
def killed_before_each_write(stand: Stand, edit: str) -> None:
    if edit == "create":
        kill_at_each_write(stand, Moment.BEFORE, then={})
    else:
        kill_at_each_write(stand, Moment.BEFORE, **EDITS[edit], **ON_PURPOSE.get(edit, {}))


@scenario(
    4,
    "Killed while a write is unanswered",
    injected="write i reaches the API server, its answer is swallowed, SIGKILL; one run for each i",
    asserted="no child twice, no conflict with what it made itself",
    variants=("create", *EDITS),
    gate=("create",),
)
def killed_while_a_write_is_unanswered(stand: Stand, edit: str) -> None:
    if edit == "create":
        kill_at_each_write(stand, Moment.UNANSWERED, then={})
    else:
        kill_at_each_write(stand, Moment.UNANSWERED, **EDITS[edit], **ON_PURPOSE.get(edit, {}))


@scenario(
    5,
    "Answers lost, operator alive",
    injected="the first eight writes are done and their connections reset before the answer",
    asserted="each retry finds what the lost one made",
    gate=True,
)
def answers_lost(stand: Stand) -> None:
    with stand.scene("answers-lost") as scene:
        losing = scene.arm(
            writes("configmaps", "services", "deployments", "llmdeployments/status"), Reset(True), times=8
        )
        scene.namespace.deploy()
        scene.until_fired(losing, 4)
        scene.namespace.ready()
        scene.disarm(losing)
        assert_converged(scene)


@scenario(
    6,
    "Crash loop during many creates",
    injected="SIGKILL of the operator twelve times, at the 5th write of each life, with 20 new objects",
    asserted="all converge, each child created once",
)
def crash_loop(stand: Stand) -> None:
    names = [f"llama-{number}" for number in range(20)]
    with stand.scene("crash-loop", started=False) as scene:
        for name in names:
            scene.namespace.deploy(name)
        for _ in range(12):
            killing = scene.arm(writes(), Kill(), skip=4)
            scene.start(wait=False)
            scene.until_fired(killing)
            scene.disarm(killing)
            scene.operator.wait()
        scene.start()
        for name in names:
            scene.namespace.ready(name)
        assert_converged(scene, name=names[0], recreated=dict.fromkeys(children(*names), 1))


@scenario(
    7,
    "SIGTERM during a pass",
    injected="SIGTERM while a write of the status takes two seconds",
    asserted="the write ends, exit code 0 within ten seconds",
    gate=True,
)
def terminated_during_a_pass(stand: Stand) -> None:
    with stand.scene("sigterm") as scene:
        slow = scene.arm(writes("llmdeployments/status"), Slow(2.0))
        scene.namespace.deploy()
        scene.until_fired(slow)
        scene.operator.send(signal.SIGTERM)
        assert scene.operator.wait(10) == 0
        written = [e for e in scene.proxy.exchanges if e.request.resource == "llmdeployments/status"]
        assert {exchange.status for exchange in written} == {200}
        scene.start()
        assert_converged(scene)


@scenario(
    8,
    "Killed between children and status",
    injected="SIGKILL before the first write of the status",
    asserted="the status is made from what is observed, no child is written again",
    gate=True,
)
def killed_between_children_and_status(stand: Stand) -> None:
    with stand.scene("no-status") as scene:
        killing = scene.arm(writes("llmdeployments/status"), Kill(Moment.BEFORE))
        scene.namespace.deploy()
        scene.until_fired(killing)
        scene.operator.wait()
        assert scene.namespace.get("llmd", "llama")["status"]["observedGeneration"] == -1
        children = len(scene.audit_writes())
        scene.start()
        assert_converged(scene)
        later = [entry["objectRef"]["resource"] for entry in scene.audit_writes()[children:]]
        assert set(later) <= {"llmdeployments", "events"}, later
        wait_until(lambda: scene.namespace.condition().get("status") == "True")


MANY = 2000
SPARE_MIB = 3
"""What a process gets beyond what it has without an object: too little for a list of many."""


@scenario(
    10,
    "Out of memory while 2000 objects are listed",
    injected="2000 objects that cannot be planned; first a process that may have 3 MiB more than it needs for none "
    "(RLIMIT_DATA), then one with the memory that the chart requests",
    asserted="the first ends by itself; the second tells every object once, and stays below what the chart requests",
)
def out_of_memory(stand: Stand) -> None:
    with stand.scene("memory") as scene:
        empty = scene.operator.data // MIB
        scene.operator.terminate()
        names = [f"llama-{number:04}" for number in range(MANY)]
        scene.namespace.kubectl("create", "--filename=-", stdin=_unplannable(names))
        short = scene.replica("short", python=_limited(empty + SPARE_MIB))
        short.start(wait=False)
        assert short.process.wait(60) != 0
        assert len(_told(scene)) < MANY
        enough = scene.replica("enough", python=_limited(_requested_mib()))
        enough.start()
        wait_until(lambda: len(_told(scene)) == MANY, 180, what=lambda: f"{len(_told(scene))} objects are told")
        scene.quiet()
        assert set(_told(scene).values()) == {1}
        assert "Traceback" not in enough.process.log
        assert enough.process.rss < _requested_mib() * MIB


def _unplannable(names: Iterable[str]) -> Manifest:
    items = [an_llm_deployment(name, model={"uri": "hf://acme/secret"}) for name in names]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _limited(mebibytes: int) -> tuple[str, ...]:
    return sys.executable, limited_memory.__file__, str(mebibytes)


def _requested_mib() -> int:
    values = yaml.safe_load((ROOT / "charts" / "trtllm-operator" / "values.yaml").read_text(encoding="utf-8"))
    requested: str = values["resources"]["requests"]["memory"]
    return int(requested.removesuffix("Mi"))


def _told(scene: Scene) -> Counter[str]:
    """Return how often the status of each object was written."""
    written = (exchange for replica in scene.replicas for exchange in list(replica.proxy.exchanges))
    return Counter(e.request.name for e in written if e.request.resource == "llmdeployments/status" and e.status == 200)
