"""What the environment says about the imitated machine and its faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trtllm_operator.engine_versions import EngineRelease, data, find_release


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The imitated machine. Times are seconds; ``ranks`` is None when the server spawns its ranks itself."""

    version: str
    gpus: int
    ranks: int | None
    under_mpirun: bool
    root: bool
    load_seconds: float
    token_seconds: float
    fault: str
    fault_seconds: float

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Environment:
        """Read the variables described in the package. Raises ValueError for a number that is none."""
        launched = variables.get("FAKE_TRTLLM_RANKS") or variables.get("OMPI_COMM_WORLD_SIZE", "1")
        by_launcher = "FAKE_TRTLLM_RANKS" in variables or int(launched) > 1
        return cls(
            version=variables.get("FAKE_TRTLLM_VERSION", data()["default"]),
            gpus=int(variables.get("FAKE_TRTLLM_GPUS", "8")),
            ranks=int(launched) if by_launcher else None,
            under_mpirun="OMPI_COMM_WORLD_SIZE" in variables,
            root=variables.get("FAKE_TRTLLM_UID", "0") == "0",
            load_seconds=float(variables.get("FAKE_TRTLLM_LOAD_SECONDS", "0")),
            token_seconds=float(variables.get("FAKE_TRTLLM_TOKEN_SECONDS", "0")),
            fault=variables.get("FAKE_TRTLLM_FAULT", ""),
            fault_seconds=float(variables.get("FAKE_TRTLLM_FAULT_SECONDS", "0")),
        )

    @property
    def spawn_fails(self) -> bool:
        """Whether the server cannot spawn its ranks: as root some releases can only below mpirun."""
        spawns_alone = self.ranks is None and not self.under_mpirun
        return spawns_alone and self.root and not self.release.spawns_ranks_as_root

    @property
    def release(self) -> EngineRelease:
        """What the imitated release accepts and does."""
        return find_release(self.version)
