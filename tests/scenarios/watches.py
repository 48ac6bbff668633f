"""B. Lists and watches that are late, incomplete, repeated or dead."""

from __future__ import annotations

import time

from control_plane import Manifest, config_map_name, wait_until
from faults.oracles import assert_converged
from faults.rules import (
    Expire,
    Garble,
    Hold,
    On,
    Refuse,
    Repeat,
    Replay,
    Reset,
    Shred,
    Withhold,
    events,
    lists,
    watches,
    writes,
)
from faults.stand import Scene, Stand
from scenarios.registry import scenario

SERVICE = ("Service", "llama")
DEPLOYMENT = ("Deployment", "llama")
OLD_IMAGE = {"engine": {"image": {"tag": "1.3.0rc24"}}}
NEW_IMAGE = {"engine": {"image": {"tag": "1.3.0rc25"}}}
OURS = "app.kubernetes.io/managed-by=trtllm-operator"
TRACED_RESOURCES = ("configmaps", "services", "deployments", "horizontalpodautoscalers", "pods")


def _uid(scene: Scene, kind: str, name: str = "llama") -> str:
    found = scene.namespace.find(kind, name)
    return str(found["metadata"]["uid"]) if found else ""


def _until_recreated(scene: Scene, kind: str, before: str, seconds: float = 30) -> None:
    wait_until(lambda: _uid(scene, kind) not in ("", before), seconds, what=lambda: f"no new {kind}")


def _served(scene: Scene, **spec: Manifest) -> None:
    scene.namespace.deploy(**spec)
    scene.namespace.ready()
    scene.quiet(0.7)


@scenario(
    11,
    "Time travel to an earlier object of the same name",
    injected="object deleted and made anew; a restarted operator is given the lists from before, its watches held",
    asserted="the children of the new uid survive",
    gate=True,
)
def time_travel_to_a_predecessor(stand: Stand) -> None:
    with stand.scene("time-travel") as scene:
        _served(scene)
        scene.restart()
        old = {resource: scene.proxy.lists[resource][-1] for resource in ("llmdeployments", *TRACED_RESOURCES)}
        scene.namespace.kubectl("delete", "llmd", "llama", "--wait=true")
        wait_until(lambda: not scene.namespace.list(*TRACED_RESOURCES, selector=OURS), 60)
        _served(scene)
        scene.operator.end()
        holding = scene.arm(events(), Hold(), times=None)
        for resource, answer in old.items():
            scene.arm(lists(resource), Replay(answer))
        before = len(scene.audit_writes())
        scene.start()
        wait_until(lambda: holding.fired >= 3)
        children = {
            (entry["verb"], entry["objectRef"]["resource"])
            for entry in scene.audit_writes()[before:]
            if entry["objectRef"]["resource"] in TRACED_RESOURCES and entry["responseStatus"]["code"] < 300
        }
        assert children == set()
        scene.disarm(holding)
        twice = {("ConfigMap", config_map_name()): 2, SERVICE: 2, DEPLOYMENT: 2}
        assert_converged(scene, recreated=twice)


@scenario(
    12,
    "Every read is a consistent read",
    injected="none: an API server gives a stale list only to who asks for any version (resourceVersion=0)",
    asserted="no list and no get of the operator names a resourceVersion",
)
def every_read_is_consistent(stand: Stand) -> None:
    with stand.scene("consistent") as scene:
        _served(scene)
        scene.namespace.kubectl("delete", "service", "llama")
        scene.quiet()
        reads = [e.request for e in scene.proxy.exchanges if e.request.verb in ("get", "list")]
        assert {request.verb for request in reads} == {"get", "list"}
        assert [str(request) for request in reads if "resourceVersion" in request.query] == []
        assert_converged(scene, recreated={SERVICE: 2})


@scenario(
    13,
    "A deletion told late",
    injected="events of Deployments held while a user deletes the Deployment; then the connection breaks",
    asserted="the watch goes on where it was and the Deployment is made anew",
    gate=True,
)
def a_deletion_told_late(stand: Stand) -> None:
    with stand.scene("told-late") as scene:
        _served(scene)
        uid = _uid(scene, "deployment")
        holding = scene.arm(events("deployments"), Hold(), times=None)
        scene.namespace.kubectl("delete", "deployment", "llama")
        scene.until_fired(holding)
        scene.cut("deployments")
        scene.disarm(holding)
        _until_recreated(scene, "deployment", uid)
        assert_converged(scene, recreated={DEPLOYMENT: 2})


