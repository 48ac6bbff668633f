"""The administrator's admission policies, judged by the real API server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from control_plane import Cluster, Namespace, an_llm_deployment, wait_until
from helm import CRD
from support import ROOT
from trtllm_operator.crd import crd

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("policed")]

LIMIT = "trtllm.dev/max-gpus-per-replica"
REMOTE_CODE = "trtllm.dev/allow-remote-code"


@pytest.fixture(scope="module")
def policed(bare: Cluster) -> Iterator[Cluster]:
    """The CRD and the policies, in force."""
    bare.kubectl("create", "--filename=-", stdin=crd())
    wait_until(lambda: CRD.partition(".")[0] in bare.kubectl("api-resources", "--api-group=trtllm.dev"))
    bare.kubectl("create", "namespace", "trtllm-operator-system")
    bare.kubectl("apply", f"--kustomize={ROOT / 'config' / 'policies'}")
    wait_until(lambda: _in_force(bare))
    yield bare
    bare.kubectl("delete", f"--kustomize={ROOT / 'config' / 'policies'}")
    bare.kubectl("delete", "crd", CRD)
    bare.kubectl("delete", "namespace", "trtllm-operator-system", "--wait=false")


def _in_force(cluster: Cluster) -> bool:
    """Whether the policies refuse already what they must refuse; they come into force some time after their apply."""
    cluster.kubectl("label", "namespace", "default", f"{LIMIT}=1", "--overwrite")
    try:
        return all(
            "ValidatingAdmissionPolicy" in _answer(Namespace(cluster, "default"), spec)
            for spec in (
                {"gpus": {"count": 2}},
                {"gpus": {"count": 1}, **_image("example.com/mine")},
                {"gpus": {"count": 1}, **_remote_code(trusted=True)},
            )
        )
    finally:
        cluster.kubectl("label", "namespace", "default", f"{LIMIT}-")


def _image(repository: str) -> dict[str, Any]:
    return {"engine": {"image": {"repository": repository}}}


def _label(namespace: Namespace, key: str, value: str) -> None:
    """Label the namespace; the former answer may come for a moment yet."""
    namespace.cluster.kubectl("label", "namespace", namespace.name, f"{key}={value}", "--overwrite")


def _remote_code(*, trusted: bool | None) -> dict[str, Any]:
    return {"model": {"uri": "hf://microsoft/phi-4", "trustRemoteCode": trusted}}


def _answer(namespace: Namespace, spec: dict[str, Any]) -> str:
    """What the API server says to an LLMDeployment; it is not stored."""
    command = ("create", "--dry-run=server", "--filename=-")
    try:
        return namespace.kubectl(*command, stdin=an_llm_deployment(**spec))
    except AssertionError as refusal:
        return str(refusal)


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        pytest.param({}, "created", id="the-operator-s-default"),
        pytest.param(_image("nvcr.io/nvidia/tensorrt-llm"), "created", id="the-prefix-itself"),
        pytest.param(_image("nvcr.io/nvidia/tensorrt-llm/release"), "created", id="below-the-prefix"),
        pytest.param(
            _image("nvcr.io/nvidia/tensorrt-llm-evil/release"),
            "nvcr.io/nvidia/tensorrt-llm-evil/release is not allowed here; allowed: nvcr.io/nvidia/tensorrt-llm",
            id="same-beginning-other-repository",
        ),
        pytest.param(_image("example.com/mine"), "example.com/mine is not allowed here", id="elsewhere"),
    ],
)
def test_images(team: Namespace, spec: dict[str, Any], answer: str) -> None:
    assert answer in _answer(team, spec)


@pytest.mark.parametrize(
    ("label", "gpus", "answer"),
    [
        pytest.param(None, None, "created", id="no-label"),
        pytest.param("4", {"count": 4}, "created", id="count-at-the-limit"),
        pytest.param("4", {"maxCount": 2}, "created", id="budget-below-the-limit"),
        pytest.param("4", {"count": 8}, "8 GPUs per replica wanted, namespace", id="count-above"),
        pytest.param("4", {"maxCount": 8}, "8 GPUs per replica wanted, namespace", id="budget-above"),
        pytest.param("4", None, "set spec.gpus.count or spec.gpus.maxCount", id="planner-s-choice"),
        pytest.param("many", {"count": 1}, "type conversion error", id="label-is-no-number"),
    ],
)
def test_gpus(team: Namespace, label: str | None, gpus: dict[str, int] | None, answer: str) -> None:
    if label is not None:
        _label(team, LIMIT, label)
    wait_until(lambda: answer in _answer(team, {"gpus": gpus}), what=lambda: _answer(team, {"gpus": gpus}))


@pytest.mark.parametrize(
    ("label", "trusted", "answer"),
    [
        pytest.param(None, None, "created", id="not-said"),
        pytest.param(None, False, "created", id="not-trusted"),
        pytest.param(None, True, "spec.model.trustRemoteCode is not allowed in namespace team-", id="no-label"),
        pytest.param("true", True, "created", id="allowed-by-label"),
    ],
)
def test_remote_code(team: Namespace, label: str | None, trusted: bool | None, answer: str) -> None:
    if label is not None:
        _label(team, REMOTE_CODE, label)
    spec = _remote_code(trusted=trusted)
    wait_until(lambda: answer in _answer(team, spec), what=lambda: _answer(team, spec))


def test_any_other_value_of_the_label_allows_no_remote_code(team: Namespace) -> None:
    spec = _remote_code(trusted=True)
    _label(team, REMOTE_CODE, "true")
    wait_until(lambda: "created" in _answer(team, spec))
    _label(team, REMOTE_CODE, "false")
    wait_until(lambda: "trustRemoteCode is not allowed" in _answer(team, spec))


def test_an_object_from_before_a_policy_can_be_annotated_and_scaled_but_not_made_worse(team: Namespace) -> None:
    team.deploy(gpus={"count": 8})
    _label(team, LIMIT, "4")
    wait_until(lambda: "wanted" in _answer(team, {"gpus": {"count": 8}}))
    team.kubectl("annotate", "llmd", "llama", "note=kept")
    team.kubectl("scale", "llmd", "llama", "--replicas=2")
    patch = '--patch={"spec":{"gpus":{"count":16}}}'
    assert "16 GPUs per replica wanted" in team.kubectl("patch", "llmd", "llama", "--type=merge", patch, fails=True)
