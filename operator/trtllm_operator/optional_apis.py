"""APIs that a cluster may lack: which field waits for which, and how to install it (``data/optional_apis.yaml``)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from trtllm_operator.kinds import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionalApi:
    """What needs a kind (a field of the spec, or words for what has no field), whose it is, and where to get it."""

    kind: str
    needs: str
    project: str
    install: str


@cache
def optional_apis() -> dict[str, OptionalApi]:
    """Return every optional API by its kind."""
    text = resources.files("trtllm_operator").joinpath("data/optional_apis.yaml").read_text(encoding="utf-8")
    return {row["kind"]: OptionalApi(**row) for row in yaml.safe_load(text)}


def missing(kind: Kind) -> str:
    """Return what a user is told when the cluster does not serve this kind."""
    row = optional_apis()[kind.kind]
    return (
        f"{row.needs} waits for {kind.kind} of {kind.api_version}, which this cluster does not serve; install "
        f"{row.project} (CRD {kind.plural}.{kind.group}): {row.install}"
    )
