"""A cluster and a memory that do what a test tells them to. The real API server is in tests/component."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from builders import H100
from trtllm_operator.capacity import NodeRoom, Supply
from trtllm_operator.cluster import Applied
from trtllm_operator.errors import ClusterError, OperatorError
from trtllm_operator.gather import offers_of
from trtllm_operator.hardware import GPU_RESOURCE, PRODUCT_LABEL, NodeGroup
from trtllm_operator.kinds import Kind
from trtllm_operator.pools import Offer
from trtllm_operator.workqueue import Key

Manifest = dict[str, Any]
Answer = Callable[[Manifest], Any]


class FakeCluster:
    """Records requests; answers each as created and stored unless ``answers`` says otherwise."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Manifest]] = []
        self.answers: dict[tuple[str, str], Answer | BaseException] = {}
        self.stored: dict[tuple[str, str], Manifest] = {}

    def said(self) -> list[tuple[str, str]]:
        return [(verb, kind) for verb, kind, _ in self.requests]

    def _do(self, verb: str, kind: Kind, manifest: Manifest) -> Any:
        self.requests.append((verb, kind.kind, manifest))
        answer = self.answers.get((verb, kind.kind))
        if isinstance(answer, BaseException):
            raise answer
        return None if answer is None else answer(manifest)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        self._do("get", kind, {"metadata": {"namespace": namespace, "name": name}})
        return self.stored.get((kind.kind, name))

    async def pages(self, kind: Kind, namespace: str, *, fields: str, limit: int) -> AsyncIterator[list[Manifest]]:
        found = self._do("list", kind, {"metadata": {"namespace": namespace}, "fields": fields}) or []
        for start in range(0, len(found), limit):
            yield found[start : start + limit]

    async def apply(self, kind: Kind, manifest: Manifest, *, manager: str, force: bool) -> Applied:
        told = self._do(f"apply {manager}" + (" force" if force else ""), kind, manifest)
        return told if isinstance(told, Applied) else Applied(as_stored(manifest), created=True)

    async def merge(self, kind: Kind, manifest: Manifest, *, manager: str) -> Manifest:
        self._do(f"merge {manager}", kind, manifest)
        return manifest

    async def apply_status(self, kind: Kind, manifest: Manifest, *, manager: str) -> Manifest:
        self._do(f"status {manager}", kind, manifest)
        return manifest

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str) -> bool:
        self._do("delete", kind, {"metadata": {"namespace": namespace, "name": name, "uid": uid}})
        return True

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        self._do("create", kind, manifest)
        return manifest


def as_stored(manifest: Manifest, uid: str = "c1") -> Manifest:
    """Return what the API server stores of what we applied: with a uid, and with the fields we hold."""
    content = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")}
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in ("name", "namespace")}
    held = _fields({**content, "metadata": metadata})
    entry = {"manager": "trtllm-operator", "operation": "Apply", "fieldsV1": held}
    return {**manifest, "metadata": {**manifest["metadata"], "uid": uid, "managedFields": [entry]}}


def scaled_by(manager: str, stored: Manifest, replicas: int, *, subresource: str = "scale") -> Manifest:
    """Return what is stored of a workload after somebody else has set its replicas, which takes them from us."""
    (ours,) = stored["metadata"]["managedFields"]
    held = ours["fieldsV1"]
    left = {**held, "f:spec": {key: below for key, below in held["f:spec"].items() if key != "f:replicas"}}
    theirs = {
        "manager": manager,
        "operation": "Update",
        "subresource": subresource,
        "fieldsV1": {"f:spec": {"f:replicas": {}}},
    }
    metadata = {**stored["metadata"], "managedFields": [{**ours, "fieldsV1": left}, theirs]}
    return {**stored, "metadata": metadata, "spec": {**stored["spec"], "replicas": replicas}}


def _fields(value: Any) -> Manifest:
    """Return the fieldsV1 that applying this value gives, lists taken as atomic."""
    return {f"f:{key}": _fields(below) for key, below in value.items()} if isinstance(value, dict) else {}


class FakeSurvey:
    """One node with this many free GPUs of eight; records how fresh an answer was asked for."""

    def __init__(self, free: int, error: OperatorError | None = None) -> None:
        self._free = free
        self._error = error
        self.asked: list[float] = []

    async def supply(self, _: str, *, age: float) -> Supply:
        self.asked.append(age)
        if self._error is not None:
            raise self._error
        offered, requested = {GPU_RESOURCE: 8}, {GPU_RESOURCE: 8 - self._free}
        room = NodeRoom(name="gpu-1", labels={PRODUCT_LABEL: H100}, allocatable=offered, requested=requested)
        return Supply(nodes=(room,))


class FakeMemory:
    """What the watches would hold."""

    def __init__(self, *deployments: Manifest) -> None:
        self.deployments = {Key(m["metadata"]["namespace"], m["metadata"]["name"]): m for m in deployments}
        self.objects: dict[tuple[str, str], Manifest] = {}
        self.absent: dict[Kind, ClusterError] = {}
        self.downloading: list[Manifest] = []
        self.gateways: dict[tuple[str, str], Manifest] = {}
        self.nodes: list[Manifest] | None = []
        self.offers = offers_of([NodeGroup(nodes=2, gpus=8, product=H100)])
        self.found_pods: list[Manifest] = []

    def deployment(self, key: Key) -> Manifest | None:
        return self.deployments.get(key)

    def remember(self, manifest: Manifest) -> None:
        key = Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        self.deployments[key] = {**self.deployments[key], "status": manifest["status"]}

    def forget(self, key: Key, uid: str) -> None:
        if self.deployments[key]["metadata"]["uid"] == uid:
            del self.deployments[key]

    def child(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        found = self.objects.get((kind.kind, name))
        return found if found is not None and found["metadata"]["namespace"] == namespace else None

    def absence(self, kind: Kind) -> ClusterError | None:
        return self.absent.get(kind)

    def gateway(self, namespace: str, name: str) -> Manifest | None:
        return self.gateways.get((namespace, name))

    def children(self, kind: Kind, owner_uid: str) -> Iterable[Manifest]:
        return [
            manifest
            for (name, _), manifest in self.objects.items()
            if name == kind.kind and manifest["metadata"].get("ownerReferences", [{}])[0].get("uid") == owner_uid
        ]

    def observe(self, kind: Kind, manifest: Manifest) -> None:
        self.objects[(kind.kind, manifest["metadata"]["name"])] = manifest

    def pods(self, key: Key) -> Iterable[Manifest]:  # noqa: ARG002 - the protocol's signature
        return self.found_pods

    def readable_nodes(self) -> Iterable[Manifest] | None:
        return self.nodes

    def download_pods(self, key: Key) -> Iterable[Manifest]:  # noqa: ARG002 - the protocol's signature
        return self.downloading

    def gpu_offers(self) -> Sequence[Offer]:
        return self.offers
