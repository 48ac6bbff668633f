"""C. The API server refuses, is slow, or is not there."""

from __future__ import annotations

import itertools
import json
import time

from control_plane import Manifest, children, wait_until
from faults.oracles import assert_converged
from faults.rules import READS, WRITES, BlackHole, Garble, On, Refuse, Slow, Truncate, writes
from faults.stand import Scene, Stand
from scenarios.registry import scenario

ANY = On(verbs=READS | WRITES | {"discover"})
ROLE = "trtllm-operator"


def _pass_time(seconds: float) -> None:
    """Let a fault last: its length is what is injected, not what is waited for."""
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > until, seconds + 1)


@scenario(
    24,
    "A conflict on the first write of each kind",
    injected="409 once for each kind of child and for the status",
    asserted="tried again, one further write for each",
    gate=True,
)
def a_conflict_on_the_first_write(stand: Stand) -> None:
    with stand.scene("conflict") as scene:
        for resource in ("configmaps", "services", "deployments", "llmdeployments/status"):
            scene.arm(writes(resource), Refuse(409, "Conflict"))
        scene.namespace.deploy()
        scene.namespace.ready()
        assert_converged(scene, writes=15)


@scenario(
    25,
    "A conflict for ever on one child",
    injected="409 for every write of one Service, for ten seconds",
    asserted="the condition names it, tries become rarer, another object is served; healed afterwards",
)
def a_conflict_for_ever(stand: Stand) -> None:
    with stand.scene("conflict-for-ever") as scene:
        refusing = scene.arm(writes("services", name="llama"), Refuse(409, "Conflict"), times=None)
        scene.namespace.deploy()
        scene.namespace.deploy("other")
        scene.namespace.ready("other")
        _pass_time(10)
        assert "Service" in scene.namespace.condition()["message"]
        assert refusing.fired <= 8
        scene.disarm(refusing)
        scene.namespace.ready()
        once = dict.fromkeys(children("llama", "other"), 1)
        assert_converged(scene, recreated=once)
        assert_converged(scene, name="other", recreated=once, restart=False)


@scenario(
    26,
    "Too many requests",
    injected="429 for every write, with Retry-After of 3 s or without, for ten seconds",
    asserted="no write earlier than asked; afterwards no storm",
    variants=("retry-after", "bare"),
)
def too_many_requests(stand: Stand, kind: str) -> None:
    with stand.scene(f"429-{kind}") as scene:
        refuse = Refuse(429, "TooManyRequests", retry_after=3 if kind == "retry-after" else None)
        refusing = scene.arm(writes("configmaps"), refuse, times=None)
        scene.namespace.deploy()
        scene.until_fired(refusing)
        _pass_time(10)
        assert refusing.fired <= (4 if kind == "retry-after" else 6)
        scene.disarm(refusing)
        scene.namespace.ready()
        assert_converged(scene, writes=20)


@scenario(
    27,
    "Server errors",
    injected="an error of the server for all or every third request, for six seconds from a create on",
    asserted="at rest within 60 s afterwards, never Stalled",
    variants=("500", "502", "503", "504", "every-third-500", "truncated", "not-json"),
    gate=("truncated",),
)
def server_errors(stand: Stand, kind: str) -> None:
    with stand.scene(f"errors-{kind}") as scene:
        turn = itertools.cycle((False, False, True))
        some = On(verbs=READS | WRITES, where=lambda _: next(turn)) if kind == "every-third-500" else On()
        spoil = {"truncated": Truncate(), "not-json": Garble()}
        fault = spoil.get(kind) or Refuse(int(kind[-3:]), "InternalError")
        failing = scene.arm(some, fault, times=None)
        scene.cut()
        scene.namespace.deploy()
        scene.until_fired(failing)
        _pass_time(6)
        scene.disarm(failing)
        scene.namespace.ready()
        assert not _ever_stalled(scene)
        assert_converged(scene, log="not JSON")


