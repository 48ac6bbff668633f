"""Flux itself keeps examples/gitops on a real API server: what it applies, waits for, tells of and removes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from control_plane import Cluster, Manifest, Namespace, an_llm_deployment, wait_until
from flux import NAMESPACE, Files, Flux, files_below, running_flux
from helm import OPERATOR_CHART
from operator_process import running_operator
from support import ROOT
from trtllm_operator.sandbox import Sandbox

pytestmark = [pytest.mark.component, pytest.mark.flux]

EXAMPLE = ROOT / "examples" / "gitops"
MODEL = "llama-70b"
SECOND = "llama-8b"
OPERATOR = "trtllm-operator"
OPERATOR_NAMESPACE = "trtllm-operator-system"
HELM_CHART = f"{NAMESPACE}-{OPERATOR}"
# Longer than Flux waits between two looks at what it applied, so that a verdict at the first look is seen to be early.
READY_AFTER = "12s"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Sandbox.start() as sandbox:
        yield Cluster(sandbox)


@pytest.fixture(scope="module")
def flux(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flux]:
    """Flux, bootstrapped with the examples; the operator is installed by it, but does not run yet."""
    with running_flux(cluster, tmp_path_factory.mktemp("flux")) as flux:
        revision = flux.commit(_slow())
        wait_until(lambda: flux.has("helmchart", HELM_CHART), what=lambda: str(flux.told(OPERATOR)))
        flux.until_told("models", "DependencyNotReady")
        flux.commit(files_below(OPERATOR_CHART), repository=OPERATOR)
        flux.publish_chart(HELM_CHART, OPERATOR_CHART)
        flux.until_applied(OPERATOR, revision)
        yield flux


@pytest.fixture(scope="module")
def team(flux: Flux, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """The namespace of the models, and the operator that Flux has installed."""
    with running_operator(flux.cluster, OPERATOR_NAMESPACE, OPERATOR, tmp_path_factory.mktemp("operator")):
        yield Namespace(flux.cluster, "team-a")


@pytest.fixture
def served(flux: Flux, team: Namespace) -> dict[str, Manifest]:
    """The model of the examples and its children, served as they are committed."""
    flux.until_applied("models", flux.commit(_example()))
    team.ready(MODEL)
    return _objects(team, MODEL)


def _example() -> dict[str, bytes]:
    return files_below(EXAMPLE)


def _edited(**spec: Any) -> Files:
    """The examples with these fields in the spec of their model."""
    files = _example()
    path = f"models/{MODEL}.yaml"
    manifest = yaml.safe_load(files[path])
    return {**files, path: _yaml({**manifest, "spec": {**manifest["spec"], **spec}})}


def _slow() -> Files:
    return _edited(podMetadata={"annotations": {"sandbox.trtllm.dev/ready-after": READY_AFTER}})


def _with_second_model() -> Files:
    files = _example()
    kustomization = yaml.safe_load(files["models/kustomization.yaml"])
    kustomization["resources"].append(f"{SECOND}.yaml")
    added = {"models/kustomization.yaml": kustomization, f"models/{SECOND}.yaml": an_llm_deployment(SECOND)}
    return {**files, **{path: _yaml(manifest) for path, manifest in added.items()}}


def _yaml(manifest: Manifest) -> bytes:
    return yaml.safe_dump(manifest).encode()


def _objects(team: Namespace, name: str) -> dict[str, Manifest]:
    """An LLMDeployment, if it is there, its children and their pods, by kind and name."""
    found = team.list("deployments", "services", "configmaps", "pods", selector=f"trtllm.dev/name={name}")
    stored = team.find("llmd", name)
    return {f"{item['kind']} {item['metadata']['name']}": item["metadata"] for item in [*found, stored] if item}


def _uids(objects: dict[str, Manifest]) -> dict[str, str]:
    return {name: metadata["uid"] for name, metadata in objects.items()}


def test_the_models_are_ready_no_sooner_than_their_pods(flux: Flux, team: Namespace) -> None:
    told = flux.until_applied("models", flux.commit(_slow()))
    since = [_since_ready(pod) for pod in team.list("pods", selector=f"trtllm.dev/name={MODEL}")]
    assert told.ready["lastTransitionTime"] >= max(since)


def _since_ready(pod: Manifest) -> str:
    (condition,) = (found for found in pod["status"]["conditions"] if found["type"] == "Ready")
    assert condition["status"] == "True"
    return str(condition["lastTransitionTime"])


def test_a_refused_edit_fails_at_once_and_what_serves_serves_on(
    flux: Flux, team: Namespace, served: dict[str, Manifest]
) -> None:
    failed = flux.until_failed("models", flux.commit(_edited(gpus={"count": 1}))).ready
    assert failed["reason"] == "HealthCheckFailed"
    assert f"LLMDeployment/team-a/{MODEL} status: 'Failed'" in failed["message"]
    assert team.condition("Stalled", MODEL)["reason"] == "InsufficientMemory"
    assert _uids(_objects(team, MODEL)) == _uids(served)
    flux.until_applied("models", flux.commit(_example()))
    assert _uids(_objects(team, MODEL)) == _uids(served)


def test_reconciling_again_writes_nothing(flux: Flux, team: Namespace, served: dict[str, Manifest]) -> None:
    for _ in range(2):
        flux.reconcile("models")
    assert _objects(team, MODEL) == served


@pytest.mark.usefixtures("served")
def test_an_edit_by_hand_is_put_back(flux: Flux, team: Namespace) -> None:
    team.kubectl("patch", "llmd", MODEL, "--type=merge", '--patch={"spec": {"dtype": "float16"}}')
    flux.reconcile("models")
    assert team.get("llmd", MODEL)["spec"]["dtype"] == "bfloat16"


@pytest.mark.usefixtures("served")
def test_replicas_that_git_does_not_name_belong_to_who_scales(flux: Flux, team: Namespace) -> None:
    team.kubectl("scale", "llmd", MODEL, "--replicas=2")
    flux.reconcile("models")
    assert team.get("llmd", MODEL)["spec"]["replicas"] == 2


def test_a_removed_model_is_pruned_with_its_children_and_no_other(
    flux: Flux, team: Namespace, served: dict[str, Manifest]
) -> None:
    flux.until_applied("models", flux.commit(_with_second_model()))
    kinds = {name.split()[0] for name in _objects(team, SECOND)}
    assert kinds == {"LLMDeployment", "Deployment", "Service", "ConfigMap", "Pod"}
    flux.until_applied("models", flux.commit(_example()))
    wait_until(lambda: not _objects(team, SECOND), what=lambda: f"left: {list(_objects(team, SECOND))}")
    assert _uids(_objects(team, MODEL)) == _uids(served)
