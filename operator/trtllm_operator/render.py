"""From a plan to manifests. The same function serves the operator and ``trtllm-operator render``.

Every ``{{ }}`` in a template is JSON-encoded (JSON is YAML), so a string stays one string whatever it holds; an
undefined name raises; the result is parsed by a loader that refuses a key given twice.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, is_dataclass
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from trtllm_operator import engine, objects
from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.kinds import KINDS
from trtllm_operator.naming import API_VERSION, DIGEST_ANNOTATION, KIND
from trtllm_operator.plan import Plan
from trtllm_operator.settings import Settings

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The LLMDeployment the manifests belong to; ``uid`` is empty when rendered offline."""

    name: str
    namespace: str
    uid: str = ""


_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")
"""YAML folds some Unicode line breaks inside a quoted string and has no surrogate pairs, so these are escaped its
way."""


class _StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Refuses duplicate keys, which PyYAML would silently resolve to the last one. libyaml makes it fast."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = True) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"duplicate keys: {', '.join(twice)}", node.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def _as_json(value: object) -> str:
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    return _NOT_PRINTABLE.sub(lambda found: f"\\U{ord(found[0]):08x}", json.dumps(value, ensure_ascii=False))


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("trtllm_operator"),
        undefined=StrictUndefined,
        finalize=_as_json,
        autoescape=False,  # noqa: S701 - the output is YAML, and every value is JSON-encoded
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(owner: Owner, spec: LLMDeploymentSpec, plan: Plan, settings: Settings) -> tuple[Manifest, ...]:
    """Return the manifests that serve this plan, in the order they are applied.

    An object that is not wanted is not rendered; pruning removes it.
    """
    run = engine.command(plan, spec.model.uri)
    contexts = {
        "ConfigMap": objects.config_map(owner.name, owner.namespace, run),
        "Service": objects.service(owner.name, owner.namespace),
        "Deployment": objects.deployment(owner.name, owner.namespace, spec, plan, run, settings),
        "HorizontalPodAutoscaler": objects.autoscaler(owner.name, owner.namespace, spec),
    }
    return tuple(
        _owned(_manifest(kind.kind, context), owner) for kind in KINDS if (context := contexts[kind.kind]) is not None
    )


def parse(text: str) -> Manifest:
    """Parse one rendered manifest. Raises yaml.YAMLError for a duplicate key or several documents."""
    manifest = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - derived from SafeLoader
    if not isinstance(manifest, dict):
        raise yaml.YAMLError("a template must render to one mapping")
    return manifest


def _manifest(kind: str, context: object) -> Manifest:
    return parse(_environment().get_template(f"{kind.lower()}.yaml.j2").render(ctx=context))


def _owned(manifest: Manifest, owner: Owner) -> Manifest:
    """Add what every child carries: the digest of its own content and, in a cluster, its controller."""
    content = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    metadata = {
        **manifest["metadata"],
        "annotations": {DIGEST_ANNOTATION: hashlib.sha256(content.encode()).hexdigest()[:16]},
    }
    if owner.uid:
        metadata["ownerReferences"] = [
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
    return {**manifest, "metadata": metadata}
