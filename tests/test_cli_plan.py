"""The offline commands as users run them."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from support import ROOT, Golden
from trtllm_operator import spellings
from trtllm_operator.api_plan_status import PlanStatus
from trtllm_operator.cli import main
from trtllm_operator.cli_plan import explain, plan

SHOWN = ROOT / "tests" / "data" / "desk"
FITS = ["--model", "Llama-3.1-70B", "--gpus", "8xH100"]
STAGES = ["--model", "Llama-3.1-405B", "--dtype", "fp8", "--gpus", "2x8xH100", "--max-seq-len", "8192"]
MIXED = ["--model", "Llama-2-70B", "--dtype", "int8", "--gpus", "4x4090,2x3090", "--mode", "pipeline"]
COARSE = ["--params-b", "13", "--gpus", "2xA100-80"]
REFUSED = ["--model", "Llama-3.1-405B", "--dtype", "int4", "--gpus", "3x4090"]
NEEDS = ["--requirements", "--models", "Llama-3.1-8B,Llama-3.1-70B", "--gpus-list", "H100,4090,A100-80"]
POOLS = ["--model", "Llama-3.1-8B", "--gpus", "1x8xH100,2x4xL40S"]

RUN = "from trtllm_operator.cli import main; main"


def _run(*arguments: str, width: int = 100, text: str | bytes | None = None, **options: Any) -> Result:
    environment = {"COLUMNS": str(width), "NO_COLOR": None, "FORCE_COLOR": None, **options.pop("env", {})}
    return CliRunner(**options).invoke(main, arguments, input=text, env=environment)


@pytest.mark.parametrize("width", [60, 100])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        pytest.param("fits", ["plan", *FITS], id="fits"),
        pytest.param("stages", ["plan", *STAGES, "--ranks"], id="stages"),
        pytest.param("mixed", ["plan", *MIXED], id="two products"),
        pytest.param("coarse", ["plan", *COARSE], id="size alone"),
        pytest.param("refused", ["plan", *REFUSED], id="refused"),
        pytest.param("explained", ["explain", *POOLS], id="explained"),
        pytest.param(
            "requirements",
            ["plan", *NEEDS, "--dtypes", "int4,fp8", "--context", "8192"],
            id="requirements",
        ),
    ],
)
def test_tables(golden: Golden, name: str, arguments: list[str], width: int) -> None:
    result = _run(*arguments, width=width)
    assert result.exit_code == (3 if name == "refused" else 0), result.output
    golden.check_file(SHOWN / f"{name}-{width}.txt", result.stdout)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        pytest.param("stages.json", ["plan", *STAGES, "-o", "json"], id="a plan as JSON"),
        pytest.param("refused.json", ["plan", *REFUSED, "-o", "json"], id="a refusal as JSON"),
        pytest.param("explained.json", ["explain", *POOLS, "-o", "json"], id="candidates as JSON"),
        pytest.param("mixed.yaml", ["plan", *MIXED, "-o", "yaml"], id="an object"),
        pytest.param("pools.yaml", ["plan", *POOLS, "-o", "yaml"], id="an object on one of two products"),
        pytest.param("stages.svg", ["plan", *STAGES, "-o", "svg"], id="a picture"),
        pytest.param("mixed.svg", ["plan", *MIXED, "-o", "svg"], id="a picture of two products"),
    ],
)
def test_formats(golden: Golden, name: str, arguments: list[str]) -> None:
    golden.check_file(SHOWN / name, _run(*arguments).stdout)


@pytest.mark.parametrize("width", [40, 100])
def test_the_object_in_the_table_is_the_one_of_yaml(width: int) -> None:
    shown = _run("plan", *STAGES, width=width).stdout.partition("  apiVersion:")
    printed = _run("plan", *STAGES, "-o", "yaml").stdout
    assert yaml.safe_load(shown[1] + shown[2]) == yaml.safe_load(printed)


@pytest.mark.parametrize("width", [1, 40, 73, 200, 1000])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = _run("plan", *FITS, "--ranks", width=width).stdout.splitlines()
    report = lines[: lines.index("  apiVersion: trtllm.dev/v1alpha1")]
    assert max(map(len, report)) <= min(max(width, 40), 200)
    assert not any(line.endswith(" ") for line in lines)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(FITS, id="budget"),
        pytest.param(STAGES, id="nodes"),
        pytest.param(MIXED, id="two products and a dtype nobody published"),
        pytest.param(COARSE, id="size alone"),
        pytest.param([*FITS, "--count", "8", "--policy", "minimal", "--kv-cache-dtype", "fp8"], id="count"),
        pytest.param([*FITS, "--tensor", "2", "--pipeline", "2", "--interconnect", "pcie"], id="pinned"),
        pytest.param([*FITS, "--concurrency", "8", "--input-tokens", "2000", "--output-tokens", "500"], id="workload"),
        pytest.param(["--model", "Mixtral-8x7B", "--gpus", "8xH100", "--expert", "2"], id="experts"),
        pytest.param(["--model", "Mixtral-8x22B", "--dtype", "fp8", "--gpus", "8xH100"], id="experts in another dtype"),
        pytest.param(["--model", "DeepSeek-V3", "--dtype", "int8", "--gpus", "2x8xH200"], id="latent attention"),
    ],
)
def test_the_printed_object_plans_to_the_same_id(arguments: list[str]) -> None:
    from_flags = json.loads(_run("plan", *arguments, "-o", "json").stdout)
    printed = _run("plan", *arguments, "-o", "yaml").stdout
    from_file = json.loads(_run("plan", "-f", "-", "-o", "json", text=printed).stdout)
    assert from_file["plan"]["id"] == from_flags["plan"]["id"]
    assert from_file | {"notes": []} == from_flags | {"notes": []}


def test_the_printed_object_of_a_choice_of_pools_names_the_one_chosen() -> None:
    from_flags = json.loads(_run("plan", *POOLS, "-o", "json").stdout)
    printed = _run("plan", *POOLS, "-o", "yaml").stdout
    assert yaml.safe_load(printed)["spec"]["gpus"]["product"] == from_flags["plan"]["gpuProduct"]
    from_file = json.loads(_run("plan", "-f", "-", "-o", "json", text=printed).stdout)
    assert from_file["plan"]["id"] == from_flags["plan"]["id"]


def test_the_printed_object_renders() -> None:
    printed = _run("plan", *FITS, "-o", "yaml").stdout
    rendered = _run("render", "-f", "-", text=printed)
    assert rendered.exit_code == 0, rendered.output
    kinds = {manifest["kind"] for manifest in yaml.safe_load_all(rendered.stdout)}
    assert "Deployment" in kinds


def test_json_holds_the_plan_as_the_status_does() -> None:
    answer = json.loads(_run("plan", *STAGES, "-o", "json").stdout)
    stored = PlanStatus.model_validate(answer["plan"], extra="forbid")
    assert (stored.tensor, stored.pipeline, stored.gpus) == (8, 2, 16)
    assert [rank["rank"] for rank in answer["ranks"]] == list(range(16))
    assert sum(answer["memory"][0]["perGPU"][part] for part in ("weights", "overhead", "kvCache")) <= 81559 * 1024**2


TWO = """
apiVersion: v1
kind: Secret
metadata: {name: token}
---
apiVersion: trtllm.dev/v1alpha1
kind: LLMDeployment
metadata: {name: small}
spec: {model: {uri: 'hf://meta-llama/Llama-3.1-8B'}}
---
apiVersion: trtllm.dev/v1alpha1
kind: LLMDeployment
metadata: {name: large}
spec: {model: {uri: 'hf://meta-llama/Llama-3.1-405B'}}
"""


def test_every_object_of_a_file_is_planned() -> None:
    both = _run("plan", "-f", "-", "--gpus", "2x8xH100", text=TWO)
    assert both.exit_code == 0
    assert both.stdout.count("Fits: ") == 2
    one = _run("plan", "-f", "-", "--gpus", "8xH100", text=TWO)
    assert one.exit_code == 3
    assert (one.stdout.count("Fits: "), one.stdout.count("Infeasible: ")) == (1, 1)


def test_json_of_several_objects_is_a_stream() -> None:
    lines = _run("plan", "-f", "-", "--gpus", "2x8xH100", "-o", "json", text=TWO).stdout
    decoder, names = json.JSONDecoder(), []
    while lines.strip():
        answer, end = decoder.raw_decode(lines.lstrip())
        names.append(answer["name"])
        lines = lines.lstrip()[end:]
    assert names == ["small", "large"]


def test_the_chosen_candidate_is_marked_once() -> None:
    answer = json.loads(_run("explain", *POOLS, "-o", "json").stdout)
    assert [pool["product"] for pool in answer["pools"]] == ["NVIDIA-H100-80GB-HBM3", "NVIDIA-L40S"]
    chosen = [candidate for pool in answer["pools"] for candidate in pool["candidates"] if candidate["chosen"]]
    assert len(chosen) == 1


def test_a_gpu_that_runs_no_such_weights_has_no_candidates() -> None:
    refused = json.loads(
        _run("explain", "--model", "Llama-3.1-70B", "--dtype", "fp8", "--gpus", "8xA100", "-o", "json").stdout
    )
    assert [pool["refusal"]["reason"] for pool in refused["pools"]] == ["DtypeUnsupportedOnGPU"]
    assert refused["pools"][0]["candidates"] == []


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        pytest.param("--tp_size 4 --pp_size 2", "--tensor 4 --pipeline 2", id="trtllm-serve"),
        pytest.param("--tensor-parallel-size 4 --max-model-len 4096", "--tensor 4 --max-seq-len 4096", id="vLLM"),
        pytest.param("--tensor_parallel_size 4 --dtype fp16", "--tensor 4 --dtype float16", id="the LLM API"),
        pytest.param("--context 4096 --quantization fp8", "--max-seq-len 4096 --dtype fp8", id="the CLI chapter"),
        pytest.param("--multi-gpu --multi-gpu-mode tensor", "--all-gpus --mode tensor", id="its multi-GPU flags"),
        pytest.param("--max_batch_size 256 --dtype bf16", "--max-batch-size 256 --dtype bfloat16", id="underscores"),
        pytest.param("--mode PIPELINE --policy Minimal", "--mode pipeline --policy minimal", id="any case"),
    ],
)
def test_flags_of_other_tools(theirs: str, ours: str) -> None:
    answers = [_run("plan", *FITS, *flags.split(), "-o", "json") for flags in (theirs, ours)]
    assert [answer.exit_code for answer in answers] == [0, 0], answers[0].output
    assert answers[0].stdout == answers[1].stdout


@pytest.mark.parametrize("alias", sorted(spellings.aliases()))
def test_every_alias_is_one_of_our_flags(alias: str) -> None:
    names = {name for command in (plan, explain) for parameter in command.params for name in parameter.opts}
    assert f"--{spellings.aliases()[alias]}" in names
    assert f"--{alias}" not in names


@pytest.mark.parametrize("flag", sorted(spellings.refused_flags()))
def test_refused_flags_say_why(flag: str) -> None:
    result = _run("plan", *FITS, f"--{flag}", "1")
    assert result.exit_code == 2
    assert " ".join(spellings.refused_flags()[flag].split()) in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--gpus", "8xH100"], "which model?", id="no model"),
        pytest.param(["--model", "Llama-3.1-70B"], "--gpus is missing", id="no GPUs"),
        pytest.param(["--model", "Llama-3.1-7B", "--gpus", "8xH100"], "near names: ", id="near models"),
        pytest.param(["--model", "Llama-3.1-70B", "--gpus", "8xH10"], "near names: H100", id="near GPUs"),
        pytest.param([*FITS, "--params-b", "70"], "--params-b is for", id="a size for a known model"),
        pytest.param(["--params-b", "nan", "--gpus", "8xH100"], "no number of parameters", id="not a number"),
        pytest.param(["--params-b", "1e300", "--gpus", "8xH100"], "no number of parameters", id="infinite"),
        pytest.param(["--params-b", "1e9", "--gpus", "8xH100"], "spec.model.shape.parameters", id="beyond the API"),
        pytest.param([*FITS, "--context", "9" * 40], "spec.engine.maxSeqLen", id="forty digits"),
        pytest.param([*FITS, "--context", "9" * 5000], "not a valid integer", id="five thousand digits"),
        pytest.param([*FITS, "--tensor", "129"], "spec.parallelism.tensor", id="too wide"),
        pytest.param([*FITS, "--tensor", "0"], "0 is not in the range", id="zero"),
        pytest.param(["--params-b", "7", "--gpus", "9999x9999xH100"], "spec.gpus.perNode", id="a huge node"),
        pytest.param([*FITS, "--tensr", "8"], "No such option", id="a typo"),
        pytest.param([*FITS, "--models", "a"], "--requirements", id="lists without --requirements"),
        pytest.param(["--requirements", "--models", "Llama-3.1-8B"], "--gpus-list", id="requirements of no GPU"),
        pytest.param(
            ["--requirements", "--models", "Llama-3.1-8B", "--gpus-list", "H100", "--dtypes", "fp9"],
            "'fp9' is not one of",
            id="requirements in no dtype",
        ),
        pytest.param(
            ["--requirements", "--models", "Llama-3.1-8B", "--gpus-list", "H100", "-o", "svg"],
            "a table or json",
            id="requirements as a picture",
        ),
        pytest.param(
            ["--requirements", "--models", "Llama-3.1-8B", "--gpus-list", "H100", "--all-gpus"],
            "in place of one model",
            id="requirements on all GPUs",
        ),
        pytest.param(
            ["--requirements", "--models", "a,,b", "--gpus-list", "H100"], "list of names", id="an empty name"
        ),
    ],
)
def test_invalid_flags_are_exit_code_2(arguments: list[str], said: str) -> None:
    result = _run("plan", *arguments)
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.stderr.split())
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        pytest.param("a: [", [], "not YAML", id="not YAML"),
        pytest.param(TWO.replace("metadata:", "metadata: {}\nmetadata:"), [], "metadata", id="a key twice"),
        pytest.param("kind: Pod", [], "found none", id="another kind"),
        pytest.param("- 1", [], "found none", id="a list"),
        pytest.param("[" * 5000, [], "not YAML", id="nested too deep"),
        pytest.param("a: \x00", [], "not YAML", id="a null byte"),
        pytest.param(
            TWO.replace("v1alpha1", "v9"), [], "apiVersion: expected trtllm.dev/v1alpha1", id="another version"
        ),
        pytest.param(TWO.replace("name: small", "nom: small"), [], "metadata.name", id="no name"),
        pytest.param(TWO.replace("uri:", "url:"), [], "spec.model.url", id="an unknown field"),
        pytest.param(TWO, ["--model", "Llama-3.1-8B"], "--model describes a model", id="flags beside a file"),
        pytest.param(TWO, ["--tensor", "2"], "--tensor describes a model", id="a layout beside a file"),
        pytest.param(TWO, ["--gpus", "12xH100"], "do not fill nodes of 8", id="nodes that are not full"),
        pytest.param(b"\xff\xfe\x00", [], "can't decode", id="not UTF-8"),
        pytest.param(TWO, ["-o", "svg"], "-o svg draws one plan", id="a picture of two"),
    ],
)
def test_invalid_files_are_exit_code_2(text: str | bytes, arguments: list[str], said: str) -> None:
    result = _run("plan", "-f", "-", *arguments, text=text)
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.stderr.split())
    assert result.stdout == ""


@pytest.mark.parametrize("output", ["yaml", "svg"])
def test_a_refusal_has_no_object_and_no_picture(output: str) -> None:
    result = _run("plan", *REFUSED, "-o", output)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("InsufficientMemory: ")


def _named(name: str, uri: str) -> str:
    spec = {
        "model": {"uri": uri},
        "gpus": {"product": "NVIDIA-H100-80GB-HBM3"},
        "parallelism": {"tensor": 1, "pipeline": 1},
    }
    return yaml.safe_dump(
        {"apiVersion": "trtllm.dev/v1alpha1", "kind": "LLMDeployment", "metadata": {"name": name}, "spec": spec}
    )


HOSTILE = [
    pytest.param("[red]x[/red]", id="markup"),
    pytest.param("\x1b[31mred\x1b]0;title\x07", id="escape codes"),
    pytest.param("a\u202eb\u200bc", id="bidirectional override"),
    pytest.param("<script>&\"'</script>", id="XML"),
    pytest.param("a\rb\tc", id="carriage return"),
    pytest.param("ü漢字", id="letters of the world"),
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("output", ["table", "json", "yaml", "svg"])
def test_names_reach_no_terminal_and_no_parser(name: str, output: str) -> None:
    result = _run("plan", "-f", "-", "-o", output, text=_named("small", f"hf://{name}"))
    assert result.exit_code == 0, result.output
    assert all(sign.isprintable() or sign == "\n" for sign in result.output)
    if output == "svg":
        ET.fromstring(result.stdout)
    if output == "table" and name.isprintable():
        assert name in result.stdout


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("flag", ["--model", "--gpus"])
def test_flags_reach_no_terminal(name: str, flag: str) -> None:
    others = ["--gpus", "8xH100"] if flag == "--model" else ["--model", "Llama-3.1-8B"]
    result = _run("plan", flag, name, *others)
    assert result.exit_code == 2
    assert all(sign.isprintable() or sign == "\n" for sign in result.output)


def test_colour_is_for_terminals_that_want_it() -> None:
    assert "\x1b[" not in _run("plan", *FITS).stdout
    assert "\x1b[" in _run("plan", *FITS, env={"FORCE_COLOR": "1", "TERM": "xterm-256color"}).stdout
    both = _run("plan", *FITS, env={"FORCE_COLOR": "1", "TERM": "xterm-256color", "NO_COLOR": "1"}).stdout
    assert "\x1b[3" not in both


def test_a_terminal_without_unicode_gets_ascii() -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{RUN}()", "plan", *FITS],
        env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path), "COLUMNS": "80"},
        capture_output=True,
        check=True,
    )
    assert done.stdout.isascii()
    assert b"# weights" in done.stdout


def test_planning_imports_neither_the_operator_nor_a_client() -> None:
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{RUN}(['plan', *{FITS!r}], standalone_mode=False); import sys; print(*sys.modules, file=sys.stderr)",
        ],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stderr.split()
    assert "trtllm_operator.plan" in loaded
    assert not {"kopf", "aiohttp", "kubernetes", "asyncio", "jinja2", "huggingface_hub"} & set(loaded)


def test_every_file_of_expected_output_is_looked_at() -> None:
    text = (ROOT / "tests" / "test_cli_plan.py").read_text(encoding="utf-8")
    names = {path.name.removesuffix("-60.txt").removesuffix("-100.txt") for path in SHOWN.iterdir()}
    assert [name for name in sorted(names) if f'"{name}"' not in text] == []