@scenario(
    14,
    "The intermediate of A, B, A is never seen",
    injected="the event of spec B withheld; the user goes back to spec A",
    asserted="no child is written",
    gate=True,
)
def the_intermediate_is_never_seen(stand: Stand) -> None:
    with stand.scene("unobserved") as scene:
        _served(scene, **OLD_IMAGE)
        before = len(scene.audit_writes())

        def is_new(manifest: Manifest) -> bool:
            return bool(manifest["spec"]["engine"]["image"]["tag"] == "1.3.0rc25")

        hiding = scene.arm(events("llmdeployments", where=is_new), Withhold(), times=None)
        scene.namespace.deploy(**NEW_IMAGE)
        scene.until_fired(hiding)
        scene.namespace.deploy(**OLD_IMAGE)
        scene.namespace.until_reason("Ready")
        scene.quiet()
        assert {e["objectRef"]["resource"] for e in scene.audit_writes()[before:]} <= {"llmdeployments", "events"}
        assert_converged(scene)


@scenario(
    15,
    "A watch goes silent",
    injected="the watch of Services says nothing any more, bookmarks included, and stays open",
    asserted="noticed within 75 s and a pause; a Service deleted meanwhile comes back",
)
def a_watch_goes_silent(stand: Stand) -> None:
    with stand.scene("silent") as scene:
        _served(scene)
        uid = _uid(scene, "service")
        silence = scene.arm(events("services"), Hold(), times=1)
        scene.namespace.kubectl("delete", "service", "llama")
        scene.until_fired(silence)
        _until_recreated(scene, "service", uid, 95)
        scene.disarm(silence)
        assert_converged(scene, recreated={SERVICE: 2})


@scenario(
    16,
    "Watches that cannot be opened",
    injected="all watches cut; six attempts to open each are answered with RST; a Service deleted meanwhile",
    asserted="the operator stays alive and live, goes on trying, and makes the Service anew",
)
def watches_that_cannot_be_opened(stand: Stand) -> None:
    with stand.scene("no-watch") as scene:
        _served(scene)
        uid = _uid(scene, "service")
        refusing = scene.arm(watches(), Reset(), times=42)
        scene.cut()
        scene.namespace.kubectl("delete", "service", "llama")
        scene.until_fired(refusing, 20, 60)
        assert scene.operator.probe("healthz") == 200
        _until_recreated(scene, "service", uid, 90)
        assert_converged(scene, recreated={SERVICE: 2})


@scenario(
    17,
    "The version to watch from has expired",
    injected="a Deployment deleted while its watch is held; then 410 in the stream, or 410 as the answer",
    asserted="listed again, the deletion is noticed",
    variants=("in-the-stream", "as-the-answer"),
    gate=("in-the-stream",),
)
def the_version_has_expired(stand: Stand, where: str) -> None:
    with stand.scene(f"gone-{where}") as scene:
        _served(scene)
        uid = _uid(scene, "deployment")
        lost = scene.arm(events("deployments"), Withhold(), times=None)
        scene.namespace.kubectl("delete", "deployment", "llama")
        scene.until_fired(lost)
        scene.disarm(lost)
        if where == "as-the-answer":
            expired = scene.arm(watches("deployments"), Refuse(410, "Expired"))
            scene.cut("deployments")
        else:
            expired = scene.arm(events("deployments"), Expire())
            scene.namespace.kubectl("create", "deployment", "stranger", "--image=x", "--replicas=0")
            scene.namespace.kubectl("label", "deployment", "stranger", "app.kubernetes.io/managed-by=trtllm-operator")
        scene.until_fired(expired)
        _until_recreated(scene, "deployment", uid)
        if where == "in-the-stream":
            scene.namespace.kubectl("delete", "deployment", "stranger")
        assert_converged(scene, recreated={DEPLOYMENT: 2})


