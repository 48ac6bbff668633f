"""``/prometheus/metrics``: the names the release exports with the switches that are on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trtllm_operator.engine_versions import EngineRelease, Metric
from trtllm_operator.sandbox.fake_trtllm_serve.engine import Engine

_LATENCY = {
    "request_queue_time_seconds": "queue",
    "time_to_first_token_seconds": "first_token",
    "e2e_request_latency_seconds": "end_to_end",
}


def exposition(release: EngineRelease, config: Mapping[str, Any], engine: Engine, model: str) -> str:
    """Return the metrics in Prometheus's text format."""
    exported = [metric for metric in release.metrics if all(config.get(key) for key in metric.needs)]
    labels = f'{{model_name="{model}",engine_type="trtllm"}}'
    lines = [line for metric in exported for line in _lines(release.metric_prefix + metric.name, metric, engine)]
    return "".join(line.replace("{}", labels) + "\n" for line in lines)


def _lines(name: str, metric: Metric, engine: Engine) -> Iterator[str]:
    yield f"# TYPE {name} {metric.kind}"
    if metric.kind == "histogram":
        observed = engine.latencies.get(_LATENCY.get(metric.name, ""), [])
        yield f"{name}_sum{{}} {sum(observed)}"
        yield f"{name}_count{{}} {len(observed)}"
    else:
        yield f"{name}{{}} {_value(metric.name, engine)}"


def _value(name: str, engine: Engine) -> int:
    values = {
        "num_requests_running": engine.running,
        "num_requests_waiting": engine.waiting,
        "num_requests_completed_total": engine.completed,
        "request_success_total": engine.completed,
        "generation_tokens_total": engine.generated_tokens,
    }
    return values.get(name, 0)
