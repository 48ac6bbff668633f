"""The environment variables of the serving container. A user's win over the operator's, but for the managed ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trtllm_operator import api_engine
from trtllm_operator.api import LLMDeploymentSpec, SecurityProfile
from trtllm_operator.engine import ENVIRONMENT, EngineCommand, escape_expansion
from trtllm_operator.pod_storage import HOME_DIRECTORY, TRUST_STORE_DIRECTORY, download_claim

TRUST_STORE = f"{TRUST_STORE_DIRECTORY}/ca-bundle.crt"

_MANAGED = frozenset({"HF_HOME", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})
_CLUSTER_HOSTS = ("localhost", "127.0.0.1", "::1", ".svc", ".cluster.local")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """An environment variable: a literal ``value``, or Kubernetes' ``valueFrom`` as ``source``."""

    name: str
    value: str = ""
    source: Mapping[str, Any] | None = None


def environment(spec: LLMDeploymentSpec, run: EngineCommand) -> tuple[Variable, ...]:
    """Return each variable once: the engine's, those the spec implies, the user's, the Hub's token."""
    return _environment(spec, {**dict(run.environment), **_offline(spec)})


def download_environment(spec: LLMDeploymentSpec) -> tuple[Variable, ...]:
    """Return the variables of the container that downloads the model: the serving container's, but for two.

    The Hub is asked, and the NVIDIA runtime adds no GPU, which it does for images that ask for all of them.
    """
    found = _environment(spec, dict(ENVIRONMENT))
    managed = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "NVIDIA_VISIBLE_DEVICES": "void"}
    kept = (variable for variable in found if variable.name not in managed)
    return (*kept, *(Variable(name=name, value=value) for name, value in managed.items()))


def _environment(spec: LLMDeploymentSpec, engine: Mapping[str, str]) -> tuple[Variable, ...]:
    implied = {**engine, **_proxy(spec), **_user(spec)}
    found = {name: Variable(name=name, value=escape_expansion(value)) for name, value in implied.items()}
    stated = spec.engine.env if spec.engine else ()
    found |= {variable.name: _stated(variable) for variable in stated if variable.name not in _MANAGED}
    token = spec.model.secret_ref
    if token is not None:
        reference = {"secretKeyRef": {"name": token.name, "key": token.key}}
        found["HF_TOKEN"] = Variable(name="HF_TOKEN", source=reference)
    return tuple(found.values())


def _stated(variable: api_engine.Variable) -> Variable:
    if variable.value_from is None:
        return Variable(name=variable.name, value=escape_expansion(variable.value or ""))
    source = variable.value_from.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return Variable(name=variable.name, source=source)


def _offline(spec: LLMDeploymentSpec) -> dict[str, str]:
    """Keep a checkpoint that is mounted, or downloaded before, from waiting for the Hub, of which it needs nothing."""
    from_hub = spec.model.uri.startswith("hf://") and download_claim(spec) is None
    return {} if from_hub else {"HF_HUB_OFFLINE": "1"}


def _proxy(spec: LLMDeploymentSpec) -> dict[str, str]:
    """Return each proxy variable in both spellings, for programs disagree which one they read."""
    proxy = spec.proxy
    if proxy is None:
        return {}
    direct = ",".join([*_CLUSTER_HOSTS, *([proxy.no_proxy] if proxy.no_proxy else [])])
    reached = {"http_proxy": proxy.http_proxy, "https_proxy": proxy.https_proxy}
    told = {name: address for name, address in reached.items() if address}
    if told:
        told["no_proxy"] = direct
    trusted = {"SSL_CERT_FILE": TRUST_STORE, "REQUESTS_CA_BUNDLE": TRUST_STORE} if proxy.ca_config_map else {}
    return {**told, **{name.upper(): value for name, value in told.items()}, **trusted}


def _user(spec: LLMDeploymentSpec) -> dict[str, str]:
    """Name a user whom the image's passwd file does not: Python's getpass.getuser, which torch calls, would fail."""
    if spec.security_profile is not SecurityProfile.RESTRICTED:
        return {}
    return {"HOME": HOME_DIRECTORY, "USER": "trtllm"}
