"""The Job that downloads a model: when there is one, what its pod is, and what it is named after."""

from __future__ import annotations

from typing import Any

import pytest

from builders import LLAMA_70B, a_model, a_plan, a_spec, placed
from support import ROOT
from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.download_job import CONTAINER, download
from trtllm_operator.naming import DOWNLOAD_ANNOTATION, DOWNLOADER_LABEL, selector_labels
from trtllm_operator.planned import Infeasible, Plan
from trtllm_operator.render import Manifest, Owner, render
from trtllm_operator.settings import Settings

OWNER = Owner(name="llama", namespace="team-a")
CLAIM = {"pvc": {"size": "200Gi"}}
EXISTING = {"pvc": {"create": False, "name": "shared", "subPath": "hub"}}
NODES = {
    "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]
    }
}


def _rendered(spec: LLMDeploymentSpec, made: Plan | None = None) -> dict[str, Manifest]:
    found = render(OWNER, spec, made or a_plan(spec), Settings())
    assert not isinstance(found, Infeasible), found
    return {manifest["kind"]: manifest for manifest in found}


def _job(cache: dict[str, Any] = CLAIM, **fields: Any) -> Manifest:
    return _rendered(a_spec(**{"modelCache": cache, **fields}))["Job"]


def _pod(cache: dict[str, Any] = CLAIM, **fields: Any) -> Manifest:
    pod: Manifest = _job(cache, **fields)["spec"]["template"]["spec"]
    return pod


def _variables(pod: Manifest) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in pod["containers"][0]["env"]}


@pytest.mark.parametrize(
    ("fields", "offline", "downloads"),
    [
        pytest.param({"modelCache": CLAIM}, "1", True, id="a claim of ours"),
        pytest.param({"modelCache": EXISTING}, "1", True, id="a claim that exists"),
        pytest.param(
            {"modelCache": {"pvc": {**EXISTING["pvc"], "accessMode": "ReadOnlyMany"}}},
            None,
            False,
            id="a claim nobody can write",
        ),
        pytest.param({"modelCache": {"emptyDir": {}}}, None, False, id="a directory of each pod"),
        pytest.param({}, None, False, id="no cache"),
        pytest.param(
            {"model": {"uri": "pvc://models/a", "shape": {"parameters": 8_000_000_000}}, "modelCache": CLAIM},
            "1",
            False,
            id="a checkpoint that is mounted",
        ),
    ],
)
def test_a_model_of_the_hub_is_downloaded_where_it_can_be_kept(
    fields: dict[str, Any], offline: str | None, downloads: bool
) -> None:
    rendered = _rendered(a_spec(**fields))
    workload = rendered["Deployment"]
    assert _variables(workload["spec"]["template"]["spec"]).get("HF_HUB_OFFLINE") == offline
    assert ("Job" in rendered) == downloads
    awaited = workload["metadata"]["annotations"].get(DOWNLOAD_ANNOTATION)
    assert awaited == (rendered["Job"]["metadata"]["name"] if downloads else None)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        pytest.param({"model": {"uri": LLAMA_70B, "revision": "abc"}}, False, id="another revision"),
        pytest.param({"model": {"uri": "hf://meta-llama/Llama-3.1-70B-Instruct"}}, False, id="another model"),
        pytest.param({"modelCache": EXISTING}, False, id="another claim"),
        pytest.param({"modelCache": {"pvc": {**CLAIM["pvc"], "subPath": "a"}}}, False, id="another directory"),
        pytest.param({"modelCache": {"pvc": {"size": "300Gi"}}}, True, id="a larger claim"),
        pytest.param({"replicas": 3}, True, id="more replicas"),
        pytest.param({"engine": {"image": {"tag": "1.3.0rc25"}}}, True, id="another image"),
        pytest.param({"model": {"uri": LLAMA_70B, "secretRef": {"name": "a"}}}, True, id="another token"),
    ],
)
def test_the_name_tells_what_is_downloaded_where(change: dict[str, Any], same: bool) -> None:
    before, after = _job(), _job(**{"cache": change.get("modelCache", CLAIM), **_without_cache(change)})
    assert (before["metadata"]["name"] == after["metadata"]["name"]) == same
    assert before["metadata"]["name"].startswith("llama-download-")


def _without_cache(change: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in change.items() if name != "modelCache"}


def test_a_larger_claim_makes_another_job_of_the_same_name() -> None:
    digests = [_job({"pvc": {"size": size}})["metadata"]["annotations"] for size in ("200Gi", "300Gi")]
    assert digests[0]["trtllm.dev/digest"] != digests[1]["trtllm.dev/digest"]


def test_the_longest_name_leaves_room_for_the_digest() -> None:
    spec = a_spec(modelCache=CLAIM)
    wanted = download("a" * 40, spec, a_plan(spec))
    assert wanted is not None
    assert len(wanted.job) <= 63


def test_nothing_that_selects_serving_pods_selects_its_pods() -> None:
    labels = _job(podMetadata={"labels": {"team": "search"}})["spec"]["template"]["metadata"]["labels"]
    assert labels["team"] == "search"
    assert labels[DOWNLOADER_LABEL] == "llama"
    assert not selector_labels("llama").items() & labels.items()