@scenario(
    18,
    "Events told three times",
    injected="every event of every watch delivered three times",
    asserted="nothing is written more often",
    gate=True,
)
def events_told_three_times(stand: Stand) -> None:
    with stand.scene("repeated") as scene:
        scene.arm(events(types=("ADDED", "MODIFIED", "DELETED")), Repeat(3), times=None)
        _served(scene)
        assert_converged(scene, writes=10)


@scenario(
    19,
    "A deletion that no event told",
    injected="DELETED of a Service dropped, then the stream ends with 410",
    asserted="the next list shows that it is absent",
)
def a_deletion_that_no_event_told(stand: Stand) -> None:
    with stand.scene("never-told") as scene:
        _served(scene)
        uid = _uid(scene, "service")
        dropping = scene.arm(events("services", types=("DELETED",)), Withhold())
        scene.namespace.kubectl("delete", "service", "llama")
        scene.until_fired(dropping)
        scene.arm(watches("services"), Refuse(410, "Expired"))
        scene.cut("services")
        _until_recreated(scene, "service", uid)
        assert_converged(scene, recreated={SERVICE: 2})


@scenario(
    20,
    "The continue token expires between two pages",
    injected="600 ConfigMaps of the operator's label; the second page of the list is refused with 410 once",
    asserted="the list begins anew and the operator goes to work",
)
def the_continue_token_expires(stand: Stand) -> None:
    with stand.scene("pages", started=False) as scene:
        label = {"app.kubernetes.io/managed-by": "trtllm-operator", "test": "pages"}
        many = [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"many-{number}", "labels": label}}
            for number in range(600)
        ]
        scene.namespace.kubectl("create", "--filename=-", stdin={"apiVersion": "v1", "kind": "List", "items": many})
        page = On(verbs=frozenset({"list"}), resources=frozenset({"configmaps"}), paged=True)
        expired = scene.arm(page, Refuse(410, "Expired"))
        scene.start()
        assert expired.fired == 1
        _served(scene)
        scene.namespace.kubectl("delete", "configmaps", "--selector=test=pages", "--wait=false")
        wait_until(lambda: not scene.namespace.list("configmaps", selector="test=pages"), 60)
        assert_converged(scene)


@scenario(
    22,
    "Events in pieces, huge events, lines that are not JSON",
    injected="events in pieces of 7 bytes; an object of 200 kB; a line of HTML in two watches",
    asserted="read as if whole; after the line of HTML the watch is opened again",
)
def events_in_pieces(stand: Stand) -> None:
    with stand.scene("pieces") as scene:
        scene.arm(events(types=("ADDED", "MODIFIED")), Shred(7), times=20)
        _served(scene)
        garbage = [scene.arm(events(resource, types=("MODIFIED",)), Garble()) for resource in ("pods", "deployments")]
        big = {"metadata": {"annotations": {"big": "x" * 200_000}}}
        scene.namespace.kubectl("patch", "deployment", "llama", "--patch-file=/dev/stdin", stdin=big)
        scene.namespace.deploy(replicas=2)
        for armed in garbage:
            scene.until_fired(armed)
        wait_until(lambda: scene.namespace.get("llmd", "llama")["status"].get("ready") == "2/2")
        assert_converged(scene, differs=("Deployment llama.metadata.annotations.big",))


@scenario(
    23,
    "Memory behind what was written",
    injected="events of children held for two seconds after a create and an edit",
    asserted="the answers of its own writes are remembered: no second create, one write per edit",
    gate=True,
)
def memory_behind_what_was_written(stand: Stand) -> None:
    with stand.scene("behind") as scene:
        holding = [scene.arm(events(resource), Hold(), times=None) for resource in TRACED_RESOURCES]
        scene.namespace.deploy(**OLD_IMAGE)
        scene.namespace.until_reason("PlanSelected", "Planned")
        scene.namespace.deploy(**NEW_IMAGE)
        until = time.monotonic() + 2
        wait_until(lambda: time.monotonic() > until)
        scene.disarm(*holding)
        scene.namespace.until_reason("Ready")
        patches = [e for e in scene.proxy.exchanges if writes("deployments").matches(e.request)]
        assert [exchange.status for exchange in patches] == [201, 200]
        assert_converged(scene)
