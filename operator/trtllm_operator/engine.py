"""What trtllm-serve is told: its command line and its configuration file, for one plan and one release.

The command line carries the model, the address, the served name and the path of the file; everything else stands in
the file, because which of the two wins changed between releases. There is no ``--dtype`` in any release.
``/prometheus/metrics`` exists only with ``return_perf_metrics``, and its queue and KV-cache gauges only with
``enable_iter_perf_stats``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trtllm_operator.api import LLMDeploymentSpec, ScalingMetric, SecurityProfile
from trtllm_operator.engine_overrides import EngineRefusal, flag_problem, merge, unknown_keys
from trtllm_operator.engine_versions import EngineRelease
from trtllm_operator.models import repository
from trtllm_operator.planned import Plan
from trtllm_operator.refusals import Reason

PORT = 8000
CONFIG_DIRECTORY = "/etc/trtllm"
CONFIG_FILE = "engine.json"
CACHE_DIRECTORY = "/cache"
MODEL_DIRECTORY = "/models"
"""Where a volume or an image that holds the checkpoint is mounted."""

METRICS_PATH = "/prometheus/metrics"
HEALTH_PATH = "/health"

ENVIRONMENT = (("HF_HOME", f"{CACHE_DIRECTORY}/huggingface"), ("TRTLLM_NO_USAGE_STATS", "1"))

_LAUNCHER = ("mpirun", "-n", "1", "--oversubscribe", "--allow-run-as-root")
"""Starts the server so that it can start its ranks. Sources: TensorRT-LLM pull request 17498, open-mpi/ompi 12916."""

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


def command(name: str, spec: LLMDeploymentSpec, plan: Plan, release: EngineRelease) -> EngineCommand | EngineRefusal:
    """Return how to serve the LLMDeployment ``name`` with this plan, or why this release cannot."""
    refusal = _source_problem(spec, plan, release)
    if refusal is not None:
        return refusal
    model, stated = spec.model, spec.engine
    options = replace(
        plan_options(plan, model_path(model.uri, plan)),
        served_name=model.name or name,
        revision=model.revision,
        trust_remote_code=model.trust_remote_code,
        extra_config=stated.config if stated else {},
        extra_args=stated.args if stated else (),
    )
    run = serve_command(options, release)
    if isinstance(run, EngineRefusal) or not _needs_launcher(spec, plan, release):
        return run
    warning = (
        f"TensorRT-LLM {release.name} cannot start its ranks as root, so that mpirun starts the server; requests in "
        "flight may be cut off when a pod stops (unverified); spec.securityProfile Restricted needs no mpirun"
    )
    return replace(run, argv=(*_LAUNCHER, *run.argv), warnings=(*run.warnings, warning))


def _needs_launcher(spec: LLMDeploymentSpec, plan: Plan, release: EngineRelease) -> bool:
    """Whether the server would fail to start its ranks, of which one GPU has one too.

    A replica of several pods is started by mpirun anyhow, and a Restricted pod is not run as root.
    """
    as_root = spec.security_profile is not SecurityProfile.RESTRICTED
    return as_root and plan.nodes == 1 and not release.spawns_ranks_as_root


def model_path(uri: str, plan: Plan) -> str:
    """Return what trtllm-serve is told to serve: a repository of the Hub, or a directory in the container.

    The plan names the repository, for ``spec.model.variant`` Auto may have chosen a sibling of the stated one.
    """
    scheme, _, rest = uri.partition("://")
    if scheme == "pvc":
        return f"{MODEL_DIRECTORY}/{rest.partition('/')[2]}"
    return MODEL_DIRECTORY if scheme == "oci" else plan.model.name


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


def _source_problem(spec: LLMDeploymentSpec, plan: Plan, release: EngineRelease) -> EngineRefusal | None:
    model = spec.model
    if model.name is not None and "--served_model_name" not in release.flags:
        return EngineRefusal(
            reason=Reason.UNSUPPORTED_BY_RELEASE,
            message=f"spec.model.name is {model.name}, and TensorRT-LLM {release.name} has no --served_model_name: "
            "remove it, or set spec.engine.image.tag",
        )
    stated = repository(model.uri)
    if model.revision is not None and plan.model.name.lower() != stated.lower():
        return EngineRefusal(
            reason=Reason.INVALID_ENGINE_VALUE,
            message=f"spec.model.revision {model.revision} is one of {stated}, and spec.model.variant Auto serves "
            f"{plan.model.name}: set spec.model.uri to that, or remove the revision",
        )
    return None


def _unsupported(config: Mapping[str, Any], release: EngineRelease) -> EngineRefusal | None:
    missing = next((key for key in config if key not in release.config), None)
    if missing is None:
        return None
    return EngineRefusal(
        reason=Reason.UNSUPPORTED_BY_RELEASE,
        message=f"the plan needs {missing}, which TensorRT-LLM {release.name} does not have; set spec.engine.image.tag",
    )
