"""A model is on its claim before a pod takes a GPU; what serves is left alone until then."""

from __future__ import annotations

import json
from typing import Any

import pytest

from control_plane import Manifest, Namespace, wait_until
from trtllm_operator.download_job import NO_ACCESS
from trtllm_operator.kinds import POD
from trtllm_operator.naming import DOWNLOADER_LABEL

pytestmark = pytest.mark.component

CACHE = {"pvc": {"size": "200Gi"}}
ANOTHER = {"uri": "hf://Qwen/Qwen3-8B"}
UNENDING = {"annotations": {"sandbox.trtllm.dev/ready-after": "1h"}}
OPERATOR = "system:serviceaccount:trtllm-operator-system:trtllm-operator"


@pytest.fixture
def volume(namespace: Namespace) -> None:
    namespace.offer_volume("llama-models")


def _fetching(namespace: Namespace) -> Manifest:
    """Wait for the pod that downloads; return it when it runs."""

    def running() -> Manifest | None:
        pods = namespace.list("pods", selector=f"{DOWNLOADER_LABEL}=llama")
        return next((pod for pod in pods if pod["status"].get("phase") == "Running"), None)

    found: Manifest = wait_until(running, what=lambda: str(namespace.list("pods")))
    return found


def _end(namespace: Namespace, pod: Manifest, code: int, message: str = "") -> None:
    """Report the end of the pod's container as a kubelet does."""
    (container,) = pod["status"]["containerStatuses"]
    stamp = container["state"]["running"]["startedAt"]
    ended = {"exitCode": code, "message": message, "reason": "Error" if code else "Completed"}
    ended |= {"startedAt": stamp, "finishedAt": stamp}
    phase = "Failed" if code else "Succeeded"
    status = {"phase": phase, "containerStatuses": [{**container, "ready": False, "state": {"terminated": ended}}]}
    patch = json.dumps({"status": status})
    namespace.kubectl(
        "patch", "pod", pod["metadata"]["name"], "--subresource=status", "--type=merge", f"--patch={patch}"
    )


def _served(namespace: Namespace) -> Any:
    return namespace.get("deployment", "llama")["spec"]["template"]["spec"]["containers"][0]["args"][0]


@pytest.mark.usefixtures("volume")
def test_the_workload_comes_when_the_model_is_there(namespace: Namespace) -> None:
    namespace.deploy(modelCache=CACHE, podMetadata=UNENDING)
    pod = _fetching(namespace)
    namespace.until_reason("Downloading")
    wait_until(lambda: "claim llama-models since" in namespace.condition()["message"])
    assert namespace.condition("Reconciling")["status"] == "True"
    assert namespace.find("service", "llama"), "what needs no GPU is there at once"
    assert not namespace.list("deployments")
    assert not namespace.list("pods", selector="trtllm.dev/name=llama"), "the pod that downloads does not serve"
    _end(namespace, pod, 0)
    wait_until(lambda: namespace.list("deployments"))
    namespace.until_reason("Downloaded", "ModelReady")


@pytest.mark.usefixtures("volume")
def test_a_download_that_cannot_start_says_why_until_it_starts(namespace: Namespace) -> None:
    namespace.deploy(modelCache=CACHE, podMetadata=UNENDING)
    pod = _fetching(namespace)
    namespace.strand(pod, "FailedMount", 'MountVolume.MountDevice failed for volume "models" : no such driver')
    told = namespace.until_reason("VolumeNotMounted", "ModelReady")["message"]
    assert f"pod {pod['metadata']['name']}: MountVolume.MountDevice failed" in told
    namespace.patch_status(POD, pod["metadata"]["name"], pod["status"])
    namespace.until_reason("Downloading", "ModelReady")


@pytest.mark.usefixtures("volume")
def test_each_child_is_written_once(namespace: Namespace) -> None:
    namespace.deploy(modelCache=CACHE)
    namespace.ready()
    written = [
        entry["objectRef"]["resource"]
        for entry in namespace.cluster.audit()
        if entry["user"]["username"] == OPERATOR
        and entry["verb"] in ("create", "patch", "delete")
        and entry["objectRef"].get("namespace") == namespace.name
        and entry["objectRef"]["resource"] not in ("llmdeployments", "events")
    ]
    assert sorted(written) == ["configmaps", "deployments", "jobs", "persistentvolumeclaims", "services"]


@pytest.mark.usefixtures("volume")
def test_a_failure_is_told_in_the_program_s_words_and_mended_by_the_field_it_names(namespace: Namespace) -> None:
    namespace.deploy(modelCache=CACHE, podMetadata=UNENDING)
    _end(namespace, _fetching(namespace), NO_ACCESS, "noise\nGatedRepoError: access is restricted")
    told = namespace.until_reason("DownloadFailed")
    assert "GatedRepoError: access is restricted" in told["message"]
    assert "spec.model.secretRef" in told["message"]
    assert namespace.condition("Stalled")["status"] == "True"
    assert not namespace.list("deployments")
    model = {"uri": "hf://meta-llama/Llama-3.1-8B-Instruct", "secretRef": {"name": "hf-token"}}
    namespace.deploy(modelCache=CACHE, model=model)
    namespace.ready()


@pytest.mark.usefixtures("volume")
def test_replicas_of_the_earlier_model_serve_until_another_is_there(namespace: Namespace) -> None:
    namespace.deploy(modelCache=CACHE)
    namespace.ready()
    before = namespace.get("deployment", "llama")
    namespace.deploy(modelCache=CACHE, model=ANOTHER, podMetadata=UNENDING)
    pod = _fetching(namespace)
    namespace.until_reason("Downloading")
    meanwhile = namespace.get("deployment", "llama")
    assert meanwhile["metadata"]["generation"] == before["metadata"]["generation"]
    assert meanwhile["status"]["readyReplicas"] == 1
    (mounted,) = [
        volume["configMap"]["name"]
        for volume in meanwhile["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "engine-config"
    ]
    assert namespace.find("configmap", mounted), "a pod that starts once more reads its own file"
    _end(namespace, pod, 0)
    wait_until(lambda: _served(namespace) == "Qwen/Qwen3-8B")


@pytest.mark.usefixtures("volume")
def test_a_way_back_needs_no_download(namespace: Namespace) -> None:
    namespace.deploy(modelCache=CACHE)
    namespace.ready()
    before = namespace.get("deployment", "llama")["metadata"]["generation"]
    namespace.deploy(modelCache=CACHE, model=ANOTHER, podMetadata=UNENDING)
    _fetching(namespace)
    namespace.deploy(modelCache=CACHE)
    namespace.ready()
    wait_until(lambda: len(namespace.list("jobs")) == 1, what=lambda: "the download nobody wants any more goes on")
    assert namespace.get("deployment", "llama")["metadata"]["generation"] == before


@pytest.mark.usefixtures("volume")
def test_a_finished_job_that_is_deleted_runs_again_and_disturbs_nobody(namespace: Namespace) -> None:
    namespace.deploy(modelCache=CACHE)
    namespace.ready()
    (job,) = namespace.list("jobs")
    flips = namespace.condition()["lastTransitionTime"], namespace.condition("ModelReady")["lastTransitionTime"]
    namespace.kubectl("delete", "job", job["metadata"]["name"], "--wait=false")
    wait_until(lambda: {found["metadata"]["uid"] for found in namespace.list("jobs")} - {job["metadata"]["uid"]})
    wait_until(lambda: namespace.list("jobs")[0]["status"].get("succeeded"))
    now = namespace.condition()["lastTransitionTime"], namespace.condition("ModelReady")["lastTransitionTime"]
    assert now == flips
