from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from test_hub import endpoint  # noqa: F401 - a Hub on this machine
from test_model_config import LLAMA
from trtllm_operator.api import Dtype
from trtllm_operator.checkpoints import Checkpoint
from trtllm_operator.cli import main
from trtllm_operator.model_sources import SourceError, find_checkpoint
from trtllm_operator.shorthand import Misread

TOTAL_SIZE = 141_107_412_992


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    model = tmp_path / "My Model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    index = {"metadata": {"total_size": TOTAL_SIZE}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return model


def _run(*arguments: str, text: str | None = None, **environment: str) -> Result:
    unset = {"HF_TOKEN": None, "HF_ENDPOINT": None}
    return CliRunner().invoke(main, ["plan", *arguments], input=text, env={**unset, **environment})


def test_a_directory_is_stated_by_the_shape_of_its_files(directory: Path) -> None:
    found = find_checkpoint(str(directory), None, ask_hub=False)
    assert isinstance(found, Checkpoint)
    assert found.uri == "hf://placeholder/My-Model"
    assert (found.dtype, found.shape["weightBytes"], found.shape["layers"]) == (Dtype.BFLOAT16, TOTAL_SIZE, 80)
    assert any("set spec.model.uri" in note for note in found.notes)


def test_a_directory_in_another_dtype_is_hypothetical(directory: Path) -> None:
    found = find_checkpoint(str(directory), Dtype.FP8, ask_hub=False)
    assert isinstance(found, Checkpoint)
    assert (found.uri, found.dtype) == ("hf://placeholder/My-Model-fp8", Dtype.FP8)
    assert "weightBytes" not in found.shape


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        pytest.param("config.json", "{", "config.json: is not JSON", id="not JSON"),
        pytest.param("config.json", None, "config.json: is missing", id="no config"),
        pytest.param("config.json", b"\xff\xfe", "can't decode", id="not UTF-8"),
        pytest.param("model.safetensors.index.json", " " * 50_000_001, "50000001 characters", id="huge"),
    ],
)
def test_a_directory_that_tells_nothing_is_invalid(directory: Path, file: str, text: Any, said: str) -> None:
    (directory / file).unlink()
    if text is not None:
        (directory / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    result = _run("--model", str(directory), "--gpus", "8xH100")
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def _from_hub(endpoint: str, *arguments: str, **environment: str) -> Result:  # noqa: F811
    return _run("--hub", "--gpus", "8xH100", *arguments, HF_ENDPOINT=endpoint, **environment)


def test_the_hub_is_asked_on_demand_only(endpoint: str) -> None:  # noqa: F811
    assert "Infeasible: ModelSizeUnknown" in _run("--model", "acme/llm", "--gpus", "8xH100").stdout
    answer = json.loads(_from_hub(endpoint, "--model", "acme/llm", "-o", "json").stdout)
    assert answer["plan"]["estimate"] == "Exact"
    assert answer["notes"] == []


def test_the_object_of_a_model_from_the_hub_needs_no_hub(endpoint: str) -> None:  # noqa: F811
    answer = json.loads(_from_hub(endpoint, "--model", "acme/llm", "-o", "json").stdout)
    printed = _from_hub(endpoint, "--model", "acme/llm", "-o", "yaml").stdout
    assert "uri: hf://acme/llm" in printed
    assert json.loads(_run("-f", "-", "-o", "json", text=printed).stdout) == answer


@pytest.mark.parametrize(
    ("model", "said"),
    [
        pytest.param("gated/llm", "gated or private (HTTP 401)", id="gated"),
        pytest.param("nobody/llm", "no repository nobody/llm", id="unknown"),
        pytest.param("not a name", "ORGANISATION/NAME", id="no repository"),
    ],
)
def test_what_the_hub_refuses_is_invalid(endpoint: str, model: str, said: str) -> None:  # noqa: F811
    result = _from_hub(endpoint, "--model", model)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_a_short_name_is_asked_for_by_its_repository(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    found = find_checkpoint("Llama-3.1-70B", None, ask_hub=True)
    assert isinstance(found, Checkpoint)
    assert (found.uri, found.shape["weightBytes"]) == ("hf://meta-llama/Llama-3.1-70B", TOTAL_SIZE)


def test_no_name_at_all() -> None:
    assert isinstance(find_checkpoint("", None, ask_hub=False), Misread)


def test_an_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SourceError, match="cannot be reached"):
        find_checkpoint("acme/llm", None, ask_hub=True)
