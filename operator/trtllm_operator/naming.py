"""Group, version, label and annotation keys, and the names of child objects.

Children keep the LLMDeployment's own name (at most 40 characters, enforced by the CRD), so that
``kubectl get deploy NAME`` finds them and every suffix a controller adds still fits 63 characters.
"""

from __future__ import annotations

GROUP = "trtllm.dev"
VERSION = "v1alpha1"
KIND = "LLMDeployment"
PLURAL = "llmdeployments"
API_VERSION = f"{GROUP}/{VERSION}"

FIELD_MANAGER = "trtllm-operator"
REPLICAS_MANAGER = "trtllm-operator-replicas"
"""Holds a workload's replicas while they are handed to an autoscaler (see docs/decisions)."""

REPAIR_MANAGER = "trtllm-operator-repair"
"""Replaces what others added where a child would be invalid otherwise."""

NAME_LABEL = f"{GROUP}/name"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "trtllm-operator"
DIGEST_ANNOTATION = f"{GROUP}/digest"
"""Digest of the manifest the operator last applied to this child."""

LEADER_LABEL = "leaderworkerset.sigs.k8s.io/worker-index"
"""A LeaderWorkerSet gives each pod of a group its index; the leader's is 0."""

MAX_NAME_LENGTH = 40
NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
"""A Service of the same name must be a DNS-1035 label."""


def common_labels(name: str) -> dict[str, str]:
    """Return the labels every child carries."""
    return {
        "app.kubernetes.io/component": "inference-server",
        "app.kubernetes.io/instance": name,
        MANAGED_BY_LABEL: MANAGED_BY,
        "app.kubernetes.io/name": "trtllm-serve",
        NAME_LABEL: name,
    }


def selector_labels(name: str) -> dict[str, str]:
    """Return the labels that select the serving pods; immutable in a Deployment, so kept minimal."""
    return {NAME_LABEL: name}


def serving_labels(name: str, nodes: int) -> dict[str, str]:
    """Return the labels that select the pods which answer requests: where a replica has several, its leader."""
    return {**selector_labels(name), **({LEADER_LABEL: "0"} if nodes > 1 else {})}


def config_map_name(name: str) -> str:
    """Return the name of the ConfigMap holding trtllm-serve's configuration file."""
    return f"{name}-engine"
