"""Which TensorRT-LLM release serves: chosen once for an object that names none, and kept from then on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from trtllm_operator import __version__
from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.api_status import EngineStatus
from trtllm_operator.engine import EngineCommand, command
from trtllm_operator.engine_versions import find_release
from trtllm_operator.naming import RELEASE_ANNOTATION
from trtllm_operator.planned import Plan
from trtllm_operator.pod import image_tag
from trtllm_operator.settings import Settings


def keep_image_tag(settings: Settings, told: EngineStatus | None) -> Settings:
    """Return the settings for an object whose status may hold the tag an earlier operator release chose."""
    return replace(settings, image_tag=told.image_tag) if told is not None and told.image_tag else settings


def engine_status(
    name: str, spec: LLMDeploymentSpec, plan: Plan, settings: Settings, held: Mapping[str, Any] | None = None
) -> EngineStatus:
    """Return what the status says of the release a plan is served with.

    ``held`` is the workload that stays as another release of the operator rendered it.
    """
    tag = image_tag(spec, settings)
    release = find_release(tag)
    run = command(name, spec, plan, release)
    named = spec.engine is not None and spec.engine.image is not None and spec.engine.image.tag is not None
    return EngineStatus(
        release=release.name,
        image_tag=None if named else tag,
        warnings=(*(run.warnings if isinstance(run, EngineCommand) else ()), *_of_another_release(held)),
    )


def _of_another_release(held: Mapping[str, Any] | None) -> Iterator[str]:
    if held is not None:
        release = held["metadata"]["annotations"].get(RELEASE_ANNOTATION, "an earlier one")
        yield (
            f"the pods are as trtllm-operator {release} rendered them; what {__version__} renders otherwise comes with "
            "the next edit of the spec (other than of replicas)"
        )
