"""Whether pods without a node will find one, and how running replicas are replaced when GPUs are scarce."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trtllm_operator.api_scaling import Rollout
from trtllm_operator.api_status import RolloutStatus
from trtllm_operator.apply import is_current
from trtllm_operator.capacity import PLACED, Assessment, Need, assess, need_of
from trtllm_operator.errors import OperatorError
from trtllm_operator.facts import Observed
from trtllm_operator.planned import Infeasible
from trtllm_operator.pod_problems import is_placed
from trtllm_operator.render import Manifest, Rendering
from trtllm_operator.rollout import STATED, RolloutPlan, is_stated, rollout_plan, running_plan
from trtllm_operator.upgrade import held
from trtllm_operator.watched import Memory, Supplier
from trtllm_operator.workqueue import Key

logger = logging.getLogger(__name__)

FORECAST_AGE = 10.0
"""Seconds that free GPUs may have been counted before a forecast."""

DECISION_AGE = 0.5
"""As FORECAST_AGE, before deciding how running replicas are replaced: our own pods have moved since the last count."""

Render = Callable[[RolloutPlan], Rendering]
"""Render the objects of a plan for one way of replacing replicas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecaster:
    """Counts free GPUs only when something waits for them. Without ``survey`` nothing is known about them."""

    memory: Memory
    survey: Supplier | None

    async def forecast(self, key: Key, manifests: Sequence[Manifest], observed: Observed | None) -> Assessment | None:
        """Return whether the pods without a node will find one; nothing is read when every pod has one."""
        need = need_of(manifests)
        if need is None:
            return None
        pods = [pod for pod in self.memory.pods(key) if "deletionTimestamp" not in pod["metadata"]]
        placed = sum(is_placed(pod) for pod in pods)
        missing = max((observed.wanted if observed else 0) * need.pods - placed, len(pods) - placed)
        return PLACED if missing <= 0 else await self._assess(key, need, missing, age=FORECAST_AGE)

    async def rollout(
        self,
        key: Key,
        stated: Rollout | None,
        told: RolloutStatus | None,
        workload: Manifest | None,
        replicas: int,
        render: Render,
    ) -> RolloutPlan:
        """Return how ``replicas`` of a live ``workload`` are replaced: decided when an edit is about to replace them.

        ``told`` is what was decided the last time, which stays until the next edit.
        """
        if workload is None or is_stated(stated):
            return rollout_plan(stated)
        rollout = running_plan(workload, told)
        rendering = render(rollout)
        if isinstance(rendering, Infeasible) or held(rendering, self.memory.child) is not None:
            return rollout
        edited = any(m["kind"] == workload["kind"] and not is_current(m, workload) for m in rendering)
        if rollout.why != STATED and not edited:
            return rollout
        need = need_of(rendering)
        room = None if need is None else await self._assess(key, need, need.pods, age=DECISION_AGE)
        if need is None or room is None:
            return rollout_plan(stated, replicas=replicas)
        pods = need.pods + _growth(need, workload)
        return rollout_plan(stated, replicas=replicas, pods=pods, headroom=room.headroom, excluded=room.excluded)

    async def _assess(self, key: Key, need: Need, missing: int, *, age: float) -> Assessment | None:
        if self.survey is None:
            return None
        try:
            return assess(need, missing, await self.survey.supply(key.namespace, age=age))
        except OperatorError as error:
            logger.info("%s: free GPUs are not known: %s", key, error)
            return None


def _growth(need: Need, workload: Manifest) -> int:
    """Return the pods by which a group becomes larger.

    A LeaderWorkerSet keeps the further group until the first one has been made anew in its place, with what it had.
    """
    size: int = workload["spec"].get("leaderWorkerTemplate", {}).get("size", need.pods)
    return max(0, need.pods - size)
