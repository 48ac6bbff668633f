"""From what a failing pod says to one word, the telling line, and what to change."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any

import yaml

from trtllm_operator.facts import Failure

Manifest = dict[str, Any]

_LONGEST_LINE = 512
_SIGNALS = 128
"""A process that a signal ended has an exit code of this plus the signal's number."""


class FailureReason(StrEnum):
    """Why a container failed or could not be started, as ``data/failures.yaml`` tells them apart."""

    ARCHITECTURE_UNSUPPORTED = "ArchitectureUnsupported"
    CONFIG_MAP_MISSING = "ConfigMapMissing"
    CRASH_LOOP = "CrashLoop"
    DISK_FULL = "DiskFull"
    DRIVER_UNSUITABLE = "DriverUnsuitable"
    DTYPE_UNSUPPORTED = "DtypeUnsupported"
    GATED_REPOSITORY = "GatedRepository"
    GPU_OUT_OF_MEMORY = "GPUOutOfMemory"
    GPUS_UNREACHABLE = "GPUsUnreachable"
    HUB_UNAUTHORIZED = "HubUnauthorized"
    HUB_UNREACHABLE = "HubUnreachable"
    IMAGE_ARCHITECTURE = "ImageArchitecture"
    IMAGE_NOT_FOUND = "ImageNotFound"
    IMAGE_PULL_UNAUTHORIZED = "ImagePullUnauthorized"
    KV_CACHE_OUT_OF_MEMORY = "KVCacheOutOfMemory"
    LIMIT_RANGE_EXCEEDED = "LimitRangeExceeded"
    MODEL_NOT_FOUND = "ModelNotFound"
    OUT_OF_MEMORY = "OutOfMemory"
    POD_SECURITY = "PodSecurity"
    POLICY_DENIED = "PolicyDenied"
    PORT_TAKEN = "PortTaken"
    PRIORITY_CLASS_MISSING = "PriorityClassMissing"
    QUOTA_EXCEEDED = "QuotaExceeded"
    QUOTA_INCOMPLETE = "QuotaIncomplete"
    RANKS_NOT_STARTED = "RanksNotStarted"
    REGISTRY_UNREACHABLE = "RegistryUnreachable"
    REMOTE_CODE_REQUIRED = "RemoteCodeRequired"
    RUNTIME_CLASS_MISSING = "RuntimeClassMissing"
    SECRET_MISSING = "SecretMissing"  # noqa: S105 - a reason, not a secret
    SERVICE_ACCOUNT_MISSING = "ServiceAccountMissing"
    UNKNOWN_CONFIG_KEY = "UnknownConfigKey"
    UNKNOWN_FLAG = "UnknownFlag"
    VOLUME_IN_USE = "VolumeInUse"
    VOLUME_MISSING = "VolumeMissing"
    VOLUME_UNBOUND = "VolumeUnbound"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """A row of ``data/failures.yaml``."""

    reason: FailureReason
    pattern: re.Pattern[str]
    hint: str
    source: str
    figures: re.Pattern[str] | None = None
    unverified: bool = False

    @property
    def advice(self) -> str:
        """The hint, with what is not certain about it."""
        return f"{self.hint} (recognised by a wording that is not verified)" if self.unverified else self.hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What a text says: the reason, the line that says it, and what to change."""

    reason: FailureReason
    line: str
    hint: str


@cache
def wordings() -> dict[str, tuple[Wording, ...]]:
    """Return the rows of every section."""
    text = resources.files("trtllm_operator").joinpath("data/failures.yaml").read_text(encoding="utf-8")
    return {section: tuple(_wording(**row) for row in rows) for section, rows in yaml.safe_load(text).items()}


def _wording(*, reason: str, pattern: str, figures: str | None = None, **others: Any) -> Wording:
    return Wording(
        reason=FailureReason(reason),
        pattern=re.compile(pattern),
        figures=None if figures is None else re.compile(figures),
        **others,
    )


def diagnose(section: str, text: str) -> Diagnosis | None:
    """Return what a text of one section says, or None when no row knows it."""
    for wording in wordings()[section]:
        if found := wording.pattern.search(text):
            line = "; ".join([_line_at(text, found.start()), *_figures(wording, text, found)])
            return Diagnosis(reason=wording.reason, line=line[:_LONGEST_LINE], hint=wording.advice)
    return None


def _figures(wording: Wording, text: str, found: re.Match[str]) -> Iterator[str]:
    """Yield the lines with figures that are not the telling line itself."""
    if wording.figures is not None:
        telling = _line_at(text, found.start())
        lines = (_line_at(text, figure.start()) for figure in wording.figures.finditer(text))
        yield from dict.fromkeys(line for line in lines if line != telling)


def failures(pods: Iterable[Manifest]) -> Iterator[Failure]:
    """Yield how each container of these pods ended the last time, when that was not on purpose."""
    for pod in pods:
        status = pod.get("status", {})
        for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
            for state in (container.get("state", {}), container.get("lastState", {})):
                ended = state.get("terminated")
                if ended and ended.get("exitCode"):
                    yield failure(pod, container["name"], ended)


def failure(pod: Manifest, container: str, ended: Manifest) -> Failure:
    """Return what a terminated container (``containerStatuses[].state.terminated``) says of its end."""
    name = pod["metadata"]["name"]
    code, text = ended.get("exitCode"), ended.get("message") or ""
    found = diagnose("engine", text)
    if found is not None:
        reason, message, hint = found.reason, found.line, found.hint
    elif ended.get("reason") == "OOMKilled":
        reason = FailureReason.OUT_OF_MEMORY
        message, hint = _out_of_memory(_memory_limit(pod, container))
    else:
        reason, message = FailureReason.CRASH_LOOP, _last_line(text) or _ended_by(container, code)
        hint = f"read kubectl logs {name} --container {container} --previous"
    return Failure(
        reason=reason, message=message, pod=name, exit_code=code, hint=hint, time=ended.get("finishedAt") or None
    )


def _out_of_memory(limit: str | None) -> tuple[str, str]:
    if limit is None:
        said = "killed for want of host memory: the container has no limit, so its node ran out"
        return said, "raise spec.resources.requests.memory to what it needs, or use nodes with more memory"
    return f"killed at its host memory limit of {limit}", "raise spec.resources.limits.memory"


def _memory_limit(pod: Manifest, container: str) -> str | None:
    for described in pod.get("spec", {}).get("containers", ()):
        if described["name"] == container:
            limit: str | None = described.get("resources", {}).get("limits", {}).get("memory")
            return limit
    return None


def _ended_by(container: str, code: int | None) -> str:
    if code is not None and code > _SIGNALS:
        return f"{container} was ended by signal {code - _SIGNALS} and left no message"
    return f"{container} exited with code {code} and left no message"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:_LONGEST_LINE] if lines else ""


def _line_at(text: str, position: int) -> str:
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    return text[start : end if end >= 0 else len(text)].strip()[:_LONGEST_LINE]
