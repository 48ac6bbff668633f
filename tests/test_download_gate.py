"""What is applied while a model is downloaded."""

from __future__ import annotations

from typing import Any

import pytest

from builders import a_plan, a_spec
from fakes import as_stored
from trtllm_operator.download_gate import gate
from trtllm_operator.naming import DIGEST_ANNOTATION
from trtllm_operator.planned import Infeasible
from trtllm_operator.render import Manifest, Owner, render
from trtllm_operator.settings import Settings

EARLIER = {"uri": "hf://meta-llama/Llama-3.1-70B-Instruct"}
EVERYTHING = ("ConfigMap", "PersistentVolumeClaim", "Service", "Deployment", "HorizontalPodAutoscaler")


def _rendered(**fields: Any) -> tuple[Manifest, ...]:
    spec = a_spec(**{"modelCache": {"pvc": {"size": "200Gi"}}, "scaling": {"maxReplicas": 2}, **fields})
    found = render(Owner(name="llama", namespace="team-a", uid="u1"), spec, a_plan(spec), Settings())
    assert not isinstance(found, Infeasible), found
    return found


def _the(kind: str, **fields: Any) -> Manifest:
    (found,) = (manifest for manifest in _rendered(**fields) if manifest["kind"] == kind)
    return as_stored(found)


def _job(condition: str = "", **fields: Any) -> Manifest:
    conditions = [{"type": condition, "status": "True"}] if condition else []
    return {**_the("Job", **fields), "status": {"conditions": conditions}}


def _edited(job: Manifest) -> Manifest:
    annotations = {**job["metadata"]["annotations"], DIGEST_ANNOTATION: "another"}
    return {**job, "metadata": {**job["metadata"], "annotations": annotations}}


FIRST = ("ConfigMap", "PersistentVolumeClaim", "Service")


@pytest.mark.parametrize(
    ("jobs", "workloads", "may_prune", "admitted"),
    [
        pytest.param([], [], True, (*FIRST, "Job"), id="nothing is there yet"),
        pytest.param([_job()], [], True, (*FIRST, "Job"), id="under way"),
        pytest.param([_job("Failed")], [], True, (*FIRST, "Job"), id="failed"),
        pytest.param([_job("Complete")], [], True, EVERYTHING, id="complete"),
        pytest.param([_edited(_job("Complete"))], [], True, EVERYTHING, id="complete, of an earlier template"),
        pytest.param([_edited(_job())], [], True, FIRST, id="to be replaced"),
        pytest.param(
            [_job("Complete", model=EARLIER)],
            [_the("Deployment", model=EARLIER)],
            False,
            ("PersistentVolumeClaim", "Job"),
            id="another model serves",
        ),
        pytest.param([], [_the("Deployment")], True, (*EVERYTHING, "Job"), id="its Job is gone since"),
        pytest.param(
            [_job("Failed")], [_the("Deployment")], True, (*EVERYTHING, "Job"), id="served, and looked at again"
        ),
    ],
)
def test_what_is_admitted(
    jobs: list[Manifest], workloads: list[Manifest], may_prune: bool, admitted: tuple[str, ...]
) -> None:
    decided = gate(_rendered(), jobs, workloads)
    assert decided.may_prune == may_prune
    assert {manifest["kind"] for manifest in decided.admitted} == set(admitted)


@pytest.mark.parametrize(
    ("job", "superseded"),
    [
        pytest.param(_job(), False, id="under way"),
        pytest.param(_job("Failed"), False, id="failed, and would fail again"),
        pytest.param(_edited(_job()), True, id="under way, edited"),
        pytest.param(_edited(_job("Failed")), True, id="failed, edited"),
        pytest.param(_edited(_job("Complete")), False, id="complete, edited"),
        pytest.param(_job(model=EARLIER), True, id="under way for another model"),
        pytest.param(_job("Complete", model=EARLIER), False, id="complete for the model that serves"),
    ],
)
def test_a_job_that_differs_makes_way_unless_it_is_complete(job: Manifest, superseded: bool) -> None:
    assert gate(_rendered(), [job], []).superseded == ((job,) if superseded else ())


def test_without_a_download_everything_is_admitted() -> None:
    rendered = _rendered(modelCache=None)
    decided = gate(rendered, [_job()], [])
    assert (decided.may_prune, decided.admitted) == (True, rendered)
