"""One kind of object in memory: list, watch, and what was missed in between.

The reconciler reads children from here and never from the API server; the liveness probe reads ``age``.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing

from trtllm_operator.cluster import Cluster, Manifest, Manifests, WatchEvent
from trtllm_operator.errors import ClusterError, Forbidden, Gone, NotFound, Unavailable
from trtllm_operator.kinds import Kind
from trtllm_operator.naming import FIELD_MANAGER
from trtllm_operator.ownership import controller_uid

logger = logging.getLogger(__name__)

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 15.0
_LONGEST_RETRY_AFTER = 60.0
_REFUSALS = 3
"""Refused lists that are an answer: an API server that has just started refuses everything for a moment."""

_Place = tuple[str, str]


def default_slim(manifest: Manifest) -> Manifest:
    """Return the object without what nobody here reads: other managers' fields and kubectl's copy of the manifest."""
    metadata = dict(manifest["metadata"])
    if managed := metadata.pop("managedFields", None):
        metadata["managedFields"] = [entry for entry in managed if entry.get("manager") == FIELD_MANAGER]
    if _LAST_APPLIED in (annotations := metadata.get("annotations") or {}):
        metadata["annotations"] = {key: value for key, value in annotations.items() if key != _LAST_APPLIED}
    return {**manifest, "metadata": metadata}


class Informer:
    """The objects of one kind, as new as the last event; ``run`` keeps them so.

    ``on_change`` hears of every change that the stream or a list brings, with True for a deletion, after memory has it;
    not of what ``observe`` put in, nor of its echo. What it raises ends ``run``. ``index`` names the group that
    ``by_owner`` finds.

    ``absence`` is why there can be no object of this kind: the API server does not serve it, or, for an optional kind,
    does not let us list it. It is looked at again every ``missing_retry`` seconds; ``on_availability`` hears when an
    API comes or goes, but not of the first answer.
    """

    def __init__(  # noqa: PLR0913 - the seams of time are keywords with defaults
        self,
        cluster: Cluster,
        kind: Kind,
        *,
        on_change: Callable[[Manifest, bool], None],
        on_availability: Callable[[], None] = lambda: None,
        namespace: str | None = None,
        labels: str = "",
        slim: Callable[[Manifest], Manifest] = default_slim,
        index: Callable[[Manifest], str | None] = controller_uid,
        missing_retry: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.kind = kind
        self.synced = asyncio.Event()
        self.answered = asyncio.Event()
        """Set by the first list, or when one was refused again and again."""
        self.problem: str | None = None
        self.absence: ClusterError | None = None
        self._refusals = 0
        self._cluster = cluster
        self._namespace = namespace
        self._labels = labels
        self._slim = slim
        self._index = index
        self._on_change = on_change
        self._on_availability = on_availability
        self._missing_retry = missing_retry
        self._clock = clock
        self._sleep = sleep
        self._heard = clock()
        self._events = 0
        self._objects: dict[_Place, Manifest] = {}
        self._groups: dict[str, dict[_Place, Manifest]] = {}
        self._position: str | None = None
        """The resourceVersion memory has followed the stream to; None: list first."""
        self._reached = ""
        """As ``_position``, but kept when a list is due."""

    def get(self, namespace: str | None, name: str) -> Manifest | None:
        """Return one object; ``namespace`` None or empty for cluster-scoped kinds."""
        return self._objects.get((namespace or "", name))

    def items(self) -> Iterable[Manifest]:
        """Return every object; not to be iterated across an await."""
        return self._objects.values()

    @property
    def count(self) -> int:
        """How many objects there are."""
        return len(self._objects)

    def by_owner(self, uid: str) -> Iterable[Manifest]:
        """Return the objects of one controller (or of one ``index`` value); not to be iterated across an await."""
        return self._groups.get(uid, {}).values()

    def age(self, now: float) -> float:
        """Return the seconds since the last event, bookmark or complete list; ``now`` in the clock's time."""
        return now - self._heard

    def observe(self, manifest: Manifest) -> None:
        """Take the answer to our own write in at once; an answer that the stream has overtaken is ignored."""
        known = self._objects.get(_place(manifest))
        if known is None:
            # The stream is past this version and the object is not here: it has been deleted since.
            overtaken = _is_older(_version(manifest), self._reached) or _version(manifest) == self._reached
        else:
            overtaken = _same(known, manifest) and _is_older(_version(manifest), _version(known))
        if not overtaken:
            self._put(self._slim(manifest))

    async def run(self) -> None:
        """List and watch until cancelled. Only what is not a ClusterError ends it."""
        failures = 0
        while True:
            events, started = self._events, self._clock()
            try:
                if self._position is None:
                    await self._relist()
                await self._follow(self._position or "")
            except ClusterError as error:
                asked = self._note(error)
            else:
                asked = 0.0
            # A stream that lasted has served its time; one that ends at once, again and again, must not spin.
            lasted = self._events > events or self._clock() - started > _LONGEST_PAUSE
            failures = 0 if lasted else failures + 1
            if asked:
                await self._sleep(asked * random.uniform(1.0, 1.2))
            elif failures > (1 if self._position is None else 0):  # the first list after Gone comes at once
                await self._sleep(_pause(failures))

    def _note(self, error: ClusterError) -> float:
        """Note what went wrong; return the seconds to wait, 0 to leave them to the back-off."""
        if isinstance(error, Gone):
            logger.info("listing %s again: %s", self.kind.plural, error)
            self._position = None
            return 0.0
        if isinstance(error, NotFound) or (self.kind.optional and isinstance(error, Forbidden)):
            # Nothing can exist, and nothing is wrong until somebody needs the kind.
            self._become(error)
            self._take_list([], self._reached)
            self._position = None
            return self._missing_retry
        if isinstance(error, Unavailable):
            logger.info("watch of %s interrupted: %s", self.kind.plural, error)
            return min(error.retry_after or 0.0, _LONGEST_RETRY_AFTER)
        if self.problem is None:
            logger.warning("cannot watch %s: %s", self.kind.plural, error)
        self.problem = str(error)
        self._refusals += 1
        if self._refusals >= _REFUSALS:
            self.answered.set()
        return 0.0  # a right that is missing, or an API server that has just started and forbids everything

    def _become(self, absence: ClusterError | None) -> None:
        flipped = (self.absence is None) != (absence is None)
        self.absence = absence
        if flipped and self.synced.is_set():
            self._on_availability()

    async def _relist(self) -> None:
        items, version = await self._cluster.list(self.kind, self._namespace, labels=self._labels)
        self._become(None)
        self._take_list(items, version)
        self._position = version

    async def _follow(self, position: str) -> None:
        stream = self._cluster.watch(
            self.kind, namespace=self._namespace, labels=self._labels, resource_version=position
        )
        async with aclosing(stream) as events:
            async for event in events:
                self._take_event(event)

    def _take_event(self, event: WatchEvent) -> None:
        self._heard = self._clock()
        self._events += 1
        self.problem = None
        self._position = self._reached = _version(event.manifest)
        if event.type == "BOOKMARK":
            return
        if event.type == "DELETED":
            self._delete(self._slim(event.manifest))
            return
        known = self._objects.get(_place(event.manifest))
        if known is not None and _same(known, event.manifest) and _version(known) == _version(event.manifest):
            return
        manifest = self._slim(event.manifest)
        if known is not None and _is_older(_version(manifest), _version(known)):
            # Our own write came after it and memory holds the outcome of both, but nobody has heard of this change.
            manifest = known
        else:
            self._put(manifest)
        self._on_change(manifest, False)  # noqa: FBT003 - the callback's shape

    def _take_list(self, items: Manifests, version: str) -> None:
        """Replace memory by a list and report the differences."""
        # A list behind what the stream told is another history (etcd was restored): then it is right and memory is not.
        restored = _is_older(version, self._reached)
        self._heard = self._clock()
        self.problem = None
        self._reached = version
        gone = dict(self._objects)
        changed: Manifests = []
        for item in items:
            known = gone.pop(_place(item), None)
            if known is not None and _same(known, item):
                stale = not restored and _is_older(_version(item), _version(known))
                if stale or _version(known) == _version(item):
                    continue
            changed.append(self._put(self._slim(item)))
        for place, manifest in list(gone.items()):
            # Written by us after the list was made: not in it, and not gone.
            if not restored and _is_older(version, _version(manifest)):
                del gone[place]
            else:
                self._remove(place)
        for manifest in changed:
            self._on_change(manifest, False)  # noqa: FBT003 - the callback's shape
        for manifest in gone.values():
            self._on_change(manifest, True)  # noqa: FBT003 - the callback's shape
        self.synced.set()
        self.answered.set()

    def _delete(self, manifest: Manifest) -> None:
        place = _place(manifest)
        known = self._objects.get(place)
        if known is not None and _same(known, manifest):
            self._remove(place)
        self._on_change(manifest, True)  # noqa: FBT003 - the callback's shape

    def _put(self, manifest: Manifest) -> Manifest:
        place = _place(manifest)
        self._remove(place)
        self._objects[place] = manifest
        if (group := self._index(manifest)) is not None:
            self._groups.setdefault(group, {})[place] = manifest
        return manifest

    def _remove(self, place: _Place) -> None:
        known = self._objects.pop(place, None)
        group = None if known is None else self._index(known)
        if group is not None:
            members = self._groups[group]
            del members[place]
            if not members:
                del self._groups[group]


def _place(manifest: Manifest) -> _Place:
    metadata = manifest["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def _version(manifest: Manifest) -> str:
    version: str = manifest["metadata"]["resourceVersion"]
    return version


def _same(one: Manifest, other: Manifest) -> bool:
    same: bool = one["metadata"].get("uid") == other["metadata"].get("uid")
    return same


def _is_older(version: str, than: str) -> bool:
    """Whether one resourceVersion is before another: ordered integers since Kubernetes 1.35, else unknown."""
    return version.isdecimal() and than.isdecimal() and int(version) < int(than)


def _pause(failures: int) -> float:
    """Return 0.5 s doubling to 15 s, give or take a fifth, for the n-th failure in a row."""
    return min(_FIRST_PAUSE * 2.0 ** min(max(failures - 1, 0), 10), _LONGEST_PAUSE) * random.uniform(0.8, 1.2)
