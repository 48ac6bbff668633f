"""What a sandbox is asked to be: the input of the supervisor."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from trtllm_operator.hardware import NodeGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """One sandbox; every field is JSON, because it travels to the supervisor."""

    name: str
    directory: str
    nodes: tuple[str, ...]
    addons: tuple[str, ...]
    port: int | None
    kubernetes_version: str
    audit: bool
    operator: bool
    detach: bool
    binaries: dict[str, str]

    def node_groups(self) -> list[NodeGroup]:
        """Return the groups of nodes, parsed."""
        return [NodeGroup.parse(text) for text in self.nodes]

    def dumps(self) -> str:
        """Return the spec as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, line: str) -> SandboxSpec:
        """Read what ``dumps`` wrote."""
        fields: dict[str, Any] = json.loads(line)
        return cls(**{**fields, "nodes": tuple(fields["nodes"]), "addons": tuple(fields["addons"])})
