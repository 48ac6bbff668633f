"""From a plan to manifests. The same function serves the operator and ``trtllm-operator render``.

Every ``{{ }}`` in a template is JSON-encoded (JSON is YAML), so a string stays one string whatever it holds; an
undefined name raises; the result is parsed by a loader that refuses a key given twice.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import OrderedDict
from dataclasses import asdict, dataclass, is_dataclass
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from trtllm_operator import engine, objects, strict_yaml
from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.engine_versions import find_release
from trtllm_operator.kinds import KINDS
from trtllm_operator.naming import API_VERSION, DIGEST_ANNOTATION, KIND
from trtllm_operator.planned import Plan
from trtllm_operator.settings import Settings
from trtllm_operator.surroundings import surroundings

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
    release = find_release(objects.image_tag(spec, settings))
    run = engine.command(plan, spec.model.uri, release)
    contexts = {
        "ConfigMap": objects.config_map(owner.name, owner.namespace, run),
        "Deployment": objects.deployment(owner.name, owner.namespace, spec, plan, run, settings),
        **surroundings(owner.name, owner.namespace, spec, plan, release, settings),
    }
    return tuple(
        _owned(_manifest(kind.kind, context), owner) for kind in KINDS if (context := contexts[kind.kind]) is not None
    )


class Renderings:
    """Remembers what was rendered last for an object: one change is followed by several events, and passes.

    Holds the ``limit`` objects that were rendered or asked for last; manifests are never changed by those who read
    them.
    """

    def __init__(self, limit: int = 512) -> None:
        self._limit = limit
        self._known: OrderedDict[Owner, tuple[LLMDeploymentSpec, Plan, Settings, tuple[Manifest, ...]]] = OrderedDict()

    def of(self, owner: Owner, spec: LLMDeploymentSpec, plan: Plan, settings: Settings) -> tuple[Manifest, ...]:
        """Return the manifests; rendered when any input differs from the last time."""
        known = self._known.pop(owner, None)
        if known is None or known[:3] != (spec, plan, settings):
            known = (spec, plan, settings, render(owner, spec, plan, settings))
        self._known[owner] = known
        if len(self._known) > self._limit:
            self._known.popitem(last=False)
        return known[3]


def parse(text: str) -> Manifest:
    """Parse one rendered manifest. Raises yaml.YAMLError for a duplicate key or several documents."""
    manifest = strict_yaml.load(text)
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
        "annotations": {
            **manifest["metadata"].get("annotations", {}),
            DIGEST_ANNOTATION: hashlib.sha256(content.encode()).hexdigest()[:16],
        },
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
