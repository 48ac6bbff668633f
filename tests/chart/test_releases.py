"""Releases on the real API server: installed, upgraded, rolled back, uninstalled, installed again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import trtllm_operator
from chart_values import VALUES
from control_plane import Cluster, Manifest, Namespace, wait_until
from helm import CRD, LLM_DEPLOYMENT_CHART, OPERATOR_CHART, RELEASE, SYSTEM, Helm
from operator_process import running_operator
from support import inputs
from trtllm_operator import __version__
from trtllm_operator.kinds import KINDS, LLM_DEPLOYMENT, Kind
from trtllm_operator.naming import NAME_LABEL
from trtllm_operator.rbac import leader_rules, namespaced_rules, rules
from trtllm_operator.sandbox import ADDONS

pytestmark = pytest.mark.component

OURS = "app.kubernetes.io/managed-by=trtllm-operator"
WAIT = ("--wait", "--timeout=60s")


def _install(helm: Helm, values: dict[str, Any] | None = None) -> None:
    helm("install", RELEASE, str(OPERATOR_CHART), f"--namespace={SYSTEM}", *WAIT, values=values or {})


def _uids(team: Namespace) -> dict[str, str]:
    """What must not change while the operator comes and goes: the object, its children and its pods."""
    found = team.list("llmdeployments", "deployments", "services", "configmaps", "pods")
    return {
        f"{item['kind']} {item['metadata']['name']}": item["metadata"]["uid"]
        for item in found
        if item["metadata"]["name"].startswith("llama")
    }


def test_a_served_model_lives_through_every_change_of_the_release(
    bare: Cluster, release: Helm, team: Namespace, tmp_path: Path
) -> None:
    _install(release)
    with running_operator(bare, SYSTEM, RELEASE, tmp_path):
        team.deploy()
        team.ready()
    before = _uids(team)
    assert {name.split()[0] for name in before} == {"LLMDeployment", "Deployment", "Service", "ConfigMap", "Pod"}

    release("upgrade", RELEASE, str(OPERATOR_CHART), f"--namespace={SYSTEM}", *WAIT, values={"verbose": True})
    with running_operator(bare, SYSTEM, RELEASE, tmp_path):
        assert _uids(team) == before
    release("rollback", RELEASE, "1", f"--namespace={SYSTEM}", *WAIT)
    release("uninstall", RELEASE, f"--namespace={SYSTEM}", "--wait")
    assert _uids(team) == before
    assert team.find("llmd", "llama") is not None

    _install(release)
    with running_operator(bare, SYSTEM, RELEASE, tmp_path):
        team.kubectl("scale", "llmd", "llama", "--replicas=2")
        wait_until(lambda: team.get("llmd", "llama")["status"].get("ready") == "2/2")
    assert before.items() <= _uids(team).items()


def _next_release(directory: Path) -> Path:
    """Return a source root with a release 9.9.9 of the operator, which renders other probes and other engine files."""
    package = directory / "next" / "trtllm_operator"
    shutil.copytree(Path(trtllm_operator.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in (
        ("__init__.py", __version__, "9.9.9"),
        ("templates/_pod.yaml.j2", "failureThreshold: 6", "failureThreshold: 60"),
        ("naming.py", 'f"{name}-engine', 'f"{name}-engines'),
    ):
        text = (package / file).read_text(encoding="utf-8")
        assert old in text, (file, old)
        (package / file).write_text(text.replace(old, new), encoding="utf-8")
    return package.parent


def test_another_release_of_the_operator_restarts_no_pod(
    bare: Cluster, release: Helm, team: Namespace, tmp_path: Path
) -> None:
    """The next release is this one with other templates; what differs comes with the next edit of the model."""
    _install(release)
    with running_operator(bare, SYSTEM, RELEASE, tmp_path):
        team.deploy()
        team.ready()
    before, deployment = _uids(team), team.get("deployment", "llama")
    with running_operator(bare, SYSTEM, RELEASE, tmp_path, source=_next_release(tmp_path)):
        told = wait_until(lambda: team.get("llmd", "llama")["status"]["engine"].get("warnings"))
        assert "trtllm-operator 0.1.0 rendered them" in told[0]
        team.kubectl("scale", "llmd", "llama", "--replicas=2")
        wait_until(lambda: team.get("llmd", "llama")["status"].get("ready") == "2/2")
        assert before.items() <= _uids(team).items()
        assert team.get("deployment", "llama")["spec"]["template"] == deployment["spec"]["template"]
        team.deploy(replicas=2, podMetadata={"annotations": {"asked": "for"}})
        wait_until(lambda: _probe(team)["failureThreshold"] == 60, what=lambda: str(_probe(team)))
        wait_until(lambda: "warnings" not in team.get("llmd", "llama")["status"]["engine"])


def _probe(team: Namespace) -> Manifest:
    pod = team.get("deployment", "llama")["spec"]["template"]["spec"]
    return dict(pod["containers"][0]["livenessProbe"])


def test_without_keep_the_objects_go_with_the_release(
    bare: Cluster, release: Helm, team: Namespace, tmp_path: Path
) -> None:
    _install(release, {"crds": {"keep": False}})
    with running_operator(bare, SYSTEM, RELEASE, tmp_path):
        team.deploy()
        team.ready()
    release("uninstall", RELEASE, f"--namespace={SYSTEM}", "--wait")
    bare.kubectl("wait", "--for=delete", f"crd/{CRD}", "--timeout=30s")
    wait_until(lambda: not _children(team), what=lambda: f"left: {_children(team)}")


def _children(team: Namespace) -> list[str]:
    kinds = ("deployments", "services", "configmaps", "pods")
    return [child["kind"] for child in team.list(*kinds, selector="trtllm.dev/name=llama")]


def test_an_upgrade_of_the_chart_upgrades_the_crd(bare: Cluster, release: Helm) -> None:
    _install(release)
    bare.kubectl("patch", "crd", CRD, "--type=json", '--patch=[{"op": "remove", "path": "/spec/names/shortNames"}]')
    release("upgrade", RELEASE, str(OPERATOR_CHART), f"--namespace={SYSTEM}", "--force-conflicts", *WAIT, values={})
    assert json.loads(bare.kubectl("get", "crd", CRD, "--output=json"))["spec"]["names"]["shortNames"] == ["llmd"]


def test_waiting_for_a_model(bare: Cluster, release: Helm, team: Namespace, tmp_path: Path) -> None:
    """Helm waits until it is ready, fails at once when it is refused, and takes an edit back that was refused; a silent
    operator is none of these."""

    def install(name: str, timeout: str, values: dict[str, Any], *, fails: bool = False) -> str:
        chart = str(LLM_DEPLOYMENT_CHART)
        arguments = ("install", name, chart, f"--namespace={team.name}", "--wait", f"--timeout={timeout}")
        return release(*arguments, values=values, fails=fails)

    small, large = "hf://meta-llama/Llama-3.1-8B-Instruct", "hf://meta-llama/Llama-3.3-70B-Instruct"
    _install(release)
    with running_operator(bare, SYSTEM, RELEASE, tmp_path):
        install("llama", "60s", {"model": {"uri": small}})
        assert team.condition()["status"] == "True"
        refused = install("too-big", "10m", {"model": {"uri": large}, "gpus": {"count": 1}}, fails=True)
        assert "context deadline exceeded" not in refused
        assert "131.4" in refused
        before = _uids(team)
        back = ("upgrade", "llama", str(LLM_DEPLOYMENT_CHART), f"--namespace={team.name}", "--rollback-on-failure")
        worse = {"model": {"uri": large}, "gpus": {"count": 1}}
        assert "has been rolled back" in release(*back, "--timeout=60s", values=worse, fails=True)
        assert _uids(team) == before
        assert team.get("llmd", "llama")["spec"]["model"]["uri"] == small
    silent = install("unseen", "3s", {"model": {"uri": small}}, fails=True)
    assert "context deadline exceeded" in silent
    assert "InProgress" in silent


def test_a_namespaced_installation_serves_that_namespace_and_asks_for_nothing_else(
    bare: Cluster, release: Helm, team: Namespace, tmp_path: Path
) -> None:
    bare.kubectl("create", "--filename=-", stdin=_crd())
    _install(release, {**VALUES["without-cluster-rights"], "watchNamespaces": [team.name]})
    start = len(bare.audit())
    with running_operator(bare, SYSTEM, RELEASE, tmp_path):
        Namespace(bare, "default").deploy("unserved", gpus={"product": "NVIDIA-H100-80GB-HBM3"})
        team.deploy(gpus={"product": "NVIDIA-H100-80GB-HBM3"})
        team.ready()
        team.deploy("unsized")
        assert "spec.gpus.product" in team.until_reason("NoGPUs", name="unsized")["message"]
        unserved = bare.read(LLM_DEPLOYMENT, "default", "unserved")
        assert unserved is not None
        assert unserved["status"]["observedGeneration"] == -1
    assert _refused(bare, start) == []


def _crd() -> Manifest:
    from trtllm_operator.crd import crd

    return crd()


def _requests(bare: Cluster, start: int) -> list[Manifest]:
    account = f"system:serviceaccount:{SYSTEM}:{RELEASE}"
    return [entry for entry in bare.audit()[start:] if entry["user"]["username"] == account]


def _refused(bare: Cluster, start: int) -> list[str]:
    return [
        f"{entry['verb']} {entry['requestURI']}"
        for entry in _requests(bare, start)
        if entry.get("responseStatus", {}).get("code") in (401, 403)
    ]


def test_every_right_is_used_and_none_is_missing(bare: Cluster, release: Helm, team: Namespace, tmp_path: Path) -> None:
    for addon in ADDONS:
        bare.sandbox.install(addon)
    _install(release)
    bare.kubectl("delete", "leases", "--all", f"--namespace={SYSTEM}")  # an earlier installation's, which would be kept
    start = len(bare.audit())
    with running_operator(bare, SYSTEM, RELEASE, tmp_path):
        for parameter in inputs():
            (wanted,) = parameter.values
            team.deploy(wanted["metadata"]["name"], **wanted["spec"])
        for kind in KINDS:
            child = wait_until(lambda kind=kind: _applied(team, kind), what=lambda k=kind: k.plural)
            lost = _removable(team, kind)
            team.kubectl("delete", kind.plural, lost)
            wait_until(lambda kind=kind, lost=lost: team.find(kind.kind, lost))
            team.apply(_impostor(child))
            wait_until(lambda kind=kind: team.find(kind.kind, "impostor") is None)
        team.strand(wait_until(lambda: _running(team)), "FailedMount", "a volume is missing")
        wait_until(lambda: _granted() <= _used(bare, start), what=lambda: f"{_granted() - _used(bare, start)}")
    assert _refused(bare, start) == []


def _applied(team: Namespace, kind: Kind) -> Manifest | None:
    """Return a child of an LLMDeployment that does not wait for its model: nothing is deleted while it does."""
    for child in team.list(kind.plural, selector=OURS):
        conditions = team.get("llmd", child["metadata"]["labels"][NAME_LABEL])["status"]["conditions"]
        if any(found["type"] == "ModelReady" and found["status"] == "True" for found in conditions):
            return child
    return None


def _running(team: Namespace) -> Manifest | None:
    pods = team.list("pods", selector=OURS)
    return next((pod for pod in pods if pod["status"]["phase"] == "Running"), None)


def _removable(team: Namespace, kind: Kind) -> str:
    """Return a child that goes when it is deleted: a claim stays while a pod that has a node uses it."""
    children = team.list(kind.plural, selector=OURS)
    unused = [child for child in children if child.get("status", {}).get("phase") != "Bound"]
    return str(unused[0]["metadata"]["name"])


def _impostor(child: Manifest) -> Manifest:
    """A copy under another name, which the operator takes for a child it no longer wants."""
    kept = {key: child["metadata"][key] for key in ("labels", "ownerReferences", "namespace")}
    spec = {key: value for key, value in child.items() if key not in ("metadata", "status")}
    if child["kind"] == "Job":
        del spec["spec"]["selector"], spec["spec"]["template"]["metadata"]["labels"]
    if child["kind"] == "Service":
        spec["spec"] = {key: value for key, value in spec["spec"].items() if not key.startswith("clusterIP")}
    if child["kind"] == "Job":
        template = {**spec["spec"]["template"], "metadata": {}}
        spec["spec"] = {key: value for key, value in spec["spec"].items() if key != "selector"} | {"template": template}
    return {"apiVersion": _api_version(child["kind"]), **spec, "metadata": {**kept, "name": "impostor"}}


def _api_version(kind: str) -> str:
    return next(known.api_version for known in KINDS if known.kind == kind)


Right = tuple[str, str, str]


def _used(bare: Cluster, start: int) -> set[Right]:
    used = set()
    for entry in _requests(bare, start):
        ref = entry.get("objectRef", {})
        resource = "/".join(filter(None, (ref.get("resource"), ref.get("subresource"))))
        used.add((ref.get("apiGroup", ""), resource, entry["verb"]))
        if entry["verb"] == "patch" and entry.get("responseStatus", {}).get("code") == 201:
            used.add((ref.get("apiGroup", ""), resource, "create"))
    return used


def _granted() -> set[Right]:
    """Every right but the one on finalizers, which an admission plugin asks for and no request shows."""
    return {
        (group, resource, verb)
        for rule in (*rules(), *leader_rules())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if not resource.endswith("/finalizers")
    }


@pytest.mark.parametrize("name", VALUES)
def test_no_field_is_unknown_to_the_api_server(bare: Cluster, release: Helm, name: str, tmp_path: Path) -> None:
    arguments = ("template", RELEASE, str(OPERATOR_CHART), f"--namespace={SYSTEM}", "--skip-schema-validation")
    rendered = [m for m in yaml.safe_load_all(release(*arguments, values=VALUES[name])) if m["kind"] != "PodMonitor"]
    for manifest in rendered:
        if "namespace" in manifest["metadata"]:
            manifest["metadata"]["namespace"] = SYSTEM
    file = tmp_path / "rendered.yaml"
    file.write_text(yaml.safe_dump_all(rendered))
    bare.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", f"--filename={file}")


def test_the_cluster_s_own_roles_know_llm_deployments(release: Helm, team: Namespace) -> None:
    _install(release)
    for role in ("view", "edit"):
        team.kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}")
    wait_until(lambda: _may(team, "view", "list") and _may(team, "edit", "create"))
    assert _may(team, "edit", "list")
    assert not _may(team, "view", "create")
    assert not _may(team, "stranger", "list")


def _may(team: Namespace, user: str, verb: str) -> bool:
    attributes = {"group": "trtllm.dev", "resource": "llmdeployments", "namespace": team.name, "verb": verb}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": attributes},
    }
    answer = team.cluster.kubectl("create", "--filename=-", "--output=json", stdin=review)
    return bool(json.loads(answer)["status"]["allowed"])


def test_rights_in_one_namespace_leave_out_the_nodes_only() -> None:
    assert [rule for rule in rules() if rule not in namespaced_rules()] == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}
    ]
