"""What a ConfigMap of the model's own files changes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from click.testing import CliRunner

from builders import H100, a_spec
from fakes import FakeCluster, FakeMemory, Manifest
from support import ROOT, config_maps
from trtllm_operator.cli import main
from trtllm_operator.cluster import Cluster
from trtllm_operator.errors import Unavailable
from trtllm_operator.facts import ModelFacts, Source
from trtllm_operator.model_files import read_model_files
from trtllm_operator.planned import Infeasible
from trtllm_operator.reconcile import MODEL_FILES_POLL, Reconciler
from trtllm_operator.refusals import Reason
from trtllm_operator.settings import Settings
from trtllm_operator.workqueue import Key

FILES = config_maps()["acme-8b-config"]
MODEL = {"uri": "hf://acme/8b", "configMapRef": {"name": "files"}}
KEY = Key("team-a", "llama")


def test_the_files_tell_the_shape() -> None:
    facts = read_model_files(a_spec(model=MODEL).model, FILES)
    assert isinstance(facts, ModelFacts)
    assert (facts.name, facts.layers, facts.kv_heads, facts.source) == ("acme/8b", 32, 8, Source.CONFIG_MAP)


def test_without_a_reference_nothing_is_read() -> None:
    assert read_model_files(a_spec().model, None) is None


@pytest.mark.parametrize(
    ("files", "reason", "texts"),
    [
        pytest.param(None, Reason.MODEL_FILES_MISSING, ["ConfigMap files", "config.json", "configMapRef"], id="none"),
        pytest.param({}, Reason.MODEL_FILES_UNREADABLE, ["config.json: is missing", "no files"], id="empty"),
        pytest.param({"readme": ""}, Reason.MODEL_FILES_UNREADABLE, ["there are: readme"], id="another-key"),
        pytest.param({"config.json": "{"}, Reason.MODEL_FILES_UNREADABLE, ["config.json: is not JSON"], id="not-json"),
    ],
)
def test_files_that_tell_nothing_are_refused(files: Any, reason: Reason, texts: list[str]) -> None:
    refused = read_model_files(a_spec(model=MODEL).model, files)
    assert isinstance(refused, Infeasible)
    assert refused.reason is reason
    for text in texts:
        assert text in refused.message


def _reconciler(cluster: FakeCluster, memory: FakeMemory) -> Reconciler:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Reconciler(cluster=cast("Cluster", cluster), memory=memory, settings=Settings(), now=lambda: now)


def _stored() -> Manifest:
    metadata = {"namespace": "team-a", "name": "llama", "uid": "u1", "generation": 1, "resourceVersion": "7"}
    return {"metadata": metadata, "spec": {"model": MODEL}, "status": {"observedGeneration": -1}}


def _reason(memory: FakeMemory, kind: str) -> str:
    conditions = memory.deployments[KEY]["status"]["conditions"]
    return str(next(condition["reason"] for condition in conditions if condition["type"] == kind))


async def test_missing_files_are_looked_for_until_they_come() -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored())
    assert await _reconciler(cluster, memory)(KEY) == MODEL_FILES_POLL
    assert _reason(memory, "Stalled") == "ModelFilesMissing"
    cluster.stored[("ConfigMap", "files")] = {"metadata": {"name": "files"}, "data": FILES}
    cluster.stored[("LLMDeployment", "llama")] = memory.deployments[KEY]
    await _reconciler(cluster, memory)(KEY)
    assert ("apply trtllm-operator", "Deployment") in cluster.said()
    assert _reason(memory, "Planned") == "PlanSelected"


async def test_files_that_cannot_be_read_now_are_no_refusal() -> None:
    cluster, memory = FakeCluster(), FakeMemory(_stored())
    cluster.answers[("get", "ConfigMap")] = Unavailable("no", status=503)
    with pytest.raises(Unavailable):
        await _reconciler(cluster, memory)(KEY)
    assert _reason(memory, "Ready") == "APIUnavailable"


def test_render_reads_the_config_map_beside_the_object() -> None:
    text = (ROOT / "examples" / "08-air-gapped.yaml").read_text(encoding="utf-8")
    nodes = ["--nodes", f"1x8x{H100}"]
    rendered = CliRunner().invoke(main, ["render", "-f", "-", *nodes], input=text)
    assert rendered.exit_code == 0, rendered.stderr
    _, alone = text.split("---\n")
    refused = CliRunner().invoke(main, ["render", "-f", "-", *nodes], input=alone)
    assert (refused.exit_code, "ModelFilesMissing" in refused.stderr) == (3, True)


def test_a_config_map_that_is_none_is_passed_over() -> None:
    odd = json.dumps({"kind": "ConfigMap", "metadata": None})
    text = (ROOT / "examples" / "01-llama-70b.yaml").read_text(encoding="utf-8")
    result = CliRunner().invoke(main, ["render", "-f", "-", "--nodes", f"1x8x{H100}"], input=f"{odd}\n---\n{text}")
    assert result.exit_code == 0, result.stderr
