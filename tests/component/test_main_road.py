"""From kubectl apply to a scheduled trtllm-serve, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from control_plane import Cluster, Namespace, config_map_name, wait_until
from support import ROOT
from trtllm_operator.cli import main
from trtllm_operator.kinds import KINDS
from trtllm_operator.naming import DIGEST_ANNOTATION, KIND, key_secret_name

pytestmark = pytest.mark.component


def test_the_first_example_ends_in_a_scheduled_pod(namespace: Namespace) -> None:
    namespace.kubectl("apply", f"--filename={ROOT}/examples/01-llama-70b.yaml")
    namespace.ready("llama-70b")

    columns = namespace.kubectl("get", "llmd", "llama-70b", "--no-headers").split()
    assert columns[:8] == ["llama-70b", "meta-llama/Llama-3.3-70B-Instruct", "bfloat16", "4", "4", "1", "1/1", "Ready"]

    (pod,) = namespace.list("pods")
    assert pod["spec"]["nodeName"].startswith("gpu-")
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "4"}
    for kind in ("deployment", "service", "configmap"):
        (child,) = namespace.list(f"{kind}s", selector="trtllm.dev/name=llama-70b")
        owner = child["metadata"]["ownerReferences"][0]
        assert (owner["kind"], owner["controller"]) == ("LLMDeployment", True)

    story = namespace.kubectl("describe", "llmd", "llama-70b")
    assert "TP=4 on 4 GPUs of one node (NVIDIA-H100-80GB-HBM3)" in story
    assert "guide: 141.1 GB of weights is under 320 GB" in story
    assert "Normal  Ready" in story


def test_nothing_but_status_is_written_to_the_object(namespace: Namespace) -> None:
    namespace.deploy()
    namespace.ready()
    managers = {
        (entry["manager"], entry.get("subresource", ""))
        for entry in namespace.get("llmd", "llama")["metadata"]["managedFields"]
    }
    assert managers == {("kubectl-client-side-apply", ""), ("trtllm-operator", "status")}
    assert "finalizers" not in namespace.get("llmd", "llama")["metadata"]


def test_deleted_with_the_operator_stopped(cluster: Cluster, namespace: Namespace) -> None:
    namespace.deploy(scaling={"maxReplicas": 2})
    namespace.ready()
    cluster.sandbox.stop_component("operator")
    try:
        namespace.kubectl("delete", "llmd", "llama", "--timeout=10s")
        wait_until(lambda: not _children(namespace), what=lambda: f"left: {_children(namespace)}")
    finally:
        cluster.sandbox.start_component("operator")


def _children(namespace: Namespace) -> list[str]:
    kinds = (*(kind.plural for kind in KINDS), "pods")
    return [child["kind"] for child in namespace.list(*kinds, selector="trtllm.dev/name=llama")]


@pytest.mark.parametrize("kind", ["deployment", "service", "configmap", "hpa"])
def test_a_deleted_child_comes_back(namespace: Namespace, kind: str) -> None:
    namespace.deploy(scaling={"maxReplicas": 2})
    namespace.ready()
    name = config_map_name(scaling={"maxReplicas": 2}) if kind == "configmap" else "llama"
    uid = namespace.get(kind, name)["metadata"]["uid"]
    namespace.kubectl("delete", kind, name, "--wait=false")
    wait_until(lambda: _uid(namespace, kind, name) not in (None, uid))


def _uid(namespace: Namespace, kind: str, name: str) -> str | None:
    found = namespace.find(kind, name)
    return found["metadata"]["uid"] if found else None


@pytest.mark.parametrize(
    ("kind", "name", "path", "value"),
    [
        ("deployment", "llama", ["spec", "template", "spec", "containers", 0, "image"], "evil:1"),
        ("deployment", "llama", ["spec", "template", "spec", "containers", 0, "args", 0], "evil/model"),
        ("deployment", "llama", ["spec", "replicas"], 3),
        ("service", "llama", ["spec", "ports", 0, "port"], 9000),
        ("service", "llama", ["spec", "selector"], {"app": "evil"}),
        ("configmap", config_map_name(), ["data", "engine.json"], "{}"),
        ("deployment", "llama", ["metadata", "labels", "trtllm.dev/name"], "other"),
    ],
)
def test_an_edit_of_a_field_of_ours_is_reverted(
    namespace: Namespace, kind: str, name: str, path: list[Any], value: Any
) -> None:
    namespace.deploy()
    namespace.ready()
    before = _at(namespace.get(kind, name), path)
    pointer = "/" + "/".join(str(part).replace("/", "~1") for part in path)
    patch = yaml.safe_dump([{"op": "replace", "path": pointer, "value": value}], default_flow_style=True, width=10_000)
    namespace.kubectl("patch", kind, name, "--type=json", f"--patch={patch}")
    wait_until(lambda: _at(namespace.get(kind, name), path) == before)


def _at(manifest: Any, path: list[Any]) -> Any:
    for part in path:
        manifest = manifest[part]
    return manifest


def test_a_rollout_restart_is_not_fought(namespace: Namespace) -> None:
    namespace.deploy()
    namespace.ready()
    (before,) = namespace.list("pods")
    namespace.kubectl("rollout", "restart", "deployment/llama")
    namespace.kubectl("rollout", "status", "deployment/llama", "--timeout=60s")
    template = namespace.get("deployment", "llama")["spec"]["template"]
    assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]
    namespace.ready()
    name = before["metadata"]["name"]
    wait_until(lambda: name not in [pod["metadata"]["name"] for pod in namespace.list("pods")])


def test_what_others_add_stays(namespace: Namespace) -> None:
    namespace.deploy()
    namespace.ready()
    namespace.kubectl("annotate", "deployment", "llama", "team=search")
    namespace.kubectl("label", "service", "llama", "team=search")
    namespace.deploy(replicas=2)
    namespace.ready()
    assert namespace.get("deployment", "llama")["metadata"]["annotations"]["team"] == "search"
    assert namespace.get("service", "llama")["metadata"]["labels"]["team"] == "search"


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("[0-9]*.yaml")), ids=lambda path: path.stem)
def test_render_prints_what_the_operator_applies(namespace: Namespace, path: Path) -> None:
    (name,) = (each["metadata"]["name"] for each in yaml.safe_load_all(path.read_text()) if each["kind"] == KIND)
    nodes = "2x8xNVIDIA-H100-80GB-HBM3"
    printed = CliRunner().invoke(main, ["render", "-f", str(path), "--nodes", nodes, "-n", namespace.name])
    namespace.kubectl("apply", f"--filename={path}")
    if printed.exit_code == 3:
        reason, message = printed.stderr.strip().split(": ", 1)
        assert namespace.until_reason(reason, "Planned", name)["message"] == message
    else:
        namespace.until_reason("PlanSelected", "Planned", name)
    rendered = list(yaml.safe_load_all(printed.stdout))
    for manifest in rendered:
        assert namespace.cluster.refusal(manifest, namespace.name) is None
        live = wait_until(lambda kind=manifest["kind"], name=manifest["metadata"]["name"]: namespace.find(kind, name))
        assert _is_part_of(_of_object(manifest, namespace.get("llmd", name)), live)
    names = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in rendered}
    ours = "app.kubernetes.io/managed-by=trtllm-operator"
    owned = namespace.list(*(kind.plural for kind in KINDS), selector=ours)
    assert {(child["kind"], child["metadata"]["name"]) for child in owned} == names


def _of_object(manifest: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest rendered offline as it is for a stored object: the Secret of its pods has the uid in its name.

    The digest covers that name, and is left out where the name occurs.
    """
    metadata = stored["metadata"]
    offline, live = (json.dumps(key_secret_name(metadata["name"], uid)) for uid in ("", metadata["uid"]))
    text = json.dumps(manifest)
    if offline not in text:
        return manifest
    known: dict[str, Any] = json.loads(text.replace(offline, live))
    del known["metadata"]["annotations"][DIGEST_ANNOTATION]
    return known


