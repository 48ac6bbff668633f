from __future__ import annotations

from typing import Any

import pytest

from support import ROOT
from trtllm_operator.diagnose import FailureReason, diagnose, failure, failures, wordings
from trtllm_operator.sandbox.fake_trtllm_serve import faults

HUB = "https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct/resolve/main/config.json"

ENGINE: list[tuple[str, str]] = [
    (faults.AT_LOAD["out-of-memory"], "KVCacheOutOfMemory"),
    ("The following component could not be created: Model\ninsufficient GPU memory.", "GPUOutOfMemory"),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 40.00 MiB.", "GPUOutOfMemory"),
    ("[TensorRT-LLM][ERROR] CUDA runtime error in ::cudaMallocAsync(ptr, n, s): out of memory", "GPUOutOfMemory"),
    (faults.AT_LOAD["unknown-architecture"], "ArchitectureUnsupported"),
    (faults.AT_LOAD["spawn-failure"], "RanksNotStarted"),
    ("Please pass the argument `trust_remote_code=True` to allow custom code to be run.", "RemoteCodeRequired"),
    ("ValueError: unsupported quant mode: 1024", "DtypeUnsupported"),
    (f"huggingface_hub.errors.GatedRepoError: 401 Client Error.\nCannot access gated repo for url {HUB}.",
     "GatedRepository"),
    (f"huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error.\nRepository Not Found for url: {HUB}.",
     "ModelNotFound"),
    (f"requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: {HUB}", "HubUnauthorized"),
    ("OSError: We couldn't connect to 'https://huggingface.co' to load this file", "HubUnreachable"),
    ("OSError: [Errno 28] No space left on device", "DiskFull"),
    ("RuntimeError: Failed, NCCL error /src/opUtils.cpp:125 'unhandled system error (run with NCCL_DEBUG=INFO)'",
     "GPUsUnreachable"),
    ("RuntimeError: The NVIDIA driver on your system is too old: CUDA driver version is insufficient",
     "DriverUnsuitable"),
    ("[Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): address already in use", "PortTaken"),
    ("Usage: trtllm-serve serve [OPTIONS] MODEL\n\nError: No such option: --tensor_parallel", "UnknownFlag"),
    ("exec /usr/local/bin/trtllm-serve: exec format error", "ImageArchitecture"),
    ("1 validation error for TorchLlmArgs\nkv_cache\n  Extra inputs are not permitted", "UnknownConfigKey"),
]  # fmt: skip

OTHERS: list[tuple[str, str, str]] = [
    ("admission", 'pods "x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=4', "QuotaExceeded"),
    ("admission", 'pods "x" is forbidden: failed quota: cpu: must specify limits.cpu for: main', "QuotaIncomplete"),
    ("admission", 'pods "x" is forbidden: violates PodSecurity "restricted:latest"', "PodSecurity"),
    ("admission", "maximum nvidia.com/gpu usage per Container is 1, but limit is 2", "LimitRangeExceeded"),
    ("admission", "maximum memory usage per Container is 1Gi, but limit is 2Gi", "LimitRangeExceeded"),
    ("admission", 'error looking up service account a/b: serviceaccount "b" not found', "ServiceAccountMissing"),
    ("admission", 'pods "x" is forbidden: no PriorityClass with name gold was found', "PriorityClassMissing"),
    ("admission", 'pod rejected: RuntimeClass "nvidia" not found', "RuntimeClassMissing"),
    ("admission", 'admission webhook "policy.example.com" denied the request: no', "PolicyDenied"),
    ("image", 'ErrImagePull failed to pull "a/b:1": unexpected status 403 Forbidden', "ImagePullUnauthorized"),
    ("image", 'ImagePullBackOff failed to resolve reference "a/b:1": a/b:1: not found', "ImageNotFound"),
    ("image", "ErrImagePull dial tcp: lookup registry: no such host", "RegistryUnreachable"),
    ("image", "ErrImagePull no match for platform in manifest: not found", "ImageArchitecture"),
    ("container", 'CreateContainerConfigError secret "hf" not found', "SecretMissing"),
    ("container", "CreateContainerConfigError couldn't find key HF_TOKEN in Secret a/hf", "SecretMissing"),
    ("container", 'CreateContainerConfigError configmap "c" not found', "ConfigMapMissing"),
    ("start", 'MountVolume.SetUp failed for volume "authorities" : configmap "corp-ca" not found', "ConfigMapMissing"),
    ("start", 'failed for volume "authorities" : configmap references non-existent config key: a', "ConfigMapMissing"),
    ("start", 'failed for volume "cache" : hostPath type check failed: /models is not a directory', "VolumeMissing"),
    ("start", 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) llama-1', "VolumeInUse"),
    ("start", 'failed to get sandbox runtime: no runtime for "nvidia" is configured', "RuntimeClassMissing"),
    ("scheduling", '0/2 nodes are available: persistentvolumeclaim "weights" not found.', "VolumeMissing"),
    ("scheduling", "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.", "VolumeUnbound"),
]