def _ever_stalled(scene: Scene) -> bool:
    return any(
        condition["type"] == "Stalled"
        for happening in scene.trace.happenings
        if happening.kind == "LLMDeployment"
        for condition in happening.manifest.get("status", {}).get("conditions", [])
    )


@scenario(
    28,
    "A write that is never answered",
    injected="the first write of a Service disappears; the connection stays open",
    asserted="given up after 30 s and tried again; another object is served meanwhile",
)
def a_write_that_is_never_answered(stand: Stand) -> None:
    with stand.scene("black-hole") as scene:
        swallowing = scene.arm(writes("services", name="llama"), BlackHole())
        scene.namespace.deploy()
        scene.until_fired(swallowing)
        scene.namespace.deploy("other")
        scene.namespace.ready("other")
        scene.namespace.ready()
        assert_converged(scene, recreated=dict.fromkeys(children("llama", "other"), 1))


@scenario(
    29,
    "The control plane fails",
    injected="etcd frozen for 8 s; etcd killed; kube-apiserver killed and started twice; during an edit",
    asserted="at rest within 60 s afterwards",
    variants=("etcd-frozen", "etcd-killed", "apiserver-killed"),
    gate=("apiserver-killed",),
)
def the_control_plane_fails(stand: Stand, what: str) -> None:
    with stand.scene(what) as scene:
        scene.namespace.deploy()
        scene.namespace.ready()
        scene.namespace.deploy(replicas=2)
        sandbox = stand.sandbox
        if what == "etcd-frozen":
            sandbox.pause("etcd")
            _pass_time(8)
            sandbox.resume("etcd")
        elif what == "etcd-killed":
            sandbox.stop_component("etcd")
            _pass_time(3)
            sandbox.start_component("etcd")
        else:
            for _ in range(2):
                sandbox.stop_component("kube-apiserver")
                sandbox.start_component("kube-apiserver")
        wait_until(lambda: _status_ready(scene) == "2/2", 60)
        # An API server that has just started forbids everything until it has read the roles.
        assert_converged(scene, forbidden=what == "apiserver-killed")


def _status_ready(scene: Scene) -> str:
    return str(scene.namespace.get("llmd", "llama")["status"].get("ready"))


@scenario(
    30,
    "Credentials refused for a while",
    injected="401 for every request for six seconds from a create on",
    asserted="served afterwards without a restart",
)
def credentials_refused(stand: Stand) -> None:
    with stand.scene("unauthorized") as scene:
        refusing = scene.arm(ANY, Refuse(401, "Unauthorized"), times=None)
        scene.cut()
        scene.namespace.deploy()
        scene.until_fired(refusing)
        _pass_time(6)
        scene.disarm(refusing)
        scene.namespace.ready()
        assert_converged(scene)


@scenario(
    31,
    "A right is missing",
    injected="one verb taken out of the operator's role, then put back",
    asserted="the condition names verb and resource; healed when the right is back",
    variants=("patch services", "create horizontalpodautoscalers", "create deployments"),
    gate=("patch services",),
)
def a_right_is_missing(stand: Stand, right: str) -> None:
    verb, resource = right.split()
    spec: Manifest = {"scaling": {"maxReplicas": 2}} if resource == "horizontalpodautoscalers" else {}
    role = json.loads(stand.cluster.kubectl("get", "clusterrole", ROLE, "--output=json"))
    with stand.scene(f"forbidden-{resource}") as scene:
        try:
            _grant(stand, [_without(rule, verb, resource) for rule in role["rules"]])
            scene.namespace.deploy(**spec)
            condition = scene.namespace.until_reason("Forbidden")
            assert resource in condition["message"]
            assert verb in condition["message"]
        finally:
            _grant(stand, role["rules"])
        scene.namespace.kubectl("wait", "--for=condition=Ready", "llmd/llama", "--timeout=80s")
        assert_converged(scene, forbidden=True)


