from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from clocks import ManualClock
from support import ROOT
from trtllm_operator.exposition import Counter, Family, Histogram, exposition, gauge
from trtllm_operator.metrics import Metrics
from trtllm_operator.watches import Watches
from trtllm_operator.workqueue import WorkQueue


def test_the_text_format() -> None:
    requests = Counter("verb", "code")
    for code in ("200", "200", "409"):
        requests.add("patch", code)
    seconds = Histogram((0.1, 1.0))
    for value in (0.1, 0.5, 7.0):
        seconds.observe(value)
    families = [
        Family("requests_total", "counter", "Requests.", requests.samples()),
        Family("seconds", "histogram", "Durations.", seconds.samples()),
        gauge("leader", "Leading.", {(): 1}),
        gauge("odd", "Escapes.", {('a"b\\c\nd',): 2}, "text"),
    ]
    assert exposition(families) == (
        "# HELP requests_total Requests.\n# TYPE requests_total counter\n"
        'requests_total{verb="patch",code="200"} 2\nrequests_total{verb="patch",code="409"} 1\n'
        "# HELP seconds Durations.\n# TYPE seconds histogram\n"
        'seconds_bucket{le="0.1"} 1\nseconds_bucket{le="1"} 2\nseconds_bucket{le="+Inf"} 3\n'
        "seconds_sum 7.6\nseconds_count 3\n"
        "# HELP leader Leading.\n# TYPE leader gauge\nleader 1\n"
        '# HELP odd Escapes.\n# TYPE odd gauge\nodd{text="a\\"b\\\\c\\nd"} 2\n'
    )


def _watches(informers: Sequence[Any], **reasons: int) -> Watches:
    return cast("Watches", SimpleNamespace(informers=informers, reasons=lambda: reasons))


def _informer(plural: str, age: float, count: int) -> Any:
    synced = SimpleNamespace(is_set=lambda: age >= 0)
    return SimpleNamespace(kind=SimpleNamespace(plural=plural), age=lambda _: age, count=count, synced=synced)


def test_what_the_operator_tells_of_itself() -> None:
    clock = ManualClock()
    metrics = Metrics(clock.time)
    metrics.count_request("patch", "deployments", 200)
    with metrics.measured_pass():
        clock.advance(0.3)
    with pytest.raises(KeyError), metrics.measured_pass():
        raise KeyError
    queue = WorkQueue(cast("Any", None))
    watches = _watches([_informer("pods", 3, 2), _informer("pods", 5, 1), _informer("nodes", 1, 4)], Ready=7)
    lines = metrics.exposition(queue, watches, leading=True).splitlines()
    for line in (
        'trtllm_operator_passes_total{outcome="Done"} 1',
        'trtllm_operator_passes_total{outcome="KeyError"} 1',
        'trtllm_operator_pass_duration_seconds_bucket{le="0.25"} 1',
        'trtllm_operator_pass_duration_seconds_bucket{le="0.5"} 2',
        'trtllm_operator_api_requests_total{verb="patch",resource="deployments",code="200"} 1',
        "trtllm_operator_is_leader 1",
        "trtllm_operator_queue_depth 0",
        'trtllm_operator_watch_age_seconds{resource="pods"} 5',
        'trtllm_operator_watched_objects{resource="pods"} 3',
        'trtllm_operator_llmdeployments{reason="Ready"} 7',
    ):
        assert line in lines


def test_every_metric_is_in_the_operating_page() -> None:
    page = Metrics(ManualClock().time).exposition(WorkQueue(cast("Any", None)), _watches([]), leading=True)
    told = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")}
    rows = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8").splitlines()
    assert told == {row.split("`")[1] for row in rows if row.startswith("| `")}


async def test_a_pass_that_was_cancelled_is_counted_as_such() -> None:
    metrics = Metrics(ManualClock().time)
    with pytest.raises(asyncio.CancelledError), metrics.measured_pass():
        raise asyncio.CancelledError
    page = metrics.exposition(WorkQueue(cast("Any", None)), _watches([]), leading=False)
    assert 'outcome="CancelledError"} 1' in page
    assert "trtllm_operator_is_leader 0" in page


def test_a_watch_that_has_not_begun_has_no_age() -> None:
    queue = WorkQueue(cast("Any", None))
    page = Metrics(ManualClock().time).exposition(queue, _watches([_informer("pods", -1, 0)]), leading=False)
    assert 'resource="pods"' not in page
