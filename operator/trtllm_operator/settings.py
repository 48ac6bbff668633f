"""The operator's own settings: what an administrator decides, not the author of an LLMDeployment."""

from __future__ import annotations

from dataclasses import dataclass, field

from trtllm_operator.engine_versions import default_tag


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Defaults for every LLMDeployment. Times are seconds."""

    image_repository: str = "nvcr.io/nvidia/tensorrt-llm/release"
    image_tag: str = field(default_factory=default_tag)
    allow_host_path: bool = False
    """Whether pods may keep weights in a directory of their node, which Pod Security Baseline forbids."""
    load_bytes_per_second: int = 200_000_000
    """Assumed speed of fetching and loading weights; an assumption, not a measurement."""
    minimum_startup_seconds: int = 1800
    download_bytes_per_second: int = 5_000_000
    """Slowest download that is waited for; a judgement, not a measurement."""
    drain_seconds: int = 300
    endpoint_removal_seconds: int = 15
    """Time for endpoints and gateways to stop routing before the server is told to stop."""
