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
COMPONENT_LABEL = "app.kubernetes.io/component"
SERVER = "inference-server"
WORKER = "inference-worker"
"""The component of pods that compute for a server in another pod."""

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "trtllm-operator"
GROUP_LABEL = "leaderworkerset.sigs.k8s.io/name"
"""A LeaderWorkerSet puts its name on each of its pods."""

DIGEST_ANNOTATION = f"{GROUP}/digest"
"""Digest of the manifest the operator last applied to this child."""

RELEASE_ANNOTATION = f"{GROUP}/release"
"""On a workload: the release of the operator that rendered it."""

INPUTS_ANNOTATION = f"{GROUP}/inputs"
"""On a workload: digest of what it was rendered from, which does not change with the release."""

DOWNLOAD_ANNOTATION = f"{GROUP}/download"
"""On a workload: the Job that has to end before the workload is applied."""

CLAIM_SIZE_ANNOTATION = f"{GROUP}/claim-size"
"""On a download Job: the size of the claim it fills."""

DOWNLOADER_LABEL = f"{GROUP}/downloads-for"
"""On the pods of a download Job, in place of the label that selects serving pods: the LLMDeployment."""

MAX_NAME_LENGTH = 40
NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
"""A Service of the same name must be a DNS-1035 label."""


def common_labels(name: str) -> dict[str, str]:
    """Return the labels every child carries."""
    return {
        COMPONENT_LABEL: SERVER,
        "app.kubernetes.io/instance": name,
        MANAGED_BY_LABEL: MANAGED_BY,
        "app.kubernetes.io/name": "trtllm-serve",
        NAME_LABEL: name,
    }


def selector_labels(name: str) -> dict[str, str]:
    """Return the labels that select the serving pods; immutable in a Deployment, so kept minimal."""
    return {NAME_LABEL: name}


def serving_labels(name: str) -> dict[str, str]:
    """Return the labels that select the pods which answer requests, whatever kind of object made them."""
    return {**selector_labels(name), COMPONENT_LABEL: SERVER}


def key_secret_name(name: str, uid: str) -> str:
    """Return the name of the Secret with the ssh key of an LLMDeployment's pods.

    It ends in the object's ``uid``: one that is made again under its old name never meets a Secret that is going.
    """
    return "-".join(filter(None, (name, "ssh", uid[:8])))


def config_map_name(name: str, digest: str) -> str:
    """Return the name of the ConfigMap holding the files of this digest."""
    return f"{name}-engine-{digest}"


def download_name(name: str, digest: str) -> str:
    """Return the name of the Job that downloads what this digest stands for."""
    return f"{name}-download-{digest}"


def downloader_labels(name: str) -> dict[str, str]:
    """Return the labels of a download Job's pods, which nothing that selects serving pods matches."""
    return {
        "app.kubernetes.io/component": "model-download",
        "app.kubernetes.io/instance": name,
        MANAGED_BY_LABEL: MANAGED_BY,
        "app.kubernetes.io/name": "fetch-model",
        DOWNLOADER_LABEL: name,
    }


def claim_name(name: str) -> str:
    """Return the name of the PersistentVolumeClaim that keeps weights, where the spec gives none."""
    return f"{name}-models"
