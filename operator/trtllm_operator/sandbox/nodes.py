"""The manifests of the simulated GPU nodes."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Iterable
from typing import Any

from trtllm_operator.hardware import GPU_RESOURCE, REPLICAS_LABEL, NodeGroup, feature_labels

_OTHER = re.compile(r"[^a-z0-9]+")
_BASE_LENGTH = 56  # leaves "-9999" within the 63 characters of a label value


def node_manifests(groups: Iterable[NodeGroup], kubernetes_version: str) -> list[dict[str, Any]]:
    """Return one Node for each node of each group; names are unique across groups.

    Raises ValueError for a GPU product that the catalogue does not know.
    """
    seen: Counter[str] = Counter()
    manifests: list[dict[str, Any]] = []
    for group in groups:
        base = _base_name(group.product)
        for _ in range(group.nodes):
            manifests.append(_node(f"{base}-{seen[base]}", group, kubernetes_version))
            seen[base] += 1
    return manifests


def _base_name(product: str) -> str:
    words = _OTHER.sub("-", product.lower()).strip("-").removeprefix("nvidia-")
    return f"gpu-{words}"[:_BASE_LENGTH].rstrip("-")


def _node(name: str, group: NodeGroup, kubernetes_version: str) -> dict[str, Any]:
    features = feature_labels(group)
    resources = {
        "cpu": "128",
        "memory": "1Ti",
        "ephemeral-storage": "4Ti",
        "pods": "110",
        GPU_RESOURCE: str(group.gpus * int(features[REPLICAS_LABEL])),
    }
    identity = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
    information = {
        "architecture": "amd64",
        "bootID": identity,
        "containerRuntimeVersion": "containerd://2.2.0",
        "kernelVersion": "6.8.0",
        "kubeProxyVersion": "",
        "kubeletVersion": f"v{kubernetes_version}",
        "machineID": identity,
        "operatingSystem": "linux",
        "osImage": "trtllm-operator sandbox",
        "systemUUID": identity,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                **features,
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "node.kubernetes.io/instance-type": f"sandbox-{group.gpus}x{group.product}"[:63],
            },
        },
        "status": {"allocatable": resources, "capacity": dict(resources), "nodeInfo": information},
    }
