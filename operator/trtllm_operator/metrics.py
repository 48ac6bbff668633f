"""The operator's own metrics: what its passes came to, how long keys wait, how fresh its watches are."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from trtllm_operator import __version__
from trtllm_operator.exposition import Counter, Family, Histogram, exposition, gauge
from trtllm_operator.watches import Watches
from trtllm_operator.workqueue import WorkQueue

_PREFIX = "trtllm_operator"
_PASS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """What is counted as it happens; the rest is read off when somebody asks. ``clock`` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._passes = Counter("outcome")
        self._seconds = Histogram(_PASS_SECONDS)
        self._requests = Counter("verb", "resource", "code")

    def count_request(self, verb: str, resource: str, status: int) -> None:
        """Count a request to the API server; status 0 means that nobody answered."""
        self._requests.add(verb, resource, str(status))

    @contextmanager
    def measured_pass(self) -> Iterator[None]:
        """Time a pass and count what it came to: ``Done``, or the class of its error."""
        started, outcome = self._clock(), "Done"
        try:
            yield
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            self._passes.add(outcome)
            self._seconds.observe(self._clock() - started)

    def exposition(self, queue: WorkQueue, watches: Watches, *, leading: bool) -> str:
        """Return the page."""
        return exposition((*self._counted(), *_state(queue, leading=leading), *_watched(watches, self._clock())))

    def _counted(self) -> Iterator[Family]:
        yield Family(f"{_PREFIX}_passes_total", "counter", "Passes over an LLMDeployment.", self._passes.samples())
        yield Family(f"{_PREFIX}_pass_duration_seconds", "histogram", "Duration of a pass.", self._seconds.samples())
        yield Family(
            f"{_PREFIX}_api_requests_total",
            "counter",
            "Requests to the API server; code 0 means that there was no answer.",
            self._requests.samples(),
        )


def _state(queue: WorkQueue, *, leading: bool) -> Iterator[Family]:
    yield gauge(f"{_PREFIX}_build_info", "Version of the operator.", {(__version__,): 1}, "version")
    yield gauge(f"{_PREFIX}_is_leader", "1 while this process may write.", {(): int(leading)})
    yield gauge(f"{_PREFIX}_queue_depth", "Keys that wait for a worker.", {(): queue.depth})
    yield gauge(f"{_PREFIX}_queue_in_flight", "Passes that run now.", {(): queue.in_flight})
    yield gauge(f"{_PREFIX}_queue_retrying", "Keys whose last pass failed.", {(): queue.retrying})


def _watched(watches: Watches, now: float) -> Iterator[Family]:
    ages: dict[tuple[str, ...], float] = {}
    objects: Tally[tuple[str, ...]] = Tally()
    for informer in watches.informers:
        if not informer.synced.is_set():
            continue  # a standby's have never been heard of, and nothing is wrong with that
        kind = (informer.kind.plural,)
        ages[kind] = max(ages.get(kind, 0.0), informer.age(now))
        objects[kind] += informer.count
    yield gauge(f"{_PREFIX}_watch_age_seconds", "Time since a watch was last heard of.", ages, "resource")
    yield gauge(f"{_PREFIX}_watched_objects", "Objects in memory.", objects, "resource")
    reasons: dict[tuple[str, ...], float] = {(reason,): count for reason, count in watches.reasons().items()}
    yield gauge(f"{_PREFIX}_llmdeployments", "LLMDeployments by the reason of Ready.", reasons, "reason")
