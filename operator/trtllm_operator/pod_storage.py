"""The volumes of a serving pod: configuration, weights, caches and shared memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trtllm_operator.api import LLMDeploymentSpec, SecurityProfile
from trtllm_operator.api_storage import AccessMode, ClaimCache
from trtllm_operator.engine import CACHE_DIRECTORY, CONFIG_DIRECTORY, MODEL_DIRECTORY
from trtllm_operator.memory import GIB, weight_bytes
from trtllm_operator.naming import claim_name
from trtllm_operator.planned import Infeasible, Plan
from trtllm_operator.refusals import Reason
from trtllm_operator.settings import Settings

HOME_DIRECTORY = "/home/trtllm"
AUTHORITIES_DIRECTORY = "/etc/trtllm-authorities"
TRUST_STORE_DIRECTORY = "/etc/trtllm-trust"
AUTHORITIES_KEY = "ca.crt"

_CACHE_MARGIN_BYTES = 10 * GIB
"""Room beside the weights for tokenizer files and compiled kernels; a judgement, not a measurement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume and where the serving container mounts it; a ``mount_path`` of None leaves that to another container.

    ``kind`` and ``source`` are Kubernetes' own: ``emptyDir`` and its fields.
    """

    name: str
    kind: str
    source: Mapping[str, Any]
    mount_path: str | None
    sub_path: str | None = None
    read_only: bool = False


def host_path_refusal(spec: LLMDeploymentSpec, plan: Plan, settings: Settings) -> Infeasible | None:
    """Refuse a directory of the node unless the operator's administrator allows it."""
    directory = spec.model_cache.host_path if spec.model_cache else None
    if directory is None or settings.allow_host_path:
        return None
    return Infeasible(
        reason=Reason.HOST_PATH_NOT_ALLOWED,
        message=f"spec.modelCache.hostPath is {directory}, and the operator's administrator allows no directory of a "
        "node (trtllm-operator run --allow-host-path); use spec.modelCache.pvc",
        model=plan.model,
    )


def download_claim(spec: LLMDeploymentSpec) -> ClaimCache | None:
    """Return the claim that a Job fills before replicas start: one that can be written, for a model of the Hub."""
    claim = spec.model_cache.pvc if spec.model_cache else None
    if claim is None or claim.access_mode is AccessMode.READ_ONLY_MANY or not spec.model.uri.startswith("hf://"):
        return None
    return claim


def download_volumes(name: str, spec: LLMDeploymentSpec, plan: Plan) -> tuple[Volume, ...]:
    """Return the volumes of the pods that download the model."""
    return (_cache(name, spec, plan), *_home(spec), *_trust_store(spec))


def volumes(name: str, spec: LLMDeploymentSpec, plan: Plan, config_map: str) -> tuple[Volume, ...]:
    """Return every volume of the LLMDeployment's pods, in the order they are listed."""
    return (
        Volume(
            name="engine-config",
            kind="configMap",
            source={"name": config_map},
            mount_path=CONFIG_DIRECTORY,
            read_only=True,
        ),
        *_model(spec),
        _cache(name, spec, plan),
        Volume(
            name="shared-memory",
            kind="emptyDir",
            source={"medium": "Memory", "sizeLimit": _shared_memory(spec, plan)},
            mount_path="/dev/shm",  # noqa: S108 - a mount of the container, not a file of ours
        ),
        *_home(spec),
        *_trust_store(spec),
    )


def _model(spec: LLMDeploymentSpec) -> Iterator[Volume]:
    scheme, _, rest = spec.model.uri.partition("://")
    if scheme == "pvc":
        claim = {"claimName": rest.partition("/")[0], "readOnly": True}
        yield Volume(
            name="model", kind="persistentVolumeClaim", source=claim, mount_path=MODEL_DIRECTORY, read_only=True
        )
    elif scheme == "oci":
        image = {"reference": rest, "pullPolicy": "IfNotPresent"}
        yield Volume(name="model", kind="image", source=image, mount_path=MODEL_DIRECTORY, read_only=True)


def _cache(name: str, spec: LLMDeploymentSpec, plan: Plan) -> Volume:
    cache = spec.model_cache
    kind, source, sub_path = "emptyDir", {}, None
    if cache is not None and cache.pvc is not None:
        kind, source = "persistentVolumeClaim", {"claimName": cache.pvc.name or claim_name(name)}
        sub_path = cache.pvc.sub_path
    elif cache is not None and cache.host_path is not None:
        kind, source = "hostPath", {"path": cache.host_path, "type": "Directory"}
    elif cache is not None and cache.empty_dir is not None:
        limit = cache.empty_dir.size_limit or _cache_limit(plan)
        source = {"sizeLimit": limit} if limit else {}
    return Volume(name="cache", kind=kind, source=source, mount_path=CACHE_DIRECTORY, sub_path=sub_path)


def _cache_limit(plan: Plan) -> str | None:
    """Return a limit in GiB for weights that the pod fetches; None when nobody knows their size."""
    if plan.model.parameters is None:
        return None
    return f"{-(-(weight_bytes(plan.model) + _CACHE_MARGIN_BYTES) // GIB)}Gi"


def _shared_memory(spec: LLMDeploymentSpec, plan: Plan) -> str:
    return spec.shared_memory_size or f"{max(1, 4 * plan.gpus_per_pod)}Gi"


def _home(spec: LLMDeploymentSpec) -> Iterator[Volume]:
    """Give a user whom the image does not know a directory to write compiled kernels to."""
    if spec.security_profile is SecurityProfile.RESTRICTED:
        yield Volume(name="home", kind="emptyDir", source={}, mount_path=HOME_DIRECTORY)


def _trust_store(spec: LLMDeploymentSpec) -> Iterator[Volume]:
    authorities = spec.proxy.ca_config_map if spec.proxy else None
    if authorities is None:
        return
    keys = {"name": authorities, "items": [{"key": AUTHORITIES_KEY, "path": AUTHORITIES_KEY}]}
    yield Volume(name="authorities", kind="configMap", source=keys, mount_path=None)
    yield Volume(name="trust-store", kind="emptyDir", source={}, mount_path=TRUST_STORE_DIRECTORY)
