"""Prints what the operator renders, for linters: the goldens, with the pods of a LeaderWorkerSet as Pods.

Linters know the built-in kinds alone, and would say nothing about the pods of a kind they do not know.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"

Manifest = dict[str, Any]


def children() -> Iterator[Manifest]:
    """Yield every manifest rendered for an LLMDeployment."""
    for file in sorted(GOLDEN.glob("*/*.yaml")):
        if file.parent.name != "chart":
            for manifest in yaml.safe_load_all(file.read_text(encoding="utf-8")):
                yield from _linted(manifest)


def _linted(manifest: Manifest) -> Iterator[Manifest]:
    if manifest["kind"] != "LeaderWorkerSet":
        yield manifest
        return
    metadata = manifest["metadata"]
    for role in ("leader", "worker"):
        pod = manifest["spec"]["leaderWorkerTemplate"][f"{role}Template"]
        identity = {"name": f"{metadata['name']}-{role}", "namespace": metadata["namespace"]}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": {**pod["metadata"], **identity}, "spec": pod["spec"]}


if __name__ == "__main__":
    yaml.safe_dump_all(children(), sys.stdout, sort_keys=False)