def _is_part_of(part: Any, whole: Any) -> bool:
    if isinstance(part, dict):
        return all(key in whole and _is_part_of(value, whole[key]) for key, value in part.items())
    if isinstance(part, list):
        return len(part) == len(whole) and all(map(_is_part_of, part, whole))
    return str(part) == str(whole)


def test_fixed_replicas_follow_the_scale_subresource(namespace: Namespace) -> None:
    namespace.deploy()
    namespace.ready()
    namespace.kubectl("scale", "llmd", "llama", "--replicas=3")
    wait_until(lambda: namespace.get("llmd", "llama")["status"].get("ready") == "3/3")
    namespace.kubectl("scale", "llmd", "llama", "--replicas=0")
    namespace.until_reason("ScaledToZero")


def test_an_autoscaler_takes_the_replicas_over_without_a_dip(namespace: Namespace) -> None:
    namespace.deploy(replicas=3)
    wait_until(lambda: namespace.get("llmd", "llama")["status"].get("ready") == "3/3")
    namespace.kubectl(
        "patch", "llmd", "llama", "--type=merge", "--patch", '{"spec":{"replicas":null,"scaling":{"maxReplicas":4}}}'
    )
    wait_until(lambda: namespace.list("hpa"))
    namespace.until_reason("Ready")
    assert namespace.get("deployment", "llama")["spec"]["replicas"] == 3
    deployment = namespace.get("deployment", "llama")
    ours = [e for e in deployment["metadata"]["managedFields"] if e["manager"] == "trtllm-operator"]
    assert all("f:replicas" not in entry["fieldsV1"].get("f:spec", {}) for entry in ours)

    namespace.kubectl("patch", "llmd", "llama", "--type=merge", "--patch", '{"spec":{"replicas":2,"scaling":null}}')
    wait_until(lambda: not namespace.list("hpa"))
    wait_until(lambda: namespace.get("llmd", "llama")["status"].get("ready") == "2/2")


