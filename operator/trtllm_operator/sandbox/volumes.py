"""Volumes for claims to bind to: nothing in a sandbox provisions any, and nothing is stored in them."""

from __future__ import annotations

from typing import Any

STORAGE_CLASS = "simulated"
COUNT = 32
CAPACITY = "8Ti"


def storage_class() -> dict[str, Any]:
    """Return the class that claims which name none get."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "Immediate",
    }


def volume_manifests() -> list[dict[str, Any]]:
    """Return the PersistentVolumes; each serves one claim, and no second one when that is deleted."""
    return [_volume(f"{STORAGE_CLASS}-{number}") for number in range(COUNT)]


def _volume(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": CAPACITY},
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": STORAGE_CLASS,
            "hostPath": {"path": f"/nowhere/{name}"},
        },
    }
