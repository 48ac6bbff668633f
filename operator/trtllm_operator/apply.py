"""Server-side apply with proof of ownership, and prune.

A child is written only when it is missing, when its digest is not the one of the rendered manifest, or when somebody
else has taken a field we set (its entry in managedFields says so). Reading that from the object itself makes the
decision the same after a restart. A strange object of the same name is never touched: the first apply goes without
force and must create; anything else is undone and reported.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from trtllm_operator.cluster import Cluster
from trtllm_operator.errors import Conflict, Leftover, NameConflict, Rejected
from trtllm_operator.kinds import CHILD_KINDS, WORKLOAD_KINDS, Kind
from trtllm_operator.naming import DIGEST_ANNOTATION, FIELD_MANAGER, REPAIR_MANAGER, REPLICAS_MANAGER
from trtllm_operator.ownership import controller_uid, controlling_deployment
from trtllm_operator.render import Manifest, Owner

Live = Callable[[Kind, str, str], Manifest | None]
"""Look a child up in memory by kind, namespace and name."""

Observe = Callable[[Kind, Manifest], None]
"""Take the API server's answer to a write into memory, so that the next pass does not act on what was before it."""


async def apply(
    cluster: Cluster,
    owner: Owner,
    manifests: Sequence[Manifest],
    live: Live,
    observe: Observe,
    *,
    first_pass: bool,
) -> None:
    """Write what differs. Raises the first error after every child has been tried.

    ``first_pass``: the operator has never seen this object, so no child of it can exist yet and none is looked up
    before it is created.
    """
    writes = [_apply_one(cluster, owner, manifest, live, observe, first_pass=first_pass) for manifest in manifests]
    for result in await asyncio.gather(*writes, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def prune(
    cluster: Cluster, owner: Owner, wanted: Sequence[Manifest], owned: Mapping[Kind, Iterable[Manifest]]
) -> None:
    """Delete the children of this owner that are no longer rendered."""
    keep = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in wanted}
    for kind, children in owned.items():
        for child in list(children):
            metadata = child["metadata"]
            if (kind.kind, metadata["name"]) not in keep and "deletionTimestamp" not in metadata:
                await cluster.delete(kind, owner.namespace, metadata["name"], uid=metadata["uid"])


async def hold_replicas(
    cluster: Cluster, owned: Mapping[Kind, Iterable[Manifest]], floor: int, observe: Observe
) -> None:
    """Raise to ``floor`` the replicas of workloads that no autoscaler takes care of; more of them stay."""
    for kind, workloads in owned.items():
        for workload in workloads:
            if workload["spec"].get("replicas", 1) < floor and "deletionTimestamp" not in workload["metadata"]:
                observe(kind, await _set_replicas(cluster, kind, workload, floor))


async def scale(cluster: Cluster, kind: Kind, workload: Manifest, replicas: int, observe: Observe) -> None:
    """Set the replicas of a live workload and nothing else of it."""
    if workload["spec"].get("replicas", 1) != replicas:
        observe(kind, await _set_replicas(cluster, kind, workload, replicas))


async def _apply_one(
    cluster: Cluster, owner: Owner, manifest: Manifest, live: Live, observe: Observe, *, first_pass: bool
) -> None:
    kind, name = CHILD_KINDS[manifest["kind"]], manifest["metadata"]["name"]
    existing = live(kind, owner.namespace, name)
    if existing is None and not first_pass:
        existing = await cluster.get(kind, owner.namespace, name)
    if existing is None:
        observe(kind, await _create(cluster, owner, kind, manifest))
        return
    if controller_uid(existing) != owner.uid:
        predecessor = controlling_deployment(existing) == owner.name
        raise _leftover(kind, owner, name) if predecessor else _conflict(kind, owner, name)
    if is_current(manifest, existing):
        return
    if kind in WORKLOAD_KINDS and "replicas" not in manifest["spec"]:
        await _hand_over_replicas(cluster, kind, existing)
    observe(kind, await _update(cluster, owner, kind, manifest, existing["metadata"]["uid"]))


async def _update(cluster: Cluster, owner: Owner, kind: Kind, manifest: Manifest, uid: str) -> Manifest:
    """Apply by force to the object of this uid, and return it."""
    body = {**manifest, "metadata": {**manifest["metadata"], "uid": uid}}
    try:
        return (await cluster.apply(kind, body, manager=FIELD_MANAGER, force=True)).manifest
    except Rejected:
        # Apply never removes what others added to a keyed list, and that can make the whole invalid (two ports of one
        # name). A merge patch replaces lists; when the manifest itself is at fault it is refused in the same words.
        identity = {"name": manifest["metadata"]["name"], "namespace": owner.namespace, "uid": uid}
        await cluster.merge(kind, {"metadata": identity, **_content(manifest)}, manager=REPAIR_MANAGER)
        return (await cluster.apply(kind, body, manager=FIELD_MANAGER, force=True)).manifest


