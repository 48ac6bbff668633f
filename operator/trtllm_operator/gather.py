"""From a spec and the labels of GPU nodes to the planner's facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.facts import Facts, ModelFacts
from trtllm_operator.hardware import NodeGroup, feature_labels
from trtllm_operator.models import model_facts
from trtllm_operator.pools import NodeLabels, Offer, gpu_offers, gpu_pools


def gather(spec: LLMDeploymentSpec, offers: Sequence[Offer], read: ModelFacts | None = None) -> Facts:
    """Return the facts for one spec.

    ``offers`` are what every node that has GPUs offers, ``read`` is what the model's own files told.
    """
    pools, unknown = gpu_pools(spec.gpus, offers)
    return Facts(model=model_facts(spec.model, spec.dtype, read), pools=pools, unknown_gpus=unknown)


def offers_of(groups: Iterable[NodeGroup]) -> tuple[Offer, ...]:
    """Return what the nodes in these groups offer, for planning without a cluster.

    Raises ValueError for a product the catalogue does not know.
    """
    return gpu_offers(labels_of(groups))


def labels_of(groups: Iterable[NodeGroup]) -> Iterator[NodeLabels]:
    """Yield the labels of the nodes in these groups, as GPU feature discovery would write them.

    Raises ValueError for a product the catalogue does not know.
    """
    for group in groups:
        labels = feature_labels(group)
        for _ in range(group.nodes):
            yield labels
