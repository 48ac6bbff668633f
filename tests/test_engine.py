from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trtllm_operator.api import ScalingMetric
from trtllm_operator.engine import EngineCommand, EngineOptions, scaling_metric, serve_command
from trtllm_operator.engine_overrides import EngineRefusal
from trtllm_operator.engine_versions import find_release
from trtllm_operator.refusals import Reason

NEW = find_release("1.3.0rc24")
GA = find_release("1.2.1")
PLAIN = EngineOptions(model_path="/models/llama", tensor=2, gpus_per_node=2)
ALWAYS = {
    "tensor_parallel_size": 2,
    "pipeline_parallel_size": 1,
    "gpus_per_node": 2,
    "return_perf_metrics": True,
    "enable_iter_perf_stats": True,
}


def _served(options: EngineOptions, tag: str = "1.3.0rc24") -> EngineCommand:
    made = serve_command(options, find_release(tag))
    assert isinstance(made, EngineCommand), made
    return made


def _refused(options: EngineOptions, tag: str = "1.3.0rc24") -> EngineRefusal:
    made = serve_command(options, find_release(tag))
    assert isinstance(made, EngineRefusal), made
    return made


@pytest.mark.parametrize(
    ("changes", "config"),
    [
        pytest.param({}, {}, id="dense"),
        pytest.param({"pipeline": 4}, {"pipeline_parallel_size": 4}, id="pipeline"),
        pytest.param(
            {"tensor": 8, "expert": 4},
            {"tensor_parallel_size": 8, "moe_expert_parallel_size": 4, "moe_tensor_parallel_size": 2},
            id="experts",
        ),
        pytest.param({"attention_dp": True}, {"enable_attention_dp": True}, id="attention-dp"),
        pytest.param(
            {"pipeline": 2, "pipeline_partition": (48, 32)},
            {"pipeline_parallel_size": 2, "pp_partition": [48, 32]},
            id="uneven-pipeline",
        ),
        pytest.param({"context": 2}, {"context_parallel_size": 2, "cp_config": {"cp_type": "ULYSSES"}}, id="context"),
        pytest.param(
            {"max_seq_len": 8192, "max_batch_size": 64, "max_num_tokens": 4096},
            {"max_seq_len": 8192, "max_batch_size": 64, "max_num_tokens": 4096},
            id="lengths",
        ),
        pytest.param(
            {"kv_cache_dtype": "fp8", "kv_cache_fraction": 0.8},
            {"kv_cache_config": {"dtype": "fp8", "free_gpu_memory_fraction": 0.8}},
            id="kv-cache",
        ),
        pytest.param(
            {"revision": "abc", "trust_remote_code": True}, {"revision": "abc", "trust_remote_code": True}, id="source"
        ),
        pytest.param(
            {"kv_cache_dtype": "fp8", "extra_config": {"kv_cache_config": {"enable_block_reuse": False}}},
            {"kv_cache_config": {"dtype": "fp8", "enable_block_reuse": False}},
            id="user-keys-merge-deeply",
        ),
        pytest.param(
            {"context": 2, "extra_config": {"cp_config": {"cp_type": "HELIX"}}},
            {"context_parallel_size": 2, "cp_config": {"cp_type": "HELIX"}},
            id="user-chooses-the-kind-of-context-parallelism",
        ),
        pytest.param(
            {"extra_config": {"cuda_graph_config": None}}, {"cuda_graph_config": None}, id="null-switches-off"
        ),
    ],
)
def test_the_file_holds_each_option_once(changes: dict[str, Any], config: dict[str, Any]) -> None:
    made = _served(replace(PLAIN, **changes))
    assert made.config == {**ALWAYS, **config}
    assert made.warnings == ()


@pytest.mark.parametrize(
    ("tag", "named"), [pytest.param("1.3.0rc24", True, id="flag"), pytest.param("1.2.1", False, id="no-flag")]
)
def test_the_command_line_holds_the_rest(tag: str, named: bool) -> None:
    made = _served(replace(PLAIN, served_name="llama", extra_args=("--log_level", "debug")), tag)
    assert made.argv == (
        *("trtllm-serve", "/models/llama", "--host", "0.0.0.0", "--port", "8000"),
        *(("--served_model_name", "llama") if named else ()),
        *("--extra_llm_api_options", "/etc/trtllm/engine.json", "--log_level", "debug"),
    )


def test_a_release_without_prometheus_is_not_asked_for_it() -> None:
    assert "return_perf_metrics" not in _served(PLAIN, "1.0.0").config


