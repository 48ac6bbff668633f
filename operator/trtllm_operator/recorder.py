"""Kubernetes events about an LLMDeployment: each change told once, and never a storm of them."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta

from trtllm_operator.cluster import Cluster, Manifest
from trtllm_operator.errors import OperatorError
from trtllm_operator.kinds import EVENT
from trtllm_operator.naming import API_VERSION, FIELD_MANAGER, KIND
from trtllm_operator.status import Transition
from trtllm_operator.workqueue import Key

QUIET_PERIOD = timedelta(minutes=10)
"""The same is not told again before this; kubelet and controllers let their events be counted for as long."""

MOST_PER_PERIOD = 12
"""Events about one object in that time; a status that flaps is told by its condition."""

_LONGEST_MESSAGE = 1024
"""The API server refuses longer ones."""

_MOST_OBJECTS = 4096

_Matter = tuple[str, str, str]


class Recorder:
    """Posts events, and remembers for a while what it told. ``now`` is UTC."""

    def __init__(self) -> None:
        self._told: OrderedDict[str, dict[_Matter, datetime]] = OrderedDict()

    async def post(self, cluster: Cluster, key: Key, uid: str, transition: Transition, now: datetime) -> None:
        """Tell one change, unless it was told a moment ago. A lost event is no error."""
        if not self._is_news(uid, transition, now):
            return
        try:
            await cluster.create(EVENT, _event(key, uid, transition, now))
        except OperatorError:
            return  # an event tells a story; losing one must not repeat the pass

    def _is_news(self, uid: str, transition: Transition, now: datetime) -> bool:
        recent = {old: at for old, at in self._told.pop(uid, {}).items() if now - at < QUIET_PERIOD}
        matter = _matter(transition)
        news = matter not in recent and len(recent) < MOST_PER_PERIOD
        self._told[uid] = {**recent, matter: now} if news else recent
        if len(self._told) > _MOST_OBJECTS:
            self._told.popitem(last=False)
        return news


def _matter(transition: Transition) -> _Matter:
    """Return what is told once in a quiet period."""
    about = transition.message if transition.topic is None else transition.topic
    return transition.type, transition.reason, about


def _event(key: Key, uid: str, transition: Transition, now: datetime) -> Manifest:
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"generateName": f"{key.name}.", "namespace": key.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": key.name,
            "namespace": key.namespace,
            "uid": uid,
        },
        "type": transition.type,
        "reason": transition.reason,
        "message": transition.message[:_LONGEST_MESSAGE],
        "source": {"component": FIELD_MANAGER},
        "reportingComponent": FIELD_MANAGER,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
