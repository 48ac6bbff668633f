"""The objects of one kind in the namespaces that are served: one informer for all of them, or one for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from trtllm_operator.cluster import Manifest
from trtllm_operator.errors import ClusterError
from trtllm_operator.informer import Informer


class Informers:
    """Answers as one informer would. No namespaces means all."""

    def __init__(self, make: Callable[[str | None], Informer], namespaces: Sequence[str] = ()) -> None:
        self._by_namespace: dict[str | None, Informer] = {
            namespace: make(namespace) for namespace in namespaces or (None,)
        }

    @property
    def each(self) -> Sequence[Informer]:
        """Every informer there is to run."""
        return tuple(self._by_namespace.values())

    @property
    def absence(self) -> ClusterError | None:
        """Why the cluster can have no object of this kind, or None when it can in one namespace at least."""
        reasons = [informer.absence for informer in self.each]
        return None if None in reasons else reasons[0]

    def get(self, namespace: str, name: str) -> Manifest | None:
        """Return one object; None when it is not there, or not in a namespace that is served."""
        informer = self._of(namespace)
        return None if informer is None else informer.get(namespace, name)

    def items(self) -> Iterable[Manifest]:
        """Return every object; not to be iterated across an await."""
        return chain.from_iterable(informer.items() for informer in self.each)

    def by_owner(self, uid: str) -> Iterable[Manifest]:
        """Return the objects of one controller; not to be iterated across an await."""
        return chain.from_iterable(informer.by_owner(uid) for informer in self.each)

    def observe(self, manifest: Manifest) -> None:
        """Take the answer to our own write in."""
        if (informer := self._of(manifest["metadata"]["namespace"])) is not None:
            informer.observe(manifest)

    def _of(self, namespace: str) -> Informer | None:
        return self._by_namespace.get(namespace) or self._by_namespace.get(None)
