"""What the operator renders is accepted by a server as strict as the real one, on every release."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pydantic
import pytest

from builders import a_verdict
from serving import DEADLINE_SECONDS, Server, local_arguments, run, started, wait_for
from support import inputs
from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.engine import EngineCommand, EngineOptions, serve_command
from trtllm_operator.engine_versions import data, find_release
from trtllm_operator.kinds import WORKLOAD_KINDS
from trtllm_operator.planned import Infeasible
from trtllm_operator.pod import image_tag
from trtllm_operator.render import Owner, render
from trtllm_operator.sandbox.fake_trtllm_serve.admission import admit
from trtllm_operator.sandbox.fake_trtllm_serve.environment import Environment
from trtllm_operator.settings import Settings
from trtllm_operator.workload import pod_templates

RELEASES = [pytest.param(row["last"], id=row["name"]) for row in data()["releases"]]

PLANS = [
    pytest.param({"tensor": 1, "gpus_per_node": 1}, 1, id="one-gpu"),
    pytest.param({"tensor": 8, "gpus_per_node": 8, "max_seq_len": 8192, "kv_cache_dtype": "fp8"}, 8, id="dense-tensor"),
    pytest.param({"tensor": 8, "pipeline": 2, "gpus_per_node": 8, "revision": "abc"}, 16, id="tensor-and-pipeline"),
    pytest.param({"tensor": 8, "expert": 4, "gpus_per_node": 8, "served_name": "moe"}, 8, id="experts"),
    pytest.param(
        {"tensor": 8, "expert": 8, "attention_dp": True, "gpus_per_node": 8, "kv_cache_fraction": 0.8},
        8,
        id="attention-dp",
    ),
    pytest.param({"tensor": 2, "context": 2, "gpus_per_node": 4, "max_batch_size": 64}, 4, id="context"),
]

UNEVEN = {"tensor": 4, "pipeline": 2, "pipeline_partition": (48, 32), "gpus_per_node": 8, "max_num_tokens": 4096}


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A model's folder, with the one file that is looked at."""
    folder = tmp_path / "llama"
    folder.mkdir()
    shape = {"num_attention_heads": 64, "num_key_value_heads": 8, "num_hidden_layers": 80}
    (folder / "config.json").write_text(json.dumps(shape))
    return str(folder)


def _rendered(tag: str, model: str, plan: dict[str, Any]) -> EngineCommand:
    command = serve_command(EngineOptions(model_path=model, **plan), find_release(tag))
    assert isinstance(command, EngineCommand), command
    return command


def _machine(tag: str, ranks: int) -> Environment:
    """Sixteen ranks and more are started by a launcher, on nodes of eight GPUs."""
    launched = {"FAKE_TRTLLM_RANKS": str(ranks)} if ranks > 8 else {}
    return Environment.read({"FAKE_TRTLLM_VERSION": tag, "FAKE_TRTLLM_GPUS": "8", **launched})


WORKLOADS = {kind.kind for kind in WORKLOAD_KINDS}


@pytest.mark.parametrize("tag", RELEASES)
@pytest.mark.parametrize(("plan", "ranks"), PLANS)
def test_every_release_accepts_what_is_rendered_for_it(
    tag: str, plan: dict[str, Any], ranks: int, model: str, tmp_path: Path
) -> None:
    command = _rendered(tag, model, plan)
    admitted = admit(local_arguments(command, tmp_path), _machine(tag, ranks))
    assert admitted.config == command.config
    assert admitted.host == "0.0.0.0"


@pytest.mark.parametrize("example", inputs())
def test_the_command_and_the_file_of_every_example_are_accepted(
    example: dict[str, Any], model: str, tmp_path: Path
) -> None:
    spec = LLMDeploymentSpec.model_validate(example["spec"], extra="forbid")
    verdict = a_verdict(spec)
    if isinstance(verdict, Infeasible):
        return  # its golden holds the reason
    rendered = render(Owner(name=example["metadata"]["name"], namespace="default"), spec, verdict, Settings())
    assert not isinstance(rendered, Infeasible), rendered
    found = {manifest["kind"]: manifest for manifest in rendered}
    (workload,) = (manifest for manifest in rendered if manifest["kind"] in WORKLOADS)
    serving, *_ = pod_templates(workload)
    (container,) = serving["spec"]["containers"]
    config = json.loads(found["ConfigMap"]["data"]["engine.json"])
    started = [*container["command"], *container["args"]]
    serve = started[started.index("trtllm-serve") :]
    mounted = [model if arg.startswith("/models") else arg for arg in serve]
    command = EngineCommand(argv=tuple(mounted), config=config)
    admitted = admit(local_arguments(command, tmp_path), _machine(image_tag(spec, Settings()), verdict.gpus))
    assert admitted.config == config


