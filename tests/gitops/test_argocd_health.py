"""Argo CD's view of an LLMDeployment, by the Lua interpreter that Argo CD embeds (gopher-lua)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders import a_plan, a_refusal, a_spec
from support import ROOT
from trtllm_operator.api_status import LLMDeploymentStatus
from trtllm_operator.crd import crd
from trtllm_operator.errors import Forbidden, NameConflict, Unavailable
from trtllm_operator.facts import Observed
from trtllm_operator.status import Outcome, status

pytestmark = pytest.mark.component  # needs Go

CONFIG_MAP = ROOT / "examples" / "gitops" / "argocd" / "argocd-cm.yaml"
SERVING = Observed(kind="Deployment", name="llama", wanted=1, replicas=1, ready=1, settled=True)
LOADING = replace(SERVING, ready=0, settled=False)
EMPTY = replace(SERVING, wanted=0, replicas=0, ready=0)
REFUSAL = a_refusal(a_spec(gpus={"count": 1}))


def _after(*outcomes: Outcome) -> dict[str, Any]:
    """The object as stored after one pass for each outcome, each for a newer generation."""
    told = LLMDeploymentStatus()
    for generation, outcome in enumerate(outcomes, start=1):
        told = status(told, "llama", generation, outcome, datetime(2026, 1, 1, tzinfo=UTC))
    stored = told.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"metadata": {"generation": len(outcomes)}, "status": stored}


def _edited(stored: dict[str, Any]) -> dict[str, Any]:
    return {**stored, "metadata": {"generation": stored["metadata"]["generation"] + 1}}


def _new() -> dict[str, Any]:
    """The object as the API server stores it before the operator has seen it."""
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    conditions = schema["properties"]["conditions"]["default"]
    return {"metadata": {"generation": 1}, "status": {**schema["default"], "conditions": conditions}}


READY = _after(Outcome(verdict=a_plan(), observed=SERVING))

STATES = [
    pytest.param({"metadata": {"generation": 1}}, "Progressing", "Waiting for the operator", id="no-status"),
    pytest.param(_new(), "Progressing", "Waiting for the operator", id="new"),
    pytest.param(_after(Outcome(verdict=a_plan())), "Progressing", "being created", id="creating"),
    pytest.param(_after(Outcome(verdict=a_plan(), observed=LOADING)), "Progressing", "0/1 replicas", id="loading"),
    pytest.param(READY, "Healthy", "1/1 replicas ready", id="ready"),
    pytest.param(_after(Outcome(verdict=a_plan(), observed=EMPTY)), "Healthy", "0/0", id="scaled-to-zero"),
    pytest.param(_edited(READY), "Progressing", "Waiting for the operator", id="edited"),
    pytest.param(_after(Outcome(verdict=REFUSAL)), "Degraded", "InsufficientMemory: ", id="refused"),
    pytest.param(
        _after(Outcome(verdict=a_plan(), observed=SERVING), Outcome(verdict=REFUSAL, observed=SERVING)),
        "Degraded",
        "InsufficientMemory: ",
        id="refused-while-serving",
    ),
    pytest.param(
        _after(Outcome(verdict=a_plan(), error=NameConflict("Service llama is somebody's"))),
        "Degraded",
        "NameConflict: Service llama is somebody's",
        id="name-conflict",
    ),
    pytest.param(
        _after(Outcome(verdict=a_plan(), error=Unavailable("no answer", status=0))),
        "Progressing",
        "no answer",
        id="api-server-away",
    ),
    pytest.param(
        _after(Outcome(verdict=a_plan(), error=Forbidden("may not", status=403))), "Progressing", "may not", id="rights"
    ),
]


def _lua(value: Any) -> str:
    """A value as a Lua expression; strings as decimal escapes, which every Lua reads."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            return '"' + "".join(f"\\{byte:03d}" for byte in value.encode()) + '"'
        case dict():
            return "{" + ", ".join(f"[{_lua(key)}] = {_lua(item)}" for key, item in value.items()) + "}"
        case _:
            return "{" + ", ".join(map(_lua, value)) + "}"


def _health(stored: dict[str, Any], directory: Path) -> tuple[str, str]:
    data = yaml.safe_load(CONFIG_MAP.read_text(encoding="utf-8"))["data"]
    script = directory / "health.lua"
    script.write_text(
        f"local obj = {_lua(stored)}\n"
        f"local function health()\n{data['resource.customizations.health.trtllm.dev_LLMDeployment']}\nend\n"
        "local answer = health()\nprint(answer.status)\nprint(answer.message)\n"
    )
    go = shutil.which("go") or str(Path(sys.executable).parent / "go")
    answer = subprocess.run(
        [go, "tool", "glua", str(script)],
        cwd=ROOT / "tools",
        env={**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    word, _, message = answer.stdout.partition("\n")
    return word, message


@pytest.mark.parametrize(("stored", "health", "message"), STATES)
def test_health(stored: dict[str, Any], health: str, message: str, tmp_path: Path) -> None:
    word, told = _health(stored, tmp_path)
    assert word == health
    assert message in told
