from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from builders import H100, LLAMA_70B
from support import ROOT
from trtllm_operator.cli import main
from trtllm_operator.lease import Election
from trtllm_operator.lifecycle import Options

NODES = ["--nodes", f"2x8x{H100}"]


def _render(text: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["render", "-f", "-", *arguments], input=text)


def _object(spec: str = f"model: {{uri: '{LLAMA_70B}'}}") -> str:
    return f"apiVersion: trtllm.dev/v1alpha1\nkind: LLMDeployment\nmetadata: {{name: llama}}\nspec: {{{spec}}}\n"


def test_render_prints_manifests_and_the_plan_apart() -> None:
    result = _render(_object(), *NODES)
    assert result.exit_code == 0
    kinds = [manifest["kind"] for manifest in yaml.safe_load_all(result.stdout)]
    assert kinds == ["ConfigMap", "Service", "Deployment"]
    assert result.stderr.startswith("# TP=4 on 4 GPUs")


def test_the_namespace_of_the_option_wins() -> None:
    result = _render(_object(), *NODES, "-n", "team-a")
    assert {manifest["metadata"]["namespace"] for manifest in yaml.safe_load_all(result.stdout)} == {"team-a"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not YAML"),
        ("kind: Pod", "expected an LLMDeployment"),
        (f"{_object()}---\n{_object()}", "expected one LLMDeployment; found 2"),
        (_object("model: {uri: 'x'}, gpuz: 1"), "spec.gpuz"),
        (_object("replicas: 1"), "spec.model"),
    ],
)
def test_invalid_input_is_exit_code_2(text: str, message: str) -> None:
    result = _render(text, *NODES)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_validate_names_file_and_line_of_every_problem(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(_object(), encoding="utf-8")
    bad.write_text(_object(f"model: {{uri: '{LLAMA_70B}'}},\n gpus: {{cuont: 4}},\n gpuz: 1"), encoding="utf-8")
    result = CliRunner().invoke(main, ["validate", "-f", str(good), "-f", str(bad)])
    assert result.exit_code == 2
    assert result.stdout == f"{good}: llama is valid\n"
    assert result.stderr.splitlines() == [
        f"{bad}:5: spec.gpus.cuont: unknown field; did you mean count?",
        f"{bad}:6: spec.gpuz: unknown field; did you mean gpus?",
    ]


def test_validate_accepts_what_is_valid() -> None:
    result = CliRunner().invoke(main, ["validate", "-f", "-"], input=_object())
    assert (result.exit_code, result.stdout, result.stderr) == (0, "<stdin>: llama is valid\n", "")


def test_what_does_not_fit_is_exit_code_3() -> None:
    result = _render(_object(f"model: {{uri: '{LLAMA_70B}'}}, gpus: {{count: 1}}"), *NODES)
    assert result.exit_code == 3
    assert result.stderr.startswith("InsufficientMemory: ")
    assert "131.4" in result.stderr


def test_unknown_nodes_name_the_near_ones() -> None:
    result = _render(_object(), "--nodes", "1x8xH100")
    assert result.exit_code == 2
    assert H100 in result.stderr


def test_without_nodes_or_product_there_is_nothing_to_plan_for() -> None:
    result = _render(_object())
    assert result.exit_code == 3
    assert "spec.gpus.product" in result.stderr
    named = _render(_object(f"model: {{uri: '{LLAMA_70B}'}}, gpus: {{product: {H100}}}"))
    assert named.exit_code == 0


def test_a_missing_kubeconfig_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trtllm_operator", "run", "--kubeconfig", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1


def test_crd_prints_the_committed_file() -> None:
    assert CliRunner().invoke(main, ["crd"]).stdout == (ROOT / "crds" / "llmdeployments.yaml").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        pytest.param([], {}, Options(), id="defaults"),
        pytest.param(
            ["-n", "a,b", "-n", "b", "-n", "c", "--no-read-nodes", "--metrics-port", "9090"],
            {},
            Options(namespaces=("a", "b", "c"), read_nodes=False, metrics_port=9090),
            id="namespaces",
        ),
        pytest.param(
            ["--leader-elect"],
            {"POD_NAME": "operator-0", "POD_NAMESPACE": "system"},
            Options(election=Election(namespace="system", identity="operator-0")),
            id="leader-election-by-the-pod-s-environment",
        ),
    ],
)
def test_the_options_of_run(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], environment: dict[str, str], expected: Options
) -> None:
    chosen: list[Options] = []

    async def instead(_: object, __: object, options: Options) -> None:
        chosen.append(options)

    monkeypatch.setattr("trtllm_operator.lifecycle.run", instead)
    monkeypatch.setattr("trtllm_operator.connection.Connection.from_kubeconfig", lambda *_: None)
    monkeypatch.setattr("trtllm_operator.logs.configure", lambda *_, **__: None)
    result = CliRunner().invoke(main, ["run", "--kubeconfig", "x", *arguments], env=environment)
    assert result.exit_code == 0, result.output
    (options,) = chosen
    if options.election is not None:
        name, _, suffix = options.election.identity.partition("_")
        assert len(suffix) == 8, "two processes of one pod name must not be one holder"
        options = replace(options, election=replace(options.election, identity=name))
    assert options == expected


def test_leader_election_needs_to_know_the_pod() -> None:
    result = CliRunner().invoke(main, ["run", "--leader-elect"], env={"POD_NAME": "", "POD_NAMESPACE": ""})
    assert result.exit_code == 2
    assert "POD_NAMESPACE" in result.output