@pytest.mark.parametrize("tag", [release for release in RELEASES if release.id not in ("1.0", "1.1")])
def test_an_uneven_pipeline_is_accepted_where_it_exists(tag: str, model: str, tmp_path: Path) -> None:
    command = _rendered(tag, model, UNEVEN)
    assert admit(local_arguments(command, tmp_path), _machine(tag, 8)).config["pp_partition"] == [48, 32]


@pytest.mark.parametrize("tag", RELEASES)
def test_every_release_serves_as_a_process(tag: str, model: str, tmp_path: Path) -> None:
    release = find_release(tag)
    command = _rendered(tag, model, {"tensor": 8, "expert": 4, "attention_dp": True, "gpus_per_node": 8})
    with started(local_arguments(command, tmp_path), tmp_path, VERSION=tag, UID="1000") as server:
        assert server.get("/health") == (200, "")
        assert json.loads(server.get("/version")[1]) == {"version": tag}
        assert json.loads(server.get("/v1/models")[1])["data"][0]["id"] == "llama"
        status, text = server.get("/prometheus/metrics")
        exported = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert status == (200 if release.metrics else 404)
    if release.metrics:
        assert exported == {release.metric(metric.name) for metric in release.metrics}


@pytest.mark.parametrize(("plan", "ranks"), [plan for plan in PLANS if plan.id != "tensor-and-pipeline"])
def test_every_plan_serves_as_a_process(plan: dict[str, Any], ranks: int, model: str, tmp_path: Path) -> None:
    arguments = local_arguments(_rendered("1.3.0rc24", model, plan), tmp_path)
    with started(arguments, tmp_path, GPUS=str(ranks)) as server:
        assert server.get("/health")[0] == 200


@pytest.mark.parametrize(
    ("tag", "id_"), [pytest.param("1.3.0rc24", "chosen", id="flag"), pytest.param("1.2.1", "llama", id="no-flag")]
)
def test_the_served_name_is_the_one_given_where_the_release_has_the_flag(
    tag: str, id_: str, model: str, tmp_path: Path
) -> None:
    command = _rendered(tag, model, {"tensor": 1, "gpus_per_node": 1, "served_name": "chosen"})
    assert admit(local_arguments(command, tmp_path), _machine(tag, 1)).model_id == id_


def _with_flag(flag: str) -> Callable[[EngineCommand], EngineCommand]:
    return lambda command: replace(command, argv=(*command.argv, flag, "1"))


def _with_config(**config: Any) -> Callable[[EngineCommand], EngineCommand]:
    return lambda command: replace(command, config={**command.config, **config})


PLANTED = [
    pytest.param("1.3.0rc24", _with_flag("--dtype"), click.NoSuchOption, "--dtype", id="flag"),
    pytest.param(
        "1.2.1", _with_flag("--served_model_name"), click.NoSuchOption, "--served_model_name", id="later-flag"
    ),
    pytest.param("1.3.0rc24", _with_config(tp_size=2), pydantic.ValidationError, "tp_size\n  Extra inputs", id="key"),
    pytest.param("1.1.0", _with_config(pp_partition=[1]), pydantic.ValidationError, "pp_partition", id="later-key"),
    pytest.param("1.0.0", _with_config(return_perf_metrics=True), pydantic.ValidationError, "return_perf", id="1.0"),
    pytest.param(
        "1.4.0rc1", _with_config(sampler_type="auto"), pydantic.ValidationError, "sampler_type", id="gone-key"
    ),
    pytest.param(
        "1.3.0rc24",
        _with_config(kv_cache_config={"onboard_blocks": True}),
        pydantic.ValidationError,
        "kv_cache_config.onboard_blocks",
        id="gone-key-below",
    ),
    pytest.param(
        "1.3.0rc24", _with_config(max_seq_len="long"), pydantic.ValidationError, "max_seq_len\n  Input", id="type"
    ),
    pytest.param(
        "1.3.0rc24",
        _with_config(kv_cache_config={"free_gpu_memory_fraction": 90}),
        ValueError,
        "between 0 and 1",
        id="percent",
    ),
    pytest.param(
        "1.3.0rc24", _with_config(kv_cache_config={"dtype": "int8"}), ValueError, "must be one of", id="dtype"
    ),
]


