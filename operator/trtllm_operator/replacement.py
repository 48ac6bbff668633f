"""When a Deployment gives way to a LeaderWorkerSet, or the other way round, and what their pods read with them.

Both run while the new one starts: the Service selects the pods that answer, whichever made them. The old one goes when
the new one is ready, or when a pod of the new one finds no node: then the two do not fit side by side, and waiting
would be for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trtllm_operator.facts import Observed
from trtllm_operator.kinds import CONFIG_MAP, JOB, KINDS, WORKLOAD_KINDS, Kind
from trtllm_operator.observe import Manifest, is_rolled_out
from trtllm_operator.pod_problems import ProblemReason


def prunable(wanted: Kind, workloads: Mapping[Kind, Sequence[Manifest]], observed: Observed | None) -> tuple[Kind, ...]:
    """Return the kinds of which nothing is needed but what is rendered.

    ``workloads`` are those that exist, ``observed`` is the one of the ``wanted`` kind.
    """
    staying = {
        *(() if _gives_way(observed) else WORKLOAD_KINDS),
        *(() if _only_newest_pods(wanted, workloads) else (CONFIG_MAP, JOB)),
    }
    return tuple(kind for kind in KINDS if kind not in staying)


def _gives_way(successor: Observed | None) -> bool:
    if successor is None:
        return False
    crowded = successor.problem is not None and successor.problem.reason == ProblemReason.UNSCHEDULABLE
    return successor.settled or crowded


def _only_newest_pods(wanted: Kind, workloads: Mapping[Kind, Sequence[Manifest]]) -> bool:
    """Whether no pod is left that would read the files of an older template if it started once more."""
    running = [kind for kind, found in workloads.items() if found]
    return running == [wanted] and all(is_rolled_out(workload) for workload in workloads[wanted])
