"""G. Several operators: the lease between them, their clocks and their settings."""

from __future__ import annotations

import itertools
import json
import signal
import sys
from collections.abc import Callable
from datetime import datetime, timedelta

import yaml

from control_plane import Manifest, wait_until
from faults import shifted_clock
from faults.oracles import assert_converged
from faults.rules import READS, WRITES, BlackHole, On
from faults.stand import Scene, Stand
from scenarios.registry import scenario
from support import ROOT
from trtllm_operator.kinds import LEASE
from trtllm_operator.lease import LEASE_NAME

LEASE_DURATION = 15
TAKEOVER = 20
"""Seconds in which another must lead when a leader is lost: the duration of the lease, one retry and its request."""

HAND_OVER = 10
"""Seconds in which another must lead when a leader goes in peace: less than the duration of the lease."""

INSTALLATION = ROOT / "config" / "operator" / "operator.yaml"
LOST = r"the lease|lease:"
"""What a leader that is cut off, or whose lease is gone, logs before it ends."""


def _lease(scene: Scene) -> Manifest | None:
    return scene.stand.cluster.read(LEASE, scene.namespace.name, LEASE_NAME)


def _holder(scene: Scene) -> str:
    lease = _lease(scene)
    return "" if lease is None else str(lease["spec"].get("holderIdentity") or "").partition("_")[0]


def _until_leads(scene: Scene, name: str, seconds: float = 30) -> None:
    wait_until(lambda: _holder(scene) == name, seconds, what=lambda: f"{_holder(scene)!r} leads, not {name}")


def _until_ready(scene: Scene, text: str) -> None:
    wait_until(lambda: scene.namespace.get("llmd", "llama")["status"].get("ready") == text, 60)


def _terms(scene: Scene) -> list[str]:
    """Return who wrote, in the order in which the API server received it, once for each uninterrupted series."""
    writes = [entry for entry in scene.audit_writes() if entry["objectRef"]["resource"] != LEASE.plural]
    wrote = sorted((entry["requestReceivedTimestamp"], entry["userAgent"]) for entry in writes)
    return [name for name, _ in itertools.groupby(name for _, name in wrote)]


def _give_lease(scene: Scene, holder: str) -> None:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": LEASE_DURATION}
    patch = json.dumps({"spec": spec})
    scene.namespace.kubectl("patch", "lease", LEASE_NAME, "--type=merge", f"--patch={patch}")


def _cut_off(scene: Scene) -> None:
    everything = On(verbs=READS | WRITES | {"discover", "update"})
    scene.first.arm(everything, BlackHole(), times=None)
    scene.cut()


LOSSES: dict[str, Callable[[Scene], None]] = {
    "killed": lambda scene: scene.operator.kill(),
    "frozen": lambda scene: scene.operator.send(signal.SIGSTOP),
    "cut-off": _cut_off,
}


@scenario(
    79,
    "The leader is killed, frozen, cut off",
    injected="SIGKILL, SIGSTOP and later SIGCONT, or no answer to any request for the leader; an edit meanwhile",
    asserted="the other leads within 20 s; the old leader ends and writes nothing once the other does (audit log)",
    variants=tuple(LOSSES),
)
def the_leader_is_lost(stand: Stand, how: str) -> None:
    with stand.scene(f"leader-{how}", started=False, elected=True) as scene:
        scene.start()
        _until_leads(scene, "operator")
        scene.replica("second").start()
        scene.namespace.deploy()
        scene.namespace.ready()
        LOSSES[how](scene)
        scene.namespace.deploy(replicas=2)
        _until_leads(scene, "second", TAKEOVER)
        _until_ready(scene, "2/2")
        scene.operator.send(signal.SIGCONT)
        assert scene.operator.wait() == (-signal.SIGKILL if how == "killed" else 1)
        assert_converged(scene, restart=False, log=LOST)
        assert _terms(scene) == ["operator", "second"]