@pytest.mark.parametrize(("tag", "plant", "error", "told"), PLANTED)
def test_a_planted_mistake_is_caught(
    tag: str,
    plant: Callable[[EngineCommand], EngineCommand],
    error: type[Exception],
    told: str,
    model: str,
    tmp_path: Path,
) -> None:
    command = plant(_rendered(tag, model, {"tensor": 2, "gpus_per_node": 2}))
    with pytest.raises(error, match=told):
        admit(local_arguments(command, tmp_path), _machine(tag, 2))


@pytest.mark.parametrize(
    ("plan", "gpus", "ranks", "told"),
    [
        pytest.param({"tensor": 4, "gpus_per_node": 4}, 4, 8, "but got 8 != 4 \\* 1 \\* 1", id="too-many-ranks"),
        pytest.param({"tensor": 4, "gpus_per_node": 4}, 2, None, "invalid device ordinal", id="too-few-gpus"),
        pytest.param({"tensor": 8, "gpus_per_node": 4}, 4, None, "Duplicate GPU", id="two-ranks-on-a-gpu"),
        pytest.param({"tensor": 4, "gpus_per_node": 4}, 0, None, "No GPU devices", id="no-gpu"),
        pytest.param({"tensor": 4, "expert": 3, "gpus_per_node": 4}, 4, None, "but got 3 != 4", id="experts"),
        pytest.param({"tensor": 3, "gpus_per_node": 3}, 3, None, "num_attention_heads", id="heads"),
        pytest.param({"tensor": 2, "context": 3, "gpus_per_node": 6}, 6, None, "tp_size \\* cp_size", id="context"),
        pytest.param({**UNEVEN, "pipeline_partition": (48, 33)}, 8, None, "sum to 80 layers", id="layers"),
        pytest.param({**UNEVEN, "pipeline_partition": (80,)}, 8, None, "must have 2 entries", id="stages"),
    ],
)
def test_sizes_that_cannot_be_placed_are_refused(
    plan: dict[str, Any], gpus: int, ranks: int | None, told: str, model: str, tmp_path: Path
) -> None:
    machine = replace(_machine("1.3.0rc24", 1), gpus=gpus, ranks=ranks)
    with pytest.raises((ValueError, RuntimeError, AssertionError), match=told):
        admit(local_arguments(_rendered("1.3.0rc24", model, plan), tmp_path), machine)


@pytest.mark.parametrize(
    ("tag", "tensor"), [pytest.param("1.2.1", 2, id="file-wins"), pytest.param("1.3.0rc24", 4, id="flag-wins")]
)
def test_which_of_file_and_flag_wins_follows_the_release(tag: str, tensor: int, model: str, tmp_path: Path) -> None:
    command = _rendered(tag, model, {"tensor": 2, "gpus_per_node": 4})
    admitted = admit([*local_arguments(command, tmp_path), "--tp_size", "4"], _machine(tag, 4))
    assert admitted.config["tensor_parallel_size"] == tensor


@pytest.mark.parametrize(
    ("arguments", "fake", "code", "told"),
    [
        pytest.param(["org/model", "--dtype", "fp8"], {}, 2, "Error: No such option", id="flag"),
        pytest.param(["/no/such/model"], {}, 1, "Repo id must be in the form", id="model"),
        pytest.param(["org/model", "--config", "/no/such/file"], {}, 1, "FileNotFoundError", id="file"),
        pytest.param(["org/model"], {"FAULT": "out-of-memory"}, 1, "CUDA out of memory", id="out-of-memory"),
        pytest.param(["org/model"], {"FAULT": "unknown-architecture"}, 1, "Unknown architecture", id="architecture"),
        pytest.param(["org/model"], {"FAULT": "spawn-failure"}, 1, "MPI_ERR_UNKNOWN", id="spawn"),
        pytest.param(["org/model"], {"FAULT": "crash"}, 1, "Fatal error", id="crash"),
        pytest.param(["org/model"], {"FAULT": "typo"}, 1, "is none of", id="unknown-fault"),
    ],
)
def test_a_failing_start_ends_the_process(arguments: list[str], fake: dict[str, str], code: int, told: str) -> None:
    done = run([*arguments, "--host", "127.0.0.1", "--port", "0"], **fake)
    assert done.returncode == code
    assert told in done.stderr


