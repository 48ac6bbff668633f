"""How replicas are replaced: by the user's word, or by whether a further replica's GPUs are free.

The default of a Deployment (a quarter more, a quarter fewer) is wrong for servers that fill their GPUs: with nothing
spare the new replica waits for the GPUs of the old one, which waits for the new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trtllm_operator.api_scaling import Rollout, RolloutStrategy
from trtllm_operator.api_status import RolloutStatus

Manifest = dict[str, Any]

STATED = "spec.rollout"
"""Why, when the user has said how."""

ALL_GROUPS = "100%"

RECREATE_ANSWER = "to free the GPUs first, set spec.rollout.strategy to Recreate"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPlan:
    """A workload's strategy, and why. Replicas above and below the wanted number are None for Recreate."""

    max_surge: int | None
    max_unavailable: int | None
    why: str

    @property
    def strategy(self) -> Manifest:
        """The strategy as a Deployment has it."""
        if self.max_surge is None:
            return {"type": "Recreate"}
        return {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": self.max_surge, "maxUnavailable": self.max_unavailable},
        }

    @property
    def group_strategy(self) -> Manifest:
        """The strategy as a LeaderWorkerSet has it, which stops every group at once in place of Recreate."""
        surge, unavailable = (0, ALL_GROUPS) if self.max_surge is None else (self.max_surge, self.max_unavailable)
        return {
            "type": "RollingUpdate",
            "rollingUpdateConfiguration": {"maxSurge": surge, "maxUnavailable": unavailable},
        }

    @property
    def name(self) -> RolloutStrategy:
        """The strategy's name."""
        return RolloutStrategy.RECREATE if self.max_surge is None else RolloutStrategy.ROLLING_UPDATE


def rollout_plan(
    stated: Rollout | None, *, replicas: int = 0, pods: int = 1, headroom: int | None = None, excluded: bool = False
) -> RolloutPlan:
    """Return how to replace ``replicas`` that run, of ``pods`` each, when ``headroom`` more pods would find GPUs.

    None is not known; ``excluded``: no node takes the new pods, whatever is stopped.
    """
    strategy = RolloutStrategy.AUTO if stated is None else stated.strategy
    if stated is not None and strategy is RolloutStrategy.ROLLING_UPDATE:
        surge = 0 if stated.max_surge is None else stated.max_surge
        unavailable = 1 if stated.max_unavailable is None else stated.max_unavailable
        return RolloutPlan(max_surge=surge, max_unavailable=unavailable, why=STATED)
    if strategy is RolloutStrategy.RECREATE:
        return RolloutPlan(max_surge=None, max_unavailable=None, why=STATED)
    return _auto(replicas, pods, headroom, excluded=excluded)


def _auto(replicas: int, pods: int, headroom: int | None, *, excluded: bool) -> RolloutPlan:
    if replicas == 0:
        return RolloutPlan(max_surge=1, max_unavailable=0, why="nothing is running that would be replaced")
    if excluded:
        why = "no node takes the new replica, whatever is stopped, so what serves goes on"
        return RolloutPlan(max_surge=1, max_unavailable=0, why=why)
    if headroom is None:
        why = f"free GPUs are not known, so nothing is stopped before its successor serves; {RECREATE_ANSWER}"
        return RolloutPlan(max_surge=1, max_unavailable=0, why=why)
    if headroom >= pods:
        return RolloutPlan(max_surge=1, max_unavailable=0, why="the GPUs of a further replica are free")
    if replicas > 1:
        why = f"the GPUs of a further replica are not free: {replicas - 1} of {replicas} replicas serve meanwhile"
        return RolloutPlan(max_surge=0, max_unavailable=1, why=why)
    why = "the GPUs of a further replica are not free: nothing serves until the new replica has loaded"
    return RolloutPlan(max_surge=None, max_unavailable=None, why=why)


def is_stated(rollout: Rollout | None) -> bool:
    """Whether the user has said how, so that nothing is left to decide."""
    return rollout is not None and rollout.strategy is not RolloutStrategy.AUTO


def running_plan(workload: Manifest, told: RolloutStatus | None) -> RolloutPlan:
    """Return the strategy a live Deployment or LeaderWorkerSet has, with what was told about it."""
    why = "it was so before" if told is None else told.reason
    strategy = workload["spec"].get("strategy", {})
    groups = workload["spec"].get("rolloutStrategy", {}).get("rollingUpdateConfiguration", {})
    if strategy.get("type") == "Recreate" or groups.get("maxUnavailable") == ALL_GROUPS:
        return RolloutPlan(max_surge=None, max_unavailable=None, why=why)
    rolling = groups or strategy.get("rollingUpdate", {})
    surge, unavailable = rolling.get("maxSurge", 1), rolling.get("maxUnavailable", 0)
    if not isinstance(surge, int) or not isinstance(unavailable, int):
        surge, unavailable = 1, 0  # a percentage is nothing of ours
    return RolloutPlan(max_surge=surge, max_unavailable=unavailable, why=why)