@scenario(
    80,
    "Two operators without election",
    injected="a second operator serves the same namespace, during a create, an edit and the loss of a child",
    asserted="no ping-pong: at rest, each child made once for each time it was missing",
    gate=True,
)
def two_operators(stand: Stand) -> None:
    with stand.scene("two") as scene:
        scene.replica("other").start()
        scene.namespace.deploy()
        scene.namespace.ready()
        scene.namespace.deploy(replicas=2)
        _until_ready(scene, "2/2")
        scene.namespace.kubectl("delete", "service", "llama")
        wait_until(lambda: scene.namespace.find("service", "llama"))
        assert_converged(scene, recreated={("Service", "llama"): 2})


@scenario(
    82,
    "The lease is deleted or held by a ghost",
    injected="the Lease deleted, given to somebody who does not exist, or held by such a one from before the start",
    asserted="deleted: the leader makes it anew and leads on; given away: it ends; a ghost's is taken after a while",
    variants=("deleted", "given-away", "held"),
)
def the_lease_is_taken_away(stand: Stand, what: str) -> None:
    with stand.scene(f"lease-{what}", started=False, elected=True) as scene:
        if what == "held":
            scene.namespace.apply(_ghost_lease())
        scene.start()
        _until_leads(scene, "operator")
        scene.replica("second").start()
        scene.namespace.deploy()
        scene.namespace.ready()
        if what == "deleted":
            scene.namespace.kubectl("delete", "lease", LEASE_NAME)
            _until_leads(scene, "operator")
        if what == "given-away":
            _give_lease(scene, "ghost_1")
            assert scene.operator.wait() == 1
            _until_leads(scene, "second", TAKEOVER)
        scene.namespace.deploy(replicas=2)
        _until_ready(scene, "2/2")
        assert_converged(scene, restart=False, log=LOST)
        assert _terms(scene) == ["operator", *(["second"] if what == "given-away" else [])]


def _ghost_lease() -> Manifest:
    return {
        "apiVersion": LEASE.api_version,
        "kind": LEASE.kind,
        "metadata": {"name": LEASE_NAME},
        "spec": {
            "holderIdentity": "ghost_1",
            "leaseDurationSeconds": LEASE_DURATION,
            "renewTime": "2038-01-19T03:14:08.000000Z",
        },
    }


CLOCKS = {"behind": (-600, 0), "ahead": (600, 0), "jumps": (0, 600)}
"""Seconds by which a clock is wrong from the start, and by which it jumps while the operator leads."""