def test_the_port_is_taken_but_refuses_connections_while_the_model_loads(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    arguments = ["org/model", "--host", address[0], "--port", str(address[1])]
    with started(arguments, tmp_path, LOAD_SECONDS="3600") as server:
        wait_for(lambda: _is_taken(address))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        assert "Failed to bind socket to 127.0.0.1" in run(arguments).stderr
        assert server.process.poll() is None


def _is_taken(address: tuple[str, int]) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(address)
        except OSError:
            return True
    return False


@pytest.mark.parametrize(
    ("tag", "health"), [pytest.param("1.3.0rc24", 503, id="honest"), pytest.param("1.2.1", 200, id="process-only")]
)
def test_a_dead_engine_shows_where_health_is_honest(tag: str, health: int, tmp_path: Path) -> None:
    arguments = ["org/model", "--host", "127.0.0.1", "--port", "0"]
    with started(arguments, tmp_path, VERSION=tag, FAULT="dead-engine") as server:
        wait_for(lambda: server.get("/health_generate")[0] == 500)
        assert server.get("/health")[0] == health


def _options(tmp_path: Path, **config: Any) -> list[str]:
    path = tmp_path / "engine.json"
    path.write_text(json.dumps(config))
    return ["org/model", "--host", "127.0.0.1", "--port", "0", "--config", str(path)]


def test_metrics_exist_only_with_their_switches(tmp_path: Path) -> None:
    with started(_options(tmp_path), tmp_path) as server:
        assert server.get("/prometheus/metrics")[0] == 404
        assert server.get("/health_generate")[0] == 200
        assert server.get("/metrics") == (200, "[]")
    with started(_options(tmp_path, return_perf_metrics=True), tmp_path) as server:
        text = server.get("/prometheus/metrics")[1]
        assert "trtllm_request_success_total" in text
        assert "trtllm_num_requests_waiting" not in text


def test_reading_the_iterations_drains_them(tmp_path: Path) -> None:
    with started(_options(tmp_path, enable_iter_perf_stats=True), tmp_path) as server:
        assert server.get("/health_generate")[0] == 200
        (iteration,) = json.loads(server.get("/metrics")[1])
        assert iteration["numActiveRequests"] == 1
        assert server.get("/metrics") == (200, "[]")


def test_requests_beyond_the_batch_wait(tmp_path: Path) -> None:
    options = _options(tmp_path, max_batch_size=1, return_perf_metrics=True, enable_iter_perf_stats=True)
    body = {"prompt": "x", "max_tokens": 100_000, "stream": True}
    with (
        started(options, tmp_path, TOKEN_SECONDS="0.01") as server,
        server.posting("/v1/completions", body),
        server.posting("/v1/completions", body),
    ):
        labels = '{model_name="org/model",engine_type="trtllm"}'
        wait_for(lambda: f"num_requests_waiting{labels} 1" in server.get("/prometheus/metrics")[1])
        assert f"num_requests_running{labels} 1" in server.get("/prometheus/metrics")[1]


def test_a_chat_answers_in_words(tmp_path: Path) -> None:
    with (
        started(_options(tmp_path), tmp_path) as server,
        server.posting("/v1/chat/completions", {"messages": [], "max_tokens": 3}) as answer,
    ):
        body = json.loads(answer.read())
    assert body["choices"][0]["message"]["content"] == "word0 word1 word2 "
    assert body["usage"]["completion_tokens"] == 3


def test_told_to_stop_it_refuses_new_connections_and_finishes_the_running_request(tmp_path: Path) -> None:
    body = {"messages": [], "max_tokens": 40, "stream": True}
    with (
        started(_options(tmp_path), tmp_path, TOKEN_SECONDS="0.05") as server,
        server.posting("/v1/chat/completions", body) as answer,
    ):
        assert answer.readline().startswith(b"data: ")
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: _refuses(server))
        assert server.process.poll() is None
        events = answer.read().decode().split("\n\n")
        assert events[-2] == "data: [DONE]"
        assert "word39" in events[-3]
        assert server.process.wait(timeout=DEADLINE_SECONDS) == -signal.SIGTERM


def _refuses(server: Server) -> bool:
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    return False
