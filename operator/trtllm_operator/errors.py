"""Everything that can go wrong and is not a value.

::

    OperatorError
    ├── InvalidObject       the stored object does not parse: wait until it changes
    ├── NameConflict        an object we would create belongs to somebody else: leave it alone
    ├── Leftover            an object we would create belongs to a predecessor of our name: wait until it is collected
    ├── NotLeader           another operator leads: nothing may be written
    └── ClusterError        the API server said no, or nothing
        ├── Conflict        409: a field or a resource version somebody else holds
        ├── Forbidden       401, 403: a right is missing; names verb and resource
        ├── Gone            410: the resource version to watch from has been compacted
        ├── NotFound        404: the object, its namespace or its kind does not exist
        ├── Rejected        400, 413, 422: the API server refuses the manifest
        └── Unavailable     429, 5xx, time-outs, no connection: try again
"""

from __future__ import annotations


class OperatorError(Exception):
    """Base of every expected failure."""


class InvalidObject(OperatorError):
    """A stored object does not parse."""


class NameConflict(OperatorError):
    """An object of the name we need exists and is not ours."""


class Leftover(OperatorError):
    """An object of the name we need still belongs to a deleted LLMDeployment of the same name."""


class NotLeader(OperatorError):
    """A write was about to be sent without holding the lease."""


class ClusterError(OperatorError):
    """A request to the API server failed; ``status`` is the HTTP status, 0 when there was no answer."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class Conflict(ClusterError):
    """409."""


class Forbidden(ClusterError):
    """401 or 403."""


class Gone(ClusterError):
    """410."""


class NotFound(ClusterError):
    """404."""


class Rejected(ClusterError):
    """400, 413 or 422: sending the same manifest again cannot help."""


class Unavailable(ClusterError):
    """429, 5xx, a time-out or no connection; ``retry_after`` in seconds when the server named it."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, status=status, reason=reason)
        self.retry_after = retry_after