@scenario(
    83,
    "Clocks that are wrong",
    injected="the leader's clock, as Python reads it, ten minutes behind, ahead, or jumping ahead; then SIGKILL",
    asserted="the other takes nothing over before; dates are RFC 3339 in UTC; after a jump /healthz asks for a restart",
    variants=tuple(CLOCKS),
)
def clocks_that_are_wrong(stand: Stand, how: str) -> None:
    offset, jump = CLOCKS[how]
    with stand.scene(f"clock-{how}", started=False, elected=True) as scene:
        wrong = scene.replica("wrong", python=(sys.executable, shifted_clock.__file__, str(offset), str(jump)))
        wrong.start()
        _until_leads(scene, "wrong")
        scene.start()
        scene.namespace.deploy()
        scene.namespace.ready()
        if jump:
            wrong.process.send(signal.SIGUSR1)
            wait_until(lambda: wrong.process.probe("healthz") == 503)
        scene.namespace.deploy(replicas=2)
        _until_ready(scene, "2/2")
        held = _renewals(scene)
        wait_until(lambda: _renewals(scene) >= held + LEASE_DURATION // 2, 60)
        assert _terms(scene) == ["wrong"]
        for condition in scene.namespace.get("llmd", "llama")["status"]["conditions"]:
            assert datetime.strptime(condition["lastTransitionTime"], "%Y-%m-%dT%H:%M:%S%z").utcoffset() == timedelta()
        wrong.process.kill()
        scene.namespace.deploy(replicas=1)
        _until_leads(scene, "operator", TAKEOVER)
        _until_ready(scene, "1/1")
        assert_converged(scene, restart=False)
        assert _terms(scene) == ["wrong", "operator"]


def _renewals(scene: Scene) -> int:
    """Return how often the lease has been written."""
    return sum(entry["verb"] == "update" and entry["objectRef"]["resource"] == LEASE.plural for entry in scene.audit())


@scenario(
    85,
    "The operator's pod is evicted",
    injected="the pods of the installation's Deployment are evicted by the API server; the leader is told SIGTERM, as "
    "a kubelet does (pods are simulated)",
    asserted="its PodDisruptionBudget lets one go and keeps the other; exit code 0, and the other leads at once",
)
def the_operator_is_evicted(stand: Stand) -> None:
    with stand.scene("evicted", started=False, elected=True) as scene:
        scene.namespace.apply(*_installation(scene.namespace.name))
        one, two = wait_until(lambda: _ready_pods(scene))
        scene.start()
        _until_leads(scene, "operator")
        scene.replica("second").start()
        scene.namespace.deploy()
        scene.namespace.ready()
        _evict(scene, one)
        assert "disruption budget" in _evict(scene, two, refused=True)
        scene.operator.send(signal.SIGTERM)
        scene.namespace.deploy(replicas=2)
        _until_leads(scene, "second", HAND_OVER)
        assert scene.operator.wait() == 0
        _until_ready(scene, "2/2")
        assert_converged(scene, restart=False)
        assert _terms(scene) == ["operator", "second"]


def _installation(namespace: str) -> list[Manifest]:
    wanted = {"Deployment", "PodDisruptionBudget", "ServiceAccount"}
    manifests = [one for one in yaml.safe_load_all(INSTALLATION.read_text(encoding="utf-8")) if one["kind"] in wanted]
    assert {manifest["kind"] for manifest in manifests} == wanted
    return [{**one, "metadata": {**one["metadata"], "namespace": namespace}} for one in manifests]


def _ready_pods(scene: Scene) -> list[str] | None:
    """Return the names of the pods of the operator's Deployment once its budget counts both as healthy."""
    budget = scene.namespace.find("poddisruptionbudget", "trtllm-operator") or {}
    pods = scene.namespace.list("pods", selector="app.kubernetes.io/name=trtllm-operator")
    names = [pod["metadata"]["name"] for pod in pods]
    return names if budget.get("status", {}).get("currentHealthy") == len(names) == 2 else None


def _evict(scene: Scene, pod: str, *, refused: bool = False) -> str:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    path = f"/api/v1/namespaces/{scene.namespace.name}/pods/{pod}/eviction"
    return scene.namespace.kubectl("create", f"--raw={path}", "--filename=-", stdin=eviction, fails=refused)


SETTINGS: dict[str, tuple[str, int, str]] = {
    "flag": ("--no-such-flag", 2, "No such option"),
    "port": ("--metrics-port=65536", 2, "--metrics-port"),
    "election": ("--leader-elect", 2, "--pod-name"),
    "kubeconfig": ("--kubeconfig=missing.kubeconfig", 1, "missing.kubeconfig"),
    "context": ("--context=missing", 1, "missing"),
}
"""What is wrong, the exit code, and what the last line of the log must name."""


@scenario(
    86,
    "The operator's configuration is invalid",
    injected="a second operator is started with an unknown flag, a port that is none, election without a name, a "
    "kubeconfig or a context that does not exist",
    asserted="it ends at once with one line that names the setting; the operator that runs goes on",
    variants=tuple(SETTINGS),
)
def the_configuration_is_invalid(stand: Stand, what: str) -> None:
    argument, code, words = SETTINGS[what]
    with stand.scene(f"settings-{what}") as scene:
        wrong = scene.replica("wrong", argument)
        wrong.start(wait=False)
        assert wrong.process.wait() == code
        last = wrong.process.log.splitlines()[-1]
        assert last.startswith("Error: ")
        assert words in last
        scene.namespace.deploy()
        scene.namespace.ready()
        assert_converged(scene)
        assert _terms(scene) == ["operator"]