def test_an_edit_of_the_plan_rolls_the_pods(namespace: Namespace) -> None:
    namespace.deploy(gpus={"count": 1})
    namespace.ready()
    namespace.deploy(gpus={"count": 2})
    namespace.until_reason("Ready")
    (pod,) = [pod for pod in namespace.list("pods") if "deletionTimestamp" not in pod["metadata"]]
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert namespace.get("llmd", "llama")["status"]["plan"]["tensor"] == 2


def test_waiting_for_ready_right_after_an_edit_waits_for_the_edit(namespace: Namespace) -> None:
    namespace.deploy()
    namespace.ready()
    namespace.deploy(engine={"image": {"tag": "1.2.1"}})
    namespace.ready()
    pods = [pod for pod in namespace.list("pods") if "deletionTimestamp" not in pod["metadata"]]
    assert [pod["spec"]["containers"][0]["image"].rpartition(":")[2] for pod in pods] == ["1.2.1"]


def test_a_bad_edit_leaves_what_serves_alone(namespace: Namespace) -> None:
    namespace.deploy()
    namespace.ready()
    before = namespace.get("deployment", "llama")["metadata"]["generation"]
    namespace.deploy(gpus={"count": 3}, parallelism={"tensor": 3})
    condition = namespace.until_reason("HeadsNotDivisible")
    assert "32 attention heads are not divisible by TP=3" in condition["message"]
    assert namespace.condition("Stalled")["status"] == "True"
    assert namespace.get("deployment", "llama")["metadata"]["generation"] == before
    assert namespace.get("llmd", "llama")["status"]["ready"] == "1/1"
    namespace.deploy()
    namespace.until_reason("Ready")
    assert namespace.condition("Stalled") == {}
