"""Where weights are kept between starts."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from trtllm_operator.api_base import ApiModel, ObjectName, Size, cel, rules


class AccessMode(StrEnum):
    """Which nodes may mount a volume, and how."""

    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"
    READ_ONLY_MANY = "ReadOnlyMany"


class ClaimCache(ApiModel):
    """Weights on a PersistentVolumeClaim. What the claim is made of cannot be changed; its size can grow."""

    model_config = rules(
        cel("self.create || has(self.name)", "modelCache.pvc.name is missing; it names the claim when create is false"),
        cel("!self.create || has(self.size)", "modelCache.pvc.size is missing; a claim to create needs one"),
        cel(
            "self.create || !(has(self.size) || has(self.storageClass))",
            "modelCache.pvc.size and storageClass are for a claim to create; create is false",
        ),
        cel(
            "self.create == oldSelf.create",
            "modelCache.pvc.create cannot be changed from %s; remove modelCache first",
            "oldSelf.create",
        ),
        cel(
            "has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)",
            "modelCache.pvc.name cannot be changed from %s; remove modelCache first",
            "has(oldSelf.name) ? oldSelf.name : 'its default'",
        ),
        cel(
            "has(self.storageClass) == has(oldSelf.storageClass)"
            " && (!has(self.storageClass) || self.storageClass == oldSelf.storageClass)",
            "modelCache.pvc.storageClass cannot be changed from %s; remove modelCache first",
            "has(oldSelf.storageClass) ? oldSelf.storageClass : 'its default'",
        ),
        cel(
            "self.accessMode == oldSelf.accessMode",
            "modelCache.pvc.accessMode cannot be changed from %s; remove modelCache first",
            "oldSelf.accessMode",
        ),
        cel(
            "!has(self.size) || !has(oldSelf.size) || quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0",
            "modelCache.pvc.size cannot shrink from %s to %s",
            "oldSelf.size",
            "self.size",
        ),
    )

    create: bool = True
    """Create the claim, and delete it with the LLMDeployment. False: use an existing claim."""

    name: ObjectName | None = None
    """Name of the claim. Default: the LLMDeployment's name with the suffix -models."""

    size: Size | None = None
    """Size of the claim to create; a checkpoint needs its weights' size and a little more, and twice that where its
    repository holds a second copy under `original/`. Example: 200Gi."""

    storage_class: ObjectName | None = None
    """Storage class of the claim to create. Default: the cluster's."""

    access_mode: AccessMode = AccessMode.READ_WRITE_MANY
    """ReadWriteMany serves several nodes; ReadWriteOnce only one."""

    sub_path: (
        Annotated[
            str,
            Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$"),
        ]
        | None
    ) = None
    """Directory inside the volume. Default: its root. Example: llama."""


class EmptyDirCache(ApiModel):
    """Weights on the node's own disk, for as long as the pod lives."""

    size_limit: Size | None = None
    """Most bytes; the pod is evicted above it. Default: the weights' size and a margin. Example: 200Gi."""


class ModelCache(ApiModel):
    """Where weights are kept: exactly one of the three."""

    model_config = rules(
        cel(
            "[has(self.pvc), has(self.emptyDir), has(self.hostPath)].filter(set, set).size() == 1",
            "modelCache needs exactly one of pvc, emptyDir and hostPath; got %d",
            "[has(self.pvc), has(self.emptyDir), has(self.hostPath)].filter(set, set).size()",
        )
    )

    pvc: ClaimCache | None = None
    """A PersistentVolumeClaim: weights are fetched once. Where it can be written, a Job downloads a `hf://` model
    before any replica takes a GPU."""

    empty_dir: EmptyDirCache | None = None
    """The node's own disk: weights are fetched at every start of a pod."""

    host_path: (
        Annotated[str, Field(min_length=2, max_length=253, pattern=r"^(/[A-Za-z0-9][A-Za-z0-9._-]*)+$")] | None
    ) = None
    """Directory of the node, absolute; only where the operator's administrator allows it. Example: /mnt/models."""
