"""What ModelReady says, and what Ready makes of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from builders import a_plan, a_spec
from trtllm_operator.api_status import LLMDeploymentStatus
from trtllm_operator.download_job import download
from trtllm_operator.download_status import model_finding
from trtllm_operator.errors import Forbidden
from trtllm_operator.facts import Observed, Problem
from trtllm_operator.features import Features
from trtllm_operator.findings import Finding, LiveObjects
from trtllm_operator.naming import DOWNLOAD_ANNOTATION
from trtllm_operator.status import Outcome, status, transitions

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = a_spec(modelCache={"pvc": {"size": "200Gi"}})
PLAN = a_plan(SPEC)
SERVES = Observed(kind="Deployment", name="llama", wanted=1, replicas=1, ready=1, settled=True)
GAVE_UP = "1 pod failed"


def _wanted() -> str:
    wanted = download("llama", SPEC, PLAN)
    assert wanted is not None
    return wanted.job


def _job(condition: str = "", reason: str = "", **told: Any) -> dict[str, Any]:
    conditions = [{"type": condition, "status": "True", "reason": reason, "message": GAVE_UP}] if condition else []
    return {"metadata": {"name": _wanted(), "uid": "j1"}, "status": {"conditions": conditions, **told}}


def _pod(number: int = 0, owner: str = "j1", **told: Any) -> dict[str, Any]:
    created = f"2026-01-01T00:0{number}:00Z"
    metadata = {"name": f"p{number}", "creationTimestamp": created, "ownerReferences": [{"uid": owner}]}
    return {"metadata": metadata, "status": told}


def _ended(code: int, message: str, number: int = 0, owner: str = "j1") -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": "Error", "message": message}}
    return _pod(number, owner, containerStatuses=[{"state": state}])


def _waits(reason: str, message: str) -> dict[str, Any]:
    return _pod(containerStatuses=[{"state": {"waiting": {"reason": reason, "message": message}}}])


def _found(
    *pods: dict[str, Any],
    job: dict[str, Any] | None = None,
    serves: str = "",
    unstarted: dict[str, Problem] | None = None,
) -> Finding:
    workload = {"metadata": {"annotations": {DOWNLOAD_ANNOTATION: serves}}}
    live = LiveObjects(
        found={},
        absent={},
        jobs=() if job is None else (job,),
        download_pods=pods,
        unstarted=unstarted or {},
        workloads=(workload,),
    )
    return model_finding("llama", SPEC, PLAN, live)


@pytest.mark.parametrize(
    ("job", "pods", "reason", "told"),
    [
        pytest.param(None, (), "Downloading", ["is being created"], id="no Job yet"),
        pytest.param(_job(), (), "Downloading", ["no pod", "kubectl describe job llama-download-"], id="no pod yet"),
        pytest.param(
            _job(startTime="2026-01-01T00:00:00Z"),
            (_pod(),),
            "Downloading",
            [
                "weights of 131.4 GiB",
                "claim llama-models",
                "since 2026-01-01T00:00:00Z",
                "kubectl logs job/llama-download-",
            ],
            id="runs",
        ),
        pytest.param(
            _job(failed=2),
            (_ended(1, "ConnectionError: old"), _ended(1, "noise\nConnectionError: reset\n", 1), _pod(2)),
            "Downloading",
            ["2 attempts failed", "ConnectionError: reset"],
            id="tries again",
        ),
        pytest.param(
            _job(), (_waits("ImagePullBackOff", "no such tag"),), "ImageNotFound", ["no such tag"], id="no image"
        ),
        pytest.param(
            _job(),
            (_waits("CreateContainerConfigError", 'secret "hf" not found'),),
            "SecretMissing",
            ['secret "hf" not found', "spec.model.secretRef"],
            id="no secret",
        ),
        pytest.param(
            _job(),
            (_pod(conditions=[{"type": "PodScheduled", "status": "False", "message": "unbound claim"}]),),
            "Unschedulable",
            ["unbound claim"],
            id="no node",
        ),
    ],
)
def test_a_download_that_goes_on(job: Any, pods: tuple[Any, ...], reason: str, told: list[str]) -> None:
    found = _found(*pods, job=job)
    assert (found.status, found.reason) == ("False", reason)
    assert [text for text in told if text not in found.message] == []


def test_a_download_whose_pod_does_not_start_tells_what_its_events_say() -> None:
    problem = Problem(reason="VolumeNotMounted", message="pod p0: no such volume")
    found = _found(_pod(), job=_job(), unstarted={"p0": problem})
    assert (found.status, found.reason) == ("False", "VolumeNotMounted")
    assert found.message.startswith("pod p0: no such volume; this holds up the download of ")
    assert _found(_pod(1), job=_job(), unstarted={"p0": problem}).reason == "Downloading"


@pytest.mark.parametrize(
    ("reason", "pods", "told"),
    [
        pytest.param(
            "PodFailurePolicy",
            (_ended(10, "GatedRepoError: 403 Client Error"),),
            ["GatedRepoError: 403 Client Error", "spec.model.secretRef"],
            id="no access",
        ),
        pytest.param(
            "PodFailurePolicy",
            (_ended(11, "RepositoryNotFoundError: 404"),),
            ["RepositoryNotFoundError: 404", "spec.model.uri", "spec.model.revision"],
            id="not there",
        ),
        pytest.param(
            "PodFailurePolicy",
            (_ended(12, "OSError: [Errno 28] No space left on device"),),
            ["No space left on device", "spec.modelCache.pvc.size"],
            id="no space",
        ),
        pytest.param("DeadlineExceeded", (), ["DeadlineExceeded", "spec.startupTimeoutSeconds"], id="too slow"),
        pytest.param("BackoffLimitExceeded", (_ended(137, ""),), [GAVE_UP, "exit code 137"], id="killed"),
        pytest.param(
            "BackoffLimitExceeded",
            (_ended(1, "of this Job"), _ended(1, "of another", 1, owner="j0")),
            ["of this Job"],
            id="another Job's pod is not asked",
        ),
    ],
)
def test_a_download_that_was_given_up(reason: str, pods: tuple[Any, ...], told: list[str]) -> None:
    found = _found(*pods, job=_job("Failed", reason))
    assert (found.status, found.reason) == ("False", "DownloadFailed")
    assert [text for text in told if text not in found.message] == []
    assert "when the Job is deleted" in found.message


@pytest.mark.parametrize(
    ("job", "serves"),
    [
        pytest.param(_job("Complete"), "", id="complete"),
        pytest.param(None, _wanted(), id="served already"),
        pytest.param(_job("Failed"), _wanted(), id="served already, and looked at again in vain"),
    ],
)
def test_a_model_that_is_there(job: Any, serves: str) -> None:
    found = _found(job=job, serves=serves)
    assert (found.status, found.reason) == ("True", "Downloaded")
    assert "claim llama-models" in found.message


@pytest.mark.parametrize(
    ("fields", "reason", "told"),
    [
        pytest.param({}, "FetchedByPods", "spec.modelCache.pvc", id="no cache"),
        pytest.param({"modelCache": {"emptyDir": {}}}, "FetchedByPods", "each pod", id="a directory of each pod"),
        pytest.param(
            {"model": {"uri": "pvc://models/a", "shape": {"parameters": 8_000_000_000}}},
            "Mounted",
            "pvc://models/a",
            id="a volume",
        ),
    ],
)
def test_a_model_that_nobody_downloads_first(fields: dict[str, Any], reason: str, told: str) -> None:
    spec = a_spec(**fields)
    found = model_finding("llama", spec, a_plan(spec), LiveObjects(found={}, absent={}))
    assert (found.status, found.reason) == ("True", reason)
    assert told in found.message


def _outcome(model: Finding, observed: Observed | None = None, error: Forbidden | None = None) -> Outcome:
    around = Features(workload=None, findings=(model,), url="", cost=None)
    return Outcome(verdict=PLAN, features=around, observed=observed, error=error)


def _conditions(told: LLMDeploymentStatus) -> dict[str, tuple[str, str]]:
    return {condition.type: (condition.status, condition.reason) for condition in told.conditions}


def _told(outcome: Outcome, before: LLMDeploymentStatus | None = None) -> LLMDeploymentStatus:
    return status(before or LLMDeploymentStatus(), "llama", 1, outcome, NOW)


DOWNLOADING, FAILED = _found(job=_job()), _found(job=_job("Failed"))


@pytest.mark.parametrize(
    ("outcome", "ready", "kind"),
    [
        pytest.param(_outcome(DOWNLOADING), "Downloading", "Reconciling", id="downloading"),
        pytest.param(_outcome(DOWNLOADING, SERVES), "Downloading", "Reconciling", id="while another model serves"),
        pytest.param(_outcome(FAILED, SERVES), "DownloadFailed", "Stalled", id="given up"),
        pytest.param(
            _outcome(DOWNLOADING, error=Forbidden("jobs", status=403)), "Forbidden", "Reconciling", id="no right to try"
        ),
    ],
)
def test_ready_waits_for_the_model(outcome: Outcome, ready: str, kind: str) -> None:
    conditions = _conditions(_told(outcome))
    assert conditions["Ready"] == ("False", ready)
    assert conditions[kind] == ("True", ready)


@pytest.mark.parametrize(
    ("observed", "told"),
    [
        pytest.param(None, "nothing runs", id="the first model"),
        pytest.param(SERVES, "1/1 replicas ready", id="while another model serves"),
    ],
)
def test_the_workload_says_that_it_waits(observed: Observed | None, told: str) -> None:
    (found,) = (c for c in _told(_outcome(DOWNLOADING, observed)).conditions if c.type == "WorkloadReady")
    assert (found.status, found.reason) == ("False", "WaitingForModel")
    assert told in found.message


def test_a_refused_spec_keeps_what_was_told_of_the_model() -> None:
    before = _told(_outcome(_found(job=_job("Complete")), SERVES))
    told = _told(Outcome(verdict=None, observed=SERVES, error=Forbidden("x", status=403)), before)
    assert _conditions(told)["ModelReady"] == ("True", "Downloaded")


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        pytest.param(None, DOWNLOADING, [], id="a download begins"),
        pytest.param(DOWNLOADING, _found(job=_job("Complete")), ["Downloaded"], id="it ends"),
        pytest.param(DOWNLOADING, FAILED, ["DownloadFailed"], id="it is given up"),
        pytest.param(None, _found(job=_job("Complete")), [], id="it was there"),
    ],
)
def test_the_end_of_a_download_is_an_event(before: Finding | None, after: Finding, events: list[str]) -> None:
    old = _told(_outcome(before)) if before else LLMDeploymentStatus()
    told = [transition.reason for transition in transitions(old, _told(_outcome(after), old))]
    assert told == events