def test_a_doubtful_tag_warns() -> None:
    assert any("latest" in warning for warning in _served(PLAIN, "latest").warnings)


@pytest.mark.parametrize(
    ("config", "reason", "told"),
    [
        pytest.param(
            {"tensor_parallel_size": 4},
            Reason.MANAGED_OPTION,
            "spec.engine.config.tensor_parallel_size is set by the operator: set spec.parallelism.tensor",
            id="managed",
        ),
        pytest.param(
            {"kv_cache_config": {"dtype": "fp8"}},
            Reason.MANAGED_OPTION,
            "spec.engine.config.kv_cache_config.dtype is set by the operator: set spec.engine.kvCacheDtype",
            id="managed-below",
        ),
        pytest.param(
            {"kv_cache_config": None},
            Reason.INVALID_ENGINE_VALUE,
            "kv_cache_config is None; it must be a map",
            id="null",
        ),
    ],
)
def test_what_the_operator_sets_is_refused_in_the_file(config: dict[str, Any], reason: Reason, told: str) -> None:
    refusal = _refused(replace(PLAIN, extra_config=config))
    assert refusal.reason == reason
    assert told in refusal.message


@pytest.mark.parametrize(
    ("config", "told"),
    [
        pytest.param({"enable_chunked_prefil": True}, "did you mean enable_chunked_prefill?", id="near"),
        pytest.param({"kv_cache_config": {"host_cache": 1}}, "kv_cache_config.host_cache is not known", id="below"),
    ],
)
def test_an_unknown_key_is_a_warning(config: dict[str, Any], told: str) -> None:
    (warning,) = _served(replace(PLAIN, extra_config=config)).warnings
    assert told in warning


@pytest.mark.parametrize(
    ("args", "reason", "told"),
    [
        pytest.param(["--tp_size", "4"], Reason.MANAGED_OPTION, "set spec.parallelism.tensor", id="managed"),
        pytest.param(["--port=1"], Reason.MANAGED_OPTION, "set spec.expose.service.port", id="managed-equals"),
        pytest.param(["--log_levl", "debug"], Reason.UNKNOWN_FLAG, "did you mean --log_level?", id="near"),
        pytest.param(["--dtype", "fp8"], Reason.UNKNOWN_FLAG, "'--dtype'", id="no-dtype"),
        pytest.param(["debug"], Reason.UNKNOWN_FLAG, "'debug'", id="stray-value"),
        pytest.param(["--log_level"], Reason.INVALID_ENGINE_VALUE, "has no value", id="missing-value"),
        pytest.param(["--log_level", "loud"], Reason.INVALID_ENGINE_VALUE, "'loud'; it takes", id="choice"),
        pytest.param(["--max_beam_width", "x"], Reason.INVALID_ENGINE_VALUE, "'x'; it takes int", id="type"),
        pytest.param(["--enable_chunked_prefill", "1"], Reason.UNKNOWN_FLAG, "'1'", id="switch-with-value"),
        pytest.param(["--enable_chunked_prefill=1"], Reason.INVALID_ENGINE_VALUE, "takes switch", id="switch-equals"),
    ],
)
def test_wrong_arguments_are_refused(args: list[str], reason: Reason, told: str) -> None:
    refusal = _refused(replace(PLAIN, extra_args=tuple(args)))
    assert refusal.reason == reason
    assert told in refusal.message


def test_a_flag_of_a_later_release_is_unknown_to_an_earlier() -> None:
    options = replace(PLAIN, extra_args=("--num_serve_frontends", "2"))
    assert _served(options).argv[-2:] == ("--num_serve_frontends", "2")
    assert _refused(options, "1.2.1").reason == Reason.UNKNOWN_FLAG


def test_an_uneven_pipeline_needs_a_release_that_has_it() -> None:
    refusal = _refused(replace(PLAIN, pipeline=2, pipeline_partition=(3, 1)), "1.1.0")
    assert refusal.reason == Reason.UNSUPPORTED_BY_RELEASE
    assert "pp_partition" in refusal.message
    assert "spec.engine.image.tag" in refusal.message


def test_scaling_metrics_exist_only_where_the_release_has_them() -> None:
    assert scaling_metric(ScalingMetric.QUEUE_DEPTH, NEW) == "trtllm_num_requests_waiting"
    assert scaling_metric(ScalingMetric.QUEUE_DEPTH, GA) is None
