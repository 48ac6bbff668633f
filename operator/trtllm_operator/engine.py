"""What trtllm-serve is told: its command line and its configuration file.

Facts of its interface (TensorRT-LLM 1.0 to 1.4.0rc, ``trtllm-serve`` reference and configuration schema): there is no
``--dtype``; the short spellings ``--tp_size``, ``--pp_size``, ``--ep_size`` and the option ``--extra_llm_api_options``
exist in every version; ``--host`` is localhost unless set; file-over-flag precedence changed between releases, so every
knob stands in exactly one of the two. ``/prometheus/metrics`` exists only with ``return_perf_metrics``, and its queue
and KV-cache gauges only with ``enable_iter_perf_stats``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trtllm_operator.api import ScalingMetric
from trtllm_operator.models import repository
from trtllm_operator.plan import Plan

PORT = 8000
CONFIG_DIRECTORY = "/etc/trtllm"
CONFIG_FILE = "engine.json"
CACHE_DIRECTORY = "/cache"
METRICS_PATH = "/prometheus/metrics"
HEALTH_PATH = "/health"

METRIC_NAMES = {
    ScalingMetric.QUEUE_DEPTH: "trtllm_num_requests_waiting",
    ScalingMetric.RUNNING_REQUESTS: "trtllm_num_requests_running",
    ScalingMetric.KV_CACHE_UTILIZATION: "trtllm_kv_cache_utilization",
}
"""Gauges of 1.3.0rc; earlier releases lack them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCommand:
    """One way to start trtllm-serve: argument list, configuration file (JSON is YAML) and environment."""

    argv: tuple[str, ...]
    config: dict[str, Any] = field(default_factory=dict)
    environment: tuple[tuple[str, str], ...] = ()


def command(plan: Plan, uri: str) -> EngineCommand:
    """Return how to serve ``uri`` with this plan in one pod."""
    argv = [
        repository(uri),
        "--host",
        "0.0.0.0",  # noqa: S104 - a pod is reached through its Service, and localhost is the default
        "--port",
        str(PORT),
        "--tp_size",
        str(plan.tensor),
        "--pp_size",
        str(plan.pipeline),
    ]
    if plan.expert > 1:
        argv += ["--ep_size", str(plan.expert)]
    argv += ["--gpus_per_node", str(plan.gpus), "--max_seq_len", str(plan.max_seq_len)]
    argv += ["--extra_llm_api_options", f"{CONFIG_DIRECTORY}/{CONFIG_FILE}"]
    return EngineCommand(
        argv=("trtllm-serve", *argv),
        config={"enable_iter_perf_stats": True, "return_perf_metrics": True},
        environment=(
            ("HF_HOME", f"{CACHE_DIRECTORY}/huggingface"),
            ("TRTLLM_NO_USAGE_STATS", "1"),
        ),
    )


def escape_expansion(text: str) -> str:
    """Keep the kubelet from expanding ``$(NAME)`` in an argument or an environment value."""
    return text.replace("$(", "$$(")
