"""What goes wrong between the operator and the API server, said as data.

A ``Rule`` is: on these requests or watch events, after letting ``skip`` of them pass, do this, ``times`` times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Manifest = dict[str, Any]

WRITES = frozenset({"create", "patch", "delete"})
READS = frozenset({"get", "list", "watch"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request in the words of RBAC; ``resource`` holds the subresource too: ``llmdeployments/status``."""

    verb: str
    resource: str
    namespace: str = ""
    name: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Manifest = field(default_factory=dict)

    @property
    def is_write(self) -> bool:
        return self.verb in WRITES

    @classmethod
    def parse(cls, method: str, path: str, query: dict[str, str], body: bytes) -> Request:
        parts = path.strip("/").split("/")
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        namespace = ""
        if len(parts) > 2 and parts[0] == "namespaces":
            namespace, parts = parts[1], parts[2:]
        plural, name, subresource = (*parts, "", "", "")[:3]
        return cls(
            verb=_verb(method, name=name, watched=query.get("watch") in ("1", "true")) if plural else "discover",
            resource=f"{plural}/{subresource}" if subresource else plural,
            namespace=namespace,
            name=name,
            query=query,
            body=_manifest(body),
        )

    def __str__(self) -> str:
        return " ".join(filter(None, (self.verb, self.resource, self.name)))


def _verb(method: str, *, name: str, watched: bool) -> str:
    if method == "GET":
        return "watch" if watched else "get" if name else "list"
    return {"POST": "create", "PATCH": "patch", "DELETE": "delete", "PUT": "update"}[method]


def _manifest(body: bytes) -> Manifest:
    manifest: Manifest = json.loads(body) if body else {}
    return manifest


def _always(_: Manifest) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class On:
    """Which requests, or which events of a watch; what is left out matches everything.

    ``where`` looks at the body of a request or at the object of an event; ``paged``: only the further pages of lists.
    """

    verbs: frozenset[str] = WRITES | READS
    resources: frozenset[str] = frozenset()
    name: str = ""
    paged: bool = False
    events: frozenset[str] = frozenset()
    where: Callable[[Manifest], bool] = _always

    def matches(self, request: Request) -> bool:
        named = not self.name or self.name == request.name
        page = not self.paged or "continue" in request.query
        return self._covers(request) and named and page and self.where(request.body)

    def matches_event(self, request: Request, event: str, manifest: Manifest) -> bool:
        named = not self.name or self.name == manifest.get("metadata", {}).get("name")
        typed = not self.events or event in self.events
        return self._covers(request) and named and typed and self.where(manifest)

    def _covers(self, request: Request) -> bool:
        return request.verb in self.verbs and (not self.resources or request.resource in self.resources)


def writes(*resources: str, name: str = "", where: Callable[[Manifest], bool] = _always) -> On:
    return On(verbs=WRITES, resources=frozenset(resources), name=name, where=where)


def reads(*resources: str) -> On:
    return On(verbs=READS, resources=frozenset(resources))


def lists(*resources: str) -> On:
    return On(verbs=frozenset({"list"}), resources=frozenset(resources))


def gets(*resources: str) -> On:
    return On(verbs=frozenset({"get"}), resources=frozenset(resources))


def watches(*resources: str) -> On:
    return On(verbs=frozenset({"watch"}), resources=frozenset(resources))


def events(
    *resources: str, types: Iterable[str] = (), name: str = "", where: Callable[[Manifest], bool] = _always
) -> On:
    return On(
        verbs=frozenset({"watch"}),
        resources=frozenset(resources),
        events=frozenset(types),
        name=name,
        where=where,
    )


class Moment(Enum):
    """When the operator dies, relative to one of its requests."""

    BEFORE = "before it reached the API server"
    UNANSWERED = "after the API server had answered, before the operator saw it"
    AFTER = "after the operator was answered"


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL the operator."""

    moment: Moment = Moment.AFTER


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer in the API server's place with a Status of this code."""

    status: int
    reason: str = ""
    message: str = "injected"
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """Answer with what the API server once said: time travel."""

    answer: bytes


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection with RST, with or without having done what was asked."""

    forwarded: bool = False


@dataclass(frozen=True, slots=True)
class BlackHole:
    """Say nothing, keep the connection, until the rule is disarmed; then break it."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """Announce the whole answer, send half of it, break the connection."""


@dataclass(frozen=True, slots=True)
class Garble:
    """Send a body (or a line of a watch) that is not JSON."""


@dataclass(frozen=True, slots=True)
class Slow:
    """Let this many seconds pass first."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Withhold:
    """Never deliver the event."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Deliver the event and everything behind it only when the rule is disarmed."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """Deliver the event this many times."""

    times: int = 2


@dataclass(frozen=True, slots=True)
class Cut:
    """Break the connection of the watch in place of delivering the event."""


@dataclass(frozen=True, slots=True)
class Expire:
    """End the watch with an ERROR event, 410 unless told otherwise, in place of the event."""

    code: int = 410


@dataclass(frozen=True, slots=True)
class Shred:
    """Deliver the event in pieces of this many bytes."""

    size: int


RequestFault = Kill | Refuse | Replay | Reset | BlackHole | Truncate | Garble | Slow
EventFault = Withhold | Hold | Repeat | Cut | Expire | Shred | Garble
STREAMED = (Withhold, Hold, Repeat, Cut, Expire, Shred)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """On these, after ``skip`` of them, do this, ``times`` times (None: until disarmed)."""

    on: On
    do: RequestFault | EventFault
    skip: int = 0
    times: int | None = 1

    @property
    def is_about_events(self) -> bool:
        return isinstance(self.do, STREAMED) or bool(self.on.events)
