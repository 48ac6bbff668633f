"""The operator's own settings: what an administrator decides, not the author of an LLMDeployment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Defaults for every LLMDeployment. Times are seconds."""

    image_repository: str = "nvcr.io/nvidia/tensorrt-llm/release"
    image_tag: str = "1.3.0rc24"
    load_bytes_per_second: int = 200_000_000
    """Assumed speed of fetching and loading weights; an assumption, not a measurement."""
    minimum_startup_seconds: int = 1800
    drain_seconds: int = 300
    endpoint_removal_seconds: int = 15
    """Time for endpoints and gateways to stop routing before the server is told to stop."""
