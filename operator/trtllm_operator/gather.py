"""From a spec and the labels of GPU nodes to the planner's facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.facts import Facts, ModelFacts
from trtllm_operator.hardware import NodeGroup, feature_labels
from trtllm_operator.models import model_facts
from trtllm_operator.pools import NodeLabels, gpu_pools


def gather(spec: LLMDeploymentSpec, nodes: Sequence[NodeLabels], read: ModelFacts | None = None) -> Facts:
    """Return the facts for one spec.

    ``nodes`` are the labels of every node that has GPUs, ``read`` is what the model's own files told.
    """
    pools, unknown = gpu_pools(spec.gpus, nodes)
    return Facts(model=model_facts(spec.model, spec.dtype, read), pools=pools, unknown_gpus=unknown)


def labels_of(groups: Iterable[NodeGroup]) -> Iterator[NodeLabels]:
    """Yield the labels of the nodes in these groups, for planning without a cluster.

    Raises ValueError for a product the catalogue does not know.
    """
    for group in groups:
        labels = feature_labels(group)
        for _ in range(group.nodes):
            yield labels