def test_a_user_s_label_cannot_make_its_pods_serve() -> None:
    spec = LLMDeploymentSpec.model_validate(
        {"model": {"uri": LLAMA_70B}, "modelCache": CLAIM, "podMetadata": {"labels": {"trtllm.dev/name": "llama"}}}
    )
    labels = _rendered(spec)["Job"]["spec"]["template"]["metadata"]["labels"]
    assert "trtllm.dev/name" not in labels


def test_it_runs_where_replicas_do_and_takes_no_gpu() -> None:
    spec = a_spec(modelCache=CLAIM, nodeSelector={"pool": "a"}, tolerations=[{"key": "a", "operator": "Exists"}])
    rendered = _rendered(spec)
    job, serving = (rendered[kind]["spec"]["template"]["spec"] for kind in ("Job", "Deployment"))
    for field in ("nodeSelector", "tolerations", "securityContext"):
        assert job[field] == serving[field]
    assert job["containers"][0]["image"] == serving["containers"][0]["image"]
    assert "nvidia.com/gpu" not in str(job["containers"][0]["resources"])
    assert _variables(job)["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_it_reads_what_serving_pods_read_and_asks_the_hub() -> None:
    proxy = {"httpsProxy": "http://proxy:3128", "caConfigMap": "authorities"}
    engine = {"env": [{"name": "HF_ENDPOINT", "value": "https://hub.example.com"}]}
    model = {"uri": LLAMA_70B, "secretRef": {"name": "hf", "key": "token"}}
    pod = _pod(model=model, proxy=proxy, engine=engine)
    variables = _variables(pod)
    assert variables["HF_TOKEN"] == {"secretKeyRef": {"name": "hf", "key": "token"}}
    assert variables["HTTPS_PROXY"] == "http://proxy:3128"
    assert variables["HF_ENDPOINT"] == "https://hub.example.com"
    assert variables["HF_HOME"] == "/cache/huggingface"
    assert "HF_HUB_OFFLINE" not in variables
    assert [container["name"] for container in pod["initContainers"]] == ["trust-store"]
    assert {volume["name"] for volume in pod["volumes"]} == {"cache", "authorities", "trust-store"}


def test_the_program_reaches_its_interpreter_as_it_is() -> None:
    program = (ROOT / "operator" / "trtllm_operator" / "data" / "fetch_model.py").read_text(encoding="utf-8")
    assert "$(" not in program, "the kubelet would expand it"
    assert _pod()["containers"][0]["command"] == ["python3", "-c", program]


def test_a_user_who_forbids_the_hub_is_obeyed() -> None:
    variables = _variables(_pod(engine={"env": [{"name": "HF_HUB_OFFLINE", "value": "1"}]}))
    assert variables["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize(
    ("mode", "affinity", "expected"),
    [
        pytest.param("ReadWriteMany", None, set(), id="many nodes"),
        pytest.param("ReadWriteMany", {"nodeAffinity": NODES}, {"nodeAffinity"}, id="nodes of the user"),
        pytest.param("ReadWriteMany", {"podAntiAffinity": {}}, set(), id="replicas apart"),
        pytest.param("ReadWriteOnce", None, {"podAffinity"}, id="one node"),
    ],
)
def test_it_is_placed_where_the_claim_can_be_mounted(mode: str, affinity: Any, expected: set[str]) -> None:
    pod = _pod({"pvc": {"size": "200Gi", "accessMode": mode}}, affinity=affinity)
    assert set(pod.get("affinity", {})) == expected
    near = pod.get("affinity", {}).get("podAffinity", {}).get("preferredDuringSchedulingIgnoredDuringExecution", [])
    assert [each["podAffinityTerm"]["labelSelector"]["matchLabels"] for each in near] == [
        selector_labels("llama")
    ] * len(expected & {"podAffinity"})


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [
        pytest.param(None, 1800 + 141_107_412_992 // 5_000_000, id="from the bytes"),
        pytest.param(3600, 1800 + 141_107_412_992 // 5_000_000, id="a shorter start does not shorten it"),
        pytest.param(86_400, 86_400, id="a longer start gives it more time"),
    ],
)
def test_the_deadline_follows_from_the_bytes(stated: int | None, seconds: int) -> None:
    assert _job(startupTimeoutSeconds=stated)["spec"]["activeDeadlineSeconds"] == seconds


def test_a_model_of_unknown_size_has_no_deadline() -> None:
    made = placed(a_model(parameters=None), gpus={"count": 1}, parallelism={"tensor": 1, "pipeline": 1})
    assert isinstance(made, Plan)
    assert "activeDeadlineSeconds" not in _rendered(a_spec(modelCache=CLAIM), made)["Job"]["spec"]


def test_failures_that_nobody_can_wait_out_end_it() -> None:
    ignored, final = _job()["spec"]["podFailurePolicy"]["rules"]
    assert (ignored["action"], final["action"]) == ("Ignore", "FailJob")
    assert final["onExitCodes"]["containerName"] == CONTAINER == _pod()["containers"][0]["name"]
