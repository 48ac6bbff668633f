"""What trtllm-serve is told: its command line and its configuration file, for one plan and one release.

The command line carries the model, the address, the served name and the path of the file; everything else stands in
the file, because which of the two wins changed between releases. There is no ``--dtype`` in any release.
``/prometheus/metrics`` exists only with ``return_perf_metrics``, and its queue and KV-cache gauges only with
``enable_iter_perf_stats``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trtllm_operator.api import ScalingMetric
from trtllm_operator.engine_overrides import EngineRefusal, RefusalReason, flag_problem, merge, unknown_keys
from trtllm_operator.engine_versions import EngineRelease
from trtllm_operator.models import repository
from trtllm_operator.planned import Plan

PORT = 8000
CONFIG_DIRECTORY = "/etc/trtllm"
CONFIG_FILE = "engine.json"
CACHE_DIRECTORY = "/cache"
METRICS_PATH = "/prometheus/metrics"
HEALTH_PATH = "/health"

ENVIRONMENT = (("HF_HOME", f"{CACHE_DIRECTORY}/huggingface"), ("TRTLLM_NO_USAGE_STATS", "1"))

_SCALING_METRICS = {
    ScalingMetric.QUEUE_DEPTH: "num_requests_waiting",
    ScalingMetric.RUNNING_REQUESTS: "num_requests_running",
    ScalingMetric.KV_CACHE_UTILIZATION: "kv_cache_utilization",
    ScalingMetric.TIME_TO_FIRST_TOKEN: "time_to_first_token_seconds",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What a plan and a spec decide about one replica of the engine.

    Sizes count GPUs, lengths count tokens; ``kv_cache_fraction`` is of the GPU memory left free by weights and buffers;
    ``pipeline_partition`` gives the layers of each pipeline stage and is empty for equal stages. None leaves an option
    to trtllm-serve.
    """

    model_path: str
    tensor: int
    gpus_per_node: int
    pipeline: int = 1
    expert: int = 1
    context: int = 1
    attention_dp: bool = False
    pipeline_partition: tuple[int, ...] = ()
    max_seq_len: int | None = None
    max_batch_size: int | None = None
    max_num_tokens: int | None = None
    kv_cache_dtype: str | None = None
    kv_cache_fraction: float | None = None
    served_name: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    extra_config: Mapping[str, Any] = field(default_factory=dict)
    extra_args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCommand:
    """One way to start trtllm-serve: argument list, configuration file (JSON is YAML) and environment."""

    argv: tuple[str, ...]
    config: dict[str, Any] = field(default_factory=dict)
    environment: tuple[tuple[str, str], ...] = ENVIRONMENT
    warnings: tuple[str, ...] = ()


def serve_command(options: EngineOptions, release: EngineRelease) -> EngineCommand | EngineRefusal:
    """Return how to serve with these options on this release, or why it cannot be told."""
    ours = _config(options, release)
    refusal = _unsupported(ours, release) or flag_problem(options.extra_args, release)
    if refusal is not None:
        return refusal
    config = merge(ours, options.extra_config)
    if isinstance(config, EngineRefusal):
        return config
    return EngineCommand(
        argv=(*_argv(options, release), *options.extra_args),
        config=config,
        warnings=(*release.warnings, *unknown_keys(options.extra_config, release)),
    )


def command(plan: Plan, uri: str, release: EngineRelease) -> EngineCommand:
    """Return how to serve ``uri`` with this plan in one pod."""
    options = plan_options(plan, repository(uri))
    return EngineCommand(argv=_argv(options, release), config=_config(options, release))


def plan_options(plan: Plan, model_path: str) -> EngineOptions:
    """Return the options a plan decides. The KV cache's format is told, so that it is the one that was planned for."""
    layout = plan.layout
    return EngineOptions(
        model_path=model_path,
        tensor=layout.tensor,
        pipeline=layout.pipeline,
        expert=layout.expert,
        context=layout.context,
        attention_dp=layout.attention_dp,
        pipeline_partition=layout.partition,
        gpus_per_node=plan.gpus_per_pod,
        max_seq_len=plan.max_seq_len,
        max_batch_size=plan.max_batch_size,
        max_num_tokens=plan.max_num_tokens,
        kv_cache_dtype=plan.kv_cache_dtype,
        kv_cache_fraction=plan.kv_fraction,
    )


def scaling_metric(metric: ScalingMetric, release: EngineRelease) -> str | None:
    """Return the name of what a scaling metric reads, or None where the release does not have it.

    It is a gauge, but for TimeToFirstToken, which is a histogram.
    """
    return release.metric(_SCALING_METRICS[metric])


def escape_expansion(text: str) -> str:
    """Keep the kubelet from expanding ``$(NAME)`` in an argument or an environment value."""
    return text.replace("$(", "$$(")


def _argv(options: EngineOptions, release: EngineRelease) -> tuple[str, ...]:
    argv = ["trtllm-serve", options.model_path]
    argv += ["--host", "0.0.0.0", "--port", str(PORT)]  # noqa: S104 - the default, localhost, is closed to its Service
    if options.served_name is not None and "--served_model_name" in release.flags:
        argv += ["--served_model_name", options.served_name]
    return (*argv, "--extra_llm_api_options", f"{CONFIG_DIRECTORY}/{CONFIG_FILE}")


def _config(options: EngineOptions, release: EngineRelease) -> dict[str, Any]:
    optional = {
        **_parallelism(options),
        "max_seq_len": options.max_seq_len,
        "max_batch_size": options.max_batch_size,
        "max_num_tokens": options.max_num_tokens,
        "kv_cache_config": _kv_cache(options) or None,
        "revision": options.revision,
        "trust_remote_code": options.trust_remote_code or None,
        "return_perf_metrics": True if "return_perf_metrics" in release.config else None,
        "enable_iter_perf_stats": True,
    }
    return {key: value for key, value in optional.items() if value is not None}


def _parallelism(options: EngineOptions) -> dict[str, Any]:
    """Return the sizes; the experts' tensor size follows from TensorRT-LLM's rule that both sizes multiply to TP."""
    experts = options.expert > 1
    return {
        "tensor_parallel_size": options.tensor,
        "pipeline_parallel_size": options.pipeline,
        "pp_partition": list(options.pipeline_partition) or None,
        "context_parallel_size": options.context if options.context > 1 else None,
        "cp_config": {"cp_type": "ULYSSES"} if options.context > 1 else None,
        "moe_expert_parallel_size": options.expert if experts else None,
        "moe_tensor_parallel_size": options.tensor // options.expert if experts else None,
        "enable_attention_dp": options.attention_dp or None,
        "gpus_per_node": options.gpus_per_node,
    }


def _kv_cache(options: EngineOptions) -> dict[str, Any]:
    wanted = {"dtype": options.kv_cache_dtype, "free_gpu_memory_fraction": options.kv_cache_fraction}
    return {key: value for key, value in wanted.items() if value is not None}


def _unsupported(config: Mapping[str, Any], release: EngineRelease) -> EngineRefusal | None:
    missing = next((key for key in config if key not in release.config), None)
    if missing is None:
        return None
    return EngineRefusal(
        reason=RefusalReason.UNSUPPORTED_BY_RELEASE,
        message=f"the plan needs {missing}, which TensorRT-LLM {release.name} does not have; set spec.engine.image.tag",
    )