TEXTS = [*(("engine", *row) for row in ENGINE), *OTHERS]


@pytest.mark.parametrize(("section", "text", "reason"), TEXTS, ids=[f"{text[2]}-{n}" for n, text in enumerate(TEXTS)])
def test_a_text_is_recognised_and_what_to_change_named(section: str, text: str, reason: str) -> None:
    found = diagnose(section, f"noise before\n{text}\nnoise after")
    assert found is not None
    assert found.reason == reason
    assert all(line in text for line in found.line.split("; "))
    assert "spec." in found.hint or reason in ("PortTaken", "DriverUnsuitable", "PolicyDenied")


def test_every_wording_is_reached_by_a_text() -> None:
    found = {(section, told.reason, told.hint) for section, text, _ in TEXTS if (told := diagnose(section, text))}
    assert found == {(section, row.reason, row.advice) for section, rows in wordings().items() for row in rows}


@pytest.mark.parametrize(
    ("text", "figures"),
    [
        pytest.param(
            faults.AT_LOAD["out-of-memory"],
            ["Total GPU memory (GiB): 79.11", "Free GPU memory before component creation attempt (GiB): 1.02"],
            id="kv-cache",
        ),
        pytest.param(
            "insufficient GPU memory.\ntorch.OutOfMemoryError: Tried to allocate 2.50 GiB. GPU 0 has 1.02 GiB free.",
            ["Tried to allocate 2.50 GiB", "1.02 GiB free"],
            id="allocation",
        ),
    ],
)
def test_the_lines_with_the_figures_are_quoted(text: str, figures: list[str]) -> None:
    found = diagnose("engine", text)
    assert found is not None
    assert [figure for figure in figures if figure not in found.line] == []
    assert len(found.line.split("; ")) == len(set(found.line.split("; ")))


def test_a_wording_that_nobody_verified_says_so() -> None:
    rows = [row for rows in wordings().values() for row in rows]
    assert any(row.unverified for row in rows)
    for row in rows:
        assert row.source
        assert ("not verified" in row.advice) == row.unverified


@pytest.mark.parametrize("section", wordings())
@pytest.mark.parametrize("text", ["", "something else entirely"])
def test_an_unknown_text_is_not_guessed_at(section: str, text: str) -> None:
    assert diagnose(section, text) is None


@pytest.mark.parametrize(
    ("ended", "reason", "told"),
    [
        pytest.param({"exitCode": 1, "message": ENGINE[0][0]}, "KVCacheOutOfMemory", "KV cache", id="engine-text"),
        pytest.param({"exitCode": 137, "reason": "OOMKilled"}, "OutOfMemory", "has no limit", id="oom-killed"),
        pytest.param({"exitCode": 1, "message": "a\nlast words\n"}, "CrashLoop", "last words", id="unknown-text"),
        pytest.param({"exitCode": 3}, "CrashLoop", "trtllm-serve exited with code 3", id="no-text"),
        pytest.param({"exitCode": 139}, "CrashLoop", "signal 11", id="signal"),
    ],
)
def test_how_a_container_ended(ended: dict[str, Any], reason: str, told: str) -> None:
    found = failure({"metadata": {"name": "llama-1"}}, "trtllm-serve", ended)
    assert (found.reason, found.exit_code, found.pod) == (reason, ended["exitCode"], "llama-1")
    assert told in found.message


def test_a_memory_limit_that_was_met_is_told() -> None:
    limited = {"name": "trtllm-serve", "resources": {"limits": {"memory": "24Gi"}}}
    pod = {"metadata": {"name": "llama-1"}, "spec": {"containers": [{"name": "sidecar"}, limited]}}
    found = failure(pod, "trtllm-serve", {"exitCode": 137, "reason": "OOMKilled"})
    assert found.message == "killed at its host memory limit of 24Gi"
    assert "spec.resources.limits.memory" in found.hint


def test_a_container_that_ended_on_purpose_has_not_failed() -> None:
    status = {"containerStatuses": [{"lastState": {"terminated": {"exitCode": 0}}, "state": {"running": {}}}]}
    assert list(failures([{"metadata": {"name": "x"}, "status": status}])) == []


@pytest.mark.parametrize("reason", FailureReason)
def test_every_reason_is_in_the_troubleshooting_page(reason: str) -> None:
    assert f"| `{reason}` |" in (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
