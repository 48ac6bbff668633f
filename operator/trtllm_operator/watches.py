"""What the watches hold in memory, and which LLMDeployment a change concerns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from trtllm_operator.apply import compact_fields
from trtllm_operator.approval import APPROVAL_ANNOTATION
from trtllm_operator.cluster import Cluster
from trtllm_operator.contest import strange_holder
from trtllm_operator.errors import ClusterError
from trtllm_operator.hardware import GPU_RESOURCE, PRODUCT_LABEL
from trtllm_operator.informer import Informer, default_slim
from trtllm_operator.informers import Informers
from trtllm_operator.kinds import GATEWAY, KINDS, NODE, POD, Kind
from trtllm_operator.naming import DOWNLOADER_LABEL, MANAGED_BY, MANAGED_BY_LABEL, NAME_LABEL
from trtllm_operator.ownership import controlling_deployment
from trtllm_operator.pools import Offer, gpu_offers
from trtllm_operator.reconcile import gateway_of, is_planned
from trtllm_operator.render import Manifest
from trtllm_operator.workqueue import Key

Enqueue = Callable[..., None]
_POD_TEMPLATES = frozenset({"template", "leaderWorkerTemplate"})
STALE_AFTER = 180.0
"""Seconds without an event or a bookmark after which a watch counts as dead; bookmarks come about every 60 s."""


class Watches:
    """One informer for each kind, and the LLMDeployments as kopf reports them."""

    def __init__(
        self, cluster: Cluster, enqueue: Enqueue, *, namespaces: Sequence[str] = (), read_nodes: bool = True
    ) -> None:
        self._enqueue = enqueue
        self._deployments: dict[Key, Manifest] = {}
        self._gone: set[str] = set()
        """Uids of LLMDeployments that were found deleted before their events had come that far."""
        label = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
        ours = partial(Informer, cluster, labels=label, on_change=self._child_changed)
        child = partial(ours, slim=_slim_child, on_availability=self._api_changed)
        self._children = {kind: Informers(partial(_in, child, kind), namespaces) for kind in KINDS}
        self._pods = Informers(partial(_in, partial(ours, slim=slim_pod, index=_pod_index), POD), namespaces)
        gateway = partial(Informer, cluster, on_change=self._gateway_changed)
        self._gateways = Informers(partial(_in, gateway, GATEWAY), namespaces)
        self._nodes = Informer(cluster, NODE, slim=_slim_node, on_change=self._node_changed) if read_nodes else None
        self._offers: tuple[Offer, ...] | None = None

    @property
    def informers(self) -> Sequence[Informer]:
        """Every informer."""
        kinds = (*self._children.values(), self._pods, self._gateways)
        namespaced = (informer for informers in kinds for informer in informers.each)
        return (*namespaced, *((self._nodes,) if self._nodes is not None else ()))

    def problems(self, now: float) -> list[str]:
        """Return one sentence for each watch that is dead or not yet complete; ``now`` is monotonic seconds."""
        return [
            f"no sign of life from the watch of {informer.kind.plural} for {informer.age(now):.0f} s"
            for informer in self.informers
            if informer.synced.is_set() and informer.age(now) > STALE_AFTER
        ]

    def unsynced(self) -> list[str]:
        """Return one sentence for each kind that has not been listed yet and that the operator cannot do without."""
        return [
            f"{informer.kind.plural} not listed yet" + (f": {informer.problem}" if informer.problem else "")
            for informer in self.informers
            if not (informer.answered if informer is self._nodes else informer.synced).is_set()
        ]

    async def wait_until_synced(self) -> None:
        """Wait until every kind has been listed that the operator cannot do without."""
        for informer in self.informers:
            await (informer.answered if informer is self._nodes else informer.synced).wait()

    def seen(self, change: str | None, manifest: Manifest) -> None:
        """Take one event of an LLMDeployment in and enqueue its key when there is something to do.

        ``change`` is None for an object of a list.
        """
        key, uid = Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"]), manifest["metadata"]["uid"]
        if change is None or change == "DELETED":
            self._gone.discard(uid)
        if change == "DELETED":
            self._deployments.pop(key, None)
            return
        if uid in self._gone:
            return  # an event from before the deletion must not bring it back to life
        manifest = _slim_deployment(manifest)
        known = self._deployments.get(key)
        if known is not None and _is_older(manifest, known):
            return
        self._deployments[key] = manifest
        edited = known is None or _identity(known) != _identity(manifest)
        if edited or (known or {}).get("status") != manifest.get("status"):
            self._enqueue(key, urgent=edited)

    def known(self) -> Sequence[Key]:
        """Return every LLMDeployment there is."""
        return tuple(self._deployments)

    def reasons(self) -> Mapping[str, int]:
        """Return how many LLMDeployments there are for each reason of Ready; Pending before they were looked at."""
        return Counter(_ready_reason(manifest) for manifest in self._deployments.values())

    def deployment(self, key: Key) -> Manifest | None:
        """Return the LLMDeployment, or None when it is gone."""
        return self._deployments.get(key)

    def remember(self, manifest: Manifest) -> None:
        """Take the answer to a status write in, unless the object went away or is newer already."""
        key = Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        known = self._deployments.get(key)
        if known is not None and not _is_older(manifest, known):
            self._deployments[key] = _slim_deployment(manifest)

    def forget(self, key: Key, uid: str) -> None:
        """Drop an LLMDeployment of which the watch has not said yet that it was deleted."""
        known = self._deployments.get(key)
        if known is not None and known["metadata"]["uid"] == uid:
            del self._deployments[key]
            self._gone.add(uid)

    def child(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """Return a child by its name."""
        return self._children[kind].get(namespace, name)

    def absence(self, kind: Kind) -> ClusterError | None:
        """Return why the cluster can have no child of this kind, or None when it can."""
        return self._children[kind].absence

    def gateway(self, namespace: str, name: str) -> Manifest | None:
        """Return a Gateway by its name."""
        return self._gateways.get(namespace, name)

    def children(self, kind: Kind, owner_uid: str) -> Iterable[Manifest]:
        """Return the children of one kind that this owner controls."""
        return self._children[kind].by_owner(owner_uid)

    def observe(self, kind: Kind, manifest: Manifest) -> None:
        """Take the answer to our own write in."""
        self._children[kind].observe(manifest)

    def pods(self, key: Key) -> Iterable[Manifest]:
        """Return the serving pods of an LLMDeployment."""
        return self._pods.by_owner(f"{key.namespace}/{key.name}")

    def download_pods(self, key: Key) -> Iterable[Manifest]:
        """Return the pods that download the model of an LLMDeployment."""
        return self._pods.by_owner(f"{key.namespace}/{key.name}/download")

    def gpu_offers(self) -> Sequence[Offer]:
        """Return what every node that has GPUs offers, counted once for each change of a node."""
        if self._offers is None:
            nodes = self.readable_nodes()
            if nodes is None:
                return ()
            self._offers = gpu_offers(
                labels
                for node in nodes
                if PRODUCT_LABEL in (labels := node["metadata"]["labels"])
                and node["status"]["capacity"].get(GPU_RESOURCE, "0") != "0"
            )
        return self._offers

    def readable_nodes(self) -> Iterable[Manifest] | None:
        """Return the nodes, or None when they may not be read."""
        return self._nodes.items() if self._nodes is not None and self._nodes.synced.is_set() else None

    def _child_changed(self, manifest: Manifest, _deleted: bool) -> None:  # noqa: FBT001 - the informer's callback
        name = _deployment_name(manifest)
        if name is not None:
            self._enqueue(Key(manifest["metadata"]["namespace"], name))

    def _api_changed(self) -> None:
        for key in self._deployments:
            self._enqueue(key)

    def _gateway_changed(self, manifest: Manifest, _deleted: bool) -> None:  # noqa: FBT001 - the informer's callback
        for key, stored in self._deployments.items():
            if gateway_of(stored) == (manifest["metadata"]["namespace"], manifest["metadata"]["name"]):
                self._enqueue(key)

    def _node_changed(self, _manifest: Manifest, _deleted: bool) -> None:  # noqa: FBT001 - the informer's callback
        self._offers = None
        for key, stored in self._deployments.items():
            if not is_planned(stored):
                self._enqueue(key)


def _identity(manifest: Manifest) -> tuple[str, int, str | None]:
    """Return what makes an object another one to us; an annotation moves no generation."""
    metadata = manifest["metadata"]
    return metadata["uid"], metadata["generation"], metadata.get("annotations", {}).get(APPROVAL_ANNOTATION)


def _in(informer: Callable[..., Informer], kind: Kind, namespace: str | None) -> Informer:
    return informer(kind, namespace=namespace)


def _ready_reason(manifest: Manifest) -> str:
    conditions = (manifest.get("status") or {}).get("conditions") or ()
    return next((condition["reason"] for condition in conditions if condition["type"] == "Ready"), "Pending")


def _deployment_name(manifest: Manifest) -> str | None:
    """Return the LLMDeployment a child or a pod belongs to: by its controller, whatever was done to its labels."""
    labels = manifest["metadata"].get("labels", {})
    return controlling_deployment(manifest) or labels.get(NAME_LABEL) or labels.get(DOWNLOADER_LABEL)


def _is_older(manifest: Manifest, known: Manifest) -> bool:
    """Whether the first is an earlier version of the very same object (resourceVersions are ordered integers)."""
    new, old = manifest["metadata"], known["metadata"]
    comparable = new["uid"] == old["uid"] and new["resourceVersion"].isdecimal() and old["resourceVersion"].isdecimal()
    return comparable and int(new["resourceVersion"]) < int(old["resourceVersion"])


def _pod_index(pod: Manifest) -> str | None:
    namespace, labels = pod["metadata"]["namespace"], pod["metadata"].get("labels", {})
    if DOWNLOADER_LABEL in labels:
        return f"{namespace}/{labels[DOWNLOADER_LABEL]}/download"
    return f"{namespace}/{labels.get(NAME_LABEL, '')}"


def _slim_deployment(manifest: Manifest) -> Manifest:
    slim = default_slim(manifest)
    slim["metadata"].pop("managedFields", None)
    return slim


def _slim_child(child: Manifest) -> Manifest:
    """Leave out what is only ever written: a pod template, a configuration file."""
    slim = default_slim(child)
    if (holder := strange_holder(child)) is not None:
        slim["metadata"]["managedFields"].append(holder)
    slim = compact_fields(slim)
    slim.pop("data", None)
    if "spec" in slim:
        slim["spec"] = {key: value for key, value in slim["spec"].items() if key not in _POD_TEMPLATES}
    return slim


def slim_pod(pod: Manifest) -> Manifest:
    """Return what observing and diagnosing need."""
    kept: dict[str, Any] = {key: pod[key] for key in ("apiVersion", "kind") if key in pod}
    kept["metadata"] = {
        key: pod["metadata"][key]
        for key in (
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "labels",
            "deletionTimestamp",
            "ownerReferences",
        )
        if key in pod["metadata"]
    }
    status = pod.get("status", {})
    kept["status"] = {
        key: status[key]
        for key in ("conditions", "containerStatuses", "initContainerStatuses", "phase")
        if key in status
    }
    if spec := _told_of_failures(pod.get("spec", {})):
        kept["spec"] = spec
    return kept


def _told_of_failures(spec: Manifest) -> Manifest:
    """Return what makes a failure concrete: memory limits and claims, which few pods have."""
    limits = {c["name"]: c.get("resources", {}).get("limits", {}).get("memory") for c in spec.get("containers", ())}
    containers = [
        {"name": name, "resources": {"limits": {"memory": memory}}} for name, memory in limits.items() if memory
    ]
    claims = [volume for volume in spec.get("volumes", ()) if "persistentVolumeClaim" in volume]
    return {key: value for key, value in (("containers", containers), ("volumes", claims)) if value}


def _slim_node(node: Manifest) -> Manifest:
    """Return what planning and capacity need; of a node without GPUs no more than that it is there."""
    metadata, status = node["metadata"], node.get("status", {})
    has_gpus = any(key.startswith("nvidia.com/") for key in status.get("capacity", {}))
    kept: dict[str, Any] = {key: metadata[key] for key in ("name", "uid", "resourceVersion")}
    return {
        "metadata": {**kept, "labels": metadata.get("labels", {}) if has_gpus else {}},
        "spec": {"taints": node.get("spec", {}).get("taints", ())},
        "status": {key: status.get(key, {}) if has_gpus else {} for key in ("capacity", "allocatable")},
    }
