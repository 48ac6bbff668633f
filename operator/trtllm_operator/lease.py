"""Who may lead: what a Lease says, and what to write into it. The election itself is in ``leader.py``.

The rules are those of client-go: a lease is judged by when its holder was last *seen* to renew it, on the observer's
own monotonic clock, so the clocks of two machines may differ by any amount. The times written into it are for people.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from trtllm_operator.kinds import LEASE

Manifest = dict[str, Any]

LEASE_NAME = "trtllm-operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Election:
    """The lease to win and by whom. Times are seconds.

    A leader that could not renew for ``renew_deadline`` ends; nobody else leads before ``duration``. What lies between
    is for requests that are still on their way.
    """

    namespace: str
    identity: str
    name: str = LEASE_NAME
    duration: int = 15
    renew_deadline: float = 10.0
    retry_period: float = 2.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """A lease as it was last seen to change; ``at`` is monotonic seconds."""

    record: tuple[Any, ...]
    at: float
    duration: float

    def expired(self, now: float) -> bool:
        """Whether its holder has had the time it was promised."""
        return now >= self.at + self.duration


def holder(lease: Manifest) -> str:
    """Return the identity of the holder, empty when there is none."""
    return lease["spec"].get("holderIdentity") or ""


def sighting(previous: Sighting | None, lease: Manifest, now: float) -> Sighting:
    """Return what is known of the lease after reading it at ``now``."""
    spec = lease["spec"]
    record = tuple(spec.get(key) for key in ("holderIdentity", "acquireTime", "renewTime", "leaseTransitions"))
    if previous is not None and previous.record == record:
        return previous
    return Sighting(record, now, float(spec.get("leaseDurationSeconds") or 0))


def claimed(election: Election, lease: Manifest | None, now: datetime) -> Manifest:
    """Return the lease as its holder writes it: created, taken over or renewed. ``now`` is UTC."""
    stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    before = {} if lease is None else lease["spec"]
    renewed = lease is not None and holder(lease) == election.identity
    return _lease(
        election,
        lease,
        {
            **before,
            "holderIdentity": election.identity,
            "leaseDurationSeconds": election.duration,
            "acquireTime": before.get("acquireTime") if renewed else stamp,
            "renewTime": stamp,
            "leaseTransitions": (before.get("leaseTransitions") or 0) + (0 if renewed or lease is None else 1),
        },
    )


def released(election: Election, lease: Manifest, now: datetime) -> Manifest:
    """Return the lease as free for whoever comes first. ``now`` is UTC."""
    stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return _lease(
        election, lease, {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": stamp}
    )


def _lease(election: Election, lease: Manifest | None, spec: dict[str, Any]) -> Manifest:
    metadata = {"name": election.name, "namespace": election.namespace} if lease is None else lease["metadata"]
    return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}