async def _create(cluster: Cluster, owner: Owner, kind: Kind, manifest: Manifest) -> Manifest:
    """Create through apply without force. 200 or 409 means that somebody else's object is already there."""
    name = manifest["metadata"]["name"]
    try:
        applied = await cluster.apply(kind, manifest, manager=FIELD_MANAGER, force=False)
    except Conflict as conflict:
        if conflict.reason == "AlreadyExists":
            raise
        raise _conflict(kind, owner, name) from conflict
    if applied.created or not _has_strange_content(applied.manifest):
        return applied.manifest
    identity = {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": {"name": name, "namespace": owner.namespace, "uid": applied.manifest["metadata"]["uid"]},
    }
    try:
        await cluster.apply(kind, identity, manager=FIELD_MANAGER, force=False)
    except Rejected:
        # Without our fields the object is invalid, so it was ours: an earlier answer had been lost.
        return applied.manifest
    raise _conflict(kind, owner, name)


async def _hand_over_replicas(cluster: Cluster, kind: Kind, existing: Manifest) -> None:
    """Give the current count to another manager first: a count that only we own is reset to 1 when we drop it."""
    if _fields(existing).get("f:spec", {}).get("f:replicas") == {}:
        await _set_replicas(cluster, kind, existing, existing["spec"]["replicas"])


async def _set_replicas(cluster: Cluster, kind: Kind, existing: Manifest, replicas: int) -> Manifest:
    body = {
        "apiVersion": existing["apiVersion"],
        "kind": existing["kind"],
        "metadata": {key: existing["metadata"][key] for key in ("name", "namespace", "uid")},
        "spec": {"replicas": replicas},
    }
    return (await cluster.apply(kind, body, manager=REPLICAS_MANAGER, force=True)).manifest


def _conflict(kind: Kind, owner: Owner, name: str) -> NameConflict:
    return NameConflict(
        f"{kind.kind} {owner.namespace}/{name} exists and does not belong to this LLMDeployment; "
        "it was left alone: delete it or rename the LLMDeployment"
    )


def _leftover(kind: Kind, owner: Owner, name: str) -> Leftover:
    return Leftover(
        f"{kind.kind} {owner.namespace}/{name} belongs to a deleted LLMDeployment of the same name; "
        "waiting for it to be collected"
    )


def differs(manifests: Iterable[Manifest], live: Live) -> bool:
    """Whether anything of this would be written."""
    for manifest in manifests:
        metadata = manifest["metadata"]
        existing = live(CHILD_KINDS[manifest["kind"]], metadata["namespace"], metadata["name"])
        if existing is None or not is_current(manifest, existing):
            return True
    return False


def is_current(desired: Manifest, existing: Manifest) -> bool:
    """Whether the live object is what we last applied and every field of it is still ours."""
    wanted, found = desired["metadata"], existing["metadata"]
    if found.get("annotations", {}).get(DIGEST_ANNOTATION) != wanted["annotations"][DIGEST_ANNOTATION]:
        return False
    ours = {key: wanted[key] for key in ("annotations", "labels", "ownerReferences") if key in wanted}
    return owns({**_content(desired), "metadata": ours}, _fields(existing))


def _content(manifest: Manifest) -> Manifest:
    """Return what an object holds besides its type and its metadata."""
    return {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind", "metadata")}


def owns(desired: Any, fields: Mapping[str, Any]) -> bool:
    """Whether a set of fields (``fieldsV1`` of managedFields) covers every field of ``desired``.

    An empty set below a path means that the path is owned as a whole: a scalar, or an atomic list or map. Items of
    keyed lists are found by their keys; a key the item leaves out was filled in by the API server.
    """
    if not fields:
        return True
    if isinstance(desired, dict):
        return all(f"f:{key}" in fields and owns(value, fields[f"f:{key}"]) for key, value in desired.items())
    if isinstance(desired, list):
        keyed = [(json.loads(key[2:]), below) for key, below in fields.items() if key.startswith("k:")]
        return all(any(_has_keys(item, keys) and owns(item, below) for keys, below in keyed) for item in desired)
    return True


def _has_keys(item: Any, keys: Mapping[str, Any]) -> bool:
    return isinstance(item, dict) and all(item.get(key, value) == value for key, value in keys.items())


def _fields(manifest: Manifest) -> Mapping[str, Any]:
    """Return the fields we hold by apply; empty-handed ownership is told by a marker no path matches."""
    for entry in manifest["metadata"].get("managedFields", []):
        applied = entry.get("operation") == "Apply" and not entry.get("subresource")
        if applied and entry.get("manager") == FIELD_MANAGER:
            held = entry.get("fieldsV1", {})
            fields: Mapping[str, Any] = json.loads(held) if isinstance(held, str) else held
            return fields or {"f:": {}}
    return {"f:": {}}


def compact_fields(manifest: Manifest) -> Manifest:
    """Return the object with who holds which fields as text: a fifth of the memory, and rarely read."""
    entries = [
        {**entry, "fieldsV1": json.dumps(entry.get("fieldsV1", {}), separators=(",", ":"))}
        for entry in manifest["metadata"].get("managedFields", [])
    ]
    return {**manifest, "metadata": {**manifest["metadata"], "managedFields": entries}}


def _has_strange_content(manifest: Manifest) -> bool:
    """Whether another manager put anything but metadata and status into the object."""
    for entry in manifest["metadata"].get("managedFields", []):
        ours = entry.get("manager") in (FIELD_MANAGER, REPLICAS_MANAGER) and entry.get("operation") == "Apply"
        if not ours and not entry.get("subresource") and set(entry.get("fieldsV1", {})) - {"f:metadata"}:
            return True
    return False