def _grant(stand: Stand, rules: list[Manifest]) -> None:
    patch = json.dumps([{"op": "replace", "path": "/rules", "value": rules}])
    stand.cluster.kubectl("patch", "clusterrole", ROLE, "--type=json", f"--patch={patch}")


def _without(rule: Manifest, verb: str, resource: str) -> Manifest:
    if resource not in rule["resources"]:
        return rule
    return {**rule, "verbs": [other for other in rule["verbs"] if other != verb]}


@scenario(
    32,
    "A child is refused as invalid",
    injected="422 for every write of the Deployment, for six seconds",
    asserted="Stalled, the API server's words in the condition, tries become rarer; healed afterwards",
    gate=True,
)
def a_child_is_refused(stand: Stand) -> None:
    with stand.scene("invalid") as scene:
        words = "spec.template.spec.x: Forbidden: no more"
        refusing = scene.arm(writes("deployments"), Refuse(422, "Invalid", words), times=None)
        scene.namespace.deploy()
        condition = scene.namespace.until_reason("ChildRejected")
        assert words in condition["message"]
        assert scene.namespace.condition("Stalled")["status"] == "True"
        _pass_time(6)
        assert refusing.fired <= 8
        scene.disarm(refusing)
        scene.namespace.ready()
        assert_converged(scene)


@scenario(
    33,
    "A policy denies the Deployment",
    injected="a ValidatingAdmissionPolicy of somebody else denies Deployments in the namespace, then is removed",
    asserted="Stalled with the policy's words; healed when it is gone",
)
def a_policy_denies(stand: Stand) -> None:
    with stand.scene("policy") as scene:
        name = scene.namespace.name
        policy = _policy(name)
        try:
            stand.cluster.kubectl("apply", "--filename=-", stdin=policy)
            wait_until(lambda: _is_denied(scene))
            scene.namespace.deploy()
            condition = scene.namespace.until_reason("ChildRejected")
            assert "no deployments here" in condition["message"]
            assert scene.namespace.condition("Stalled")["status"] == "True"
        finally:
            stand.cluster.kubectl("delete", "--filename=-", stdin=policy)
        scene.namespace.kubectl("wait", "--for=condition=Ready", "llmd/llama", "--timeout=80s")
        assert_converged(scene)


def _is_denied(scene: Scene) -> bool:
    try:
        scene.namespace.kubectl("create", "deployment", "probe", "--image=x", "--dry-run=server")
    except AssertionError as error:
        return "no deployments here" in str(error)
    return False


def _policy(name: str) -> Manifest:
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}
    api = "admissionregistration.k8s.io/v1"
    only = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
    items = [
        {
            "apiVersion": api,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": [rule]},
                "validations": [{"expression": "false", "message": "no deployments here"}],
            },
        },
        {
            "apiVersion": api,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": only},
        },
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


@scenario(
    34,
    "A slow API server",
    injected="one second for every write, during the create of 20 objects",
    asserted="the queue drains, each child is created once",
)
def a_slow_api_server(stand: Stand) -> None:
    names = [f"llama-{number}" for number in range(20)]
    with stand.scene("slow") as scene:
        slow = scene.arm(writes(), Slow(1.0), times=None)
        for name in names:
            scene.namespace.deploy(name)
        for name in names:
            scene.namespace.ready(name)
        scene.disarm(slow)
        once = dict.fromkeys(children(*names), 1)
        assert_converged(scene, name=names[0], recreated=once)


@scenario(
    35,
    "An aggregated API is down",
    injected="an APIService whose server does not exist; the operator starts while discovery is partial",
    asserted="the operator is not affected",
)
def an_aggregated_api_is_down(stand: Stand) -> None:
    service = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"name": "metrics-server", "namespace": "kube-system"},
        },
    }
    stand.cluster.kubectl("apply", "--filename=-", stdin=service)
    try:
        with stand.scene("aggregated") as scene:
            scene.namespace.deploy()
            scene.namespace.ready()
            assert_converged(scene)
    finally:
        stand.cluster.kubectl("delete", "apiservice", "v1beta1.metrics.k8s.io")
