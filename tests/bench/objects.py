"""The objects of one run, and what the operator makes of them."""

from __future__ import annotations

from typing import Any

from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.gather import gather, offers_of
from trtllm_operator.hardware import NodeGroup
from trtllm_operator.plan import plan
from trtllm_operator.planned import Infeasible, Plan
from trtllm_operator.render import Owner, render
from trtllm_operator.settings import Settings

Manifest = dict[str, Any]

NODES = "2x8xNVIDIA-H100-80GB-HBM3"
FIRST_TAG, SECOND_TAG = "1.3.0rc24", "1.3.0rc25"


def names(count: int) -> list[str]:
    return [f"llama-{number:04}" for number in range(count)]


def an_object(namespace: str, name: str, tag: str = FIRST_TAG) -> Manifest:
    """Return an LLMDeployment with three children: ConfigMap, Service, Deployment."""
    return {
        "apiVersion": "trtllm.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"uri": "hf://meta-llama/Llama-3.1-8B-Instruct"},
            "gpus": {"count": 1},
            "engine": {"image": {"tag": tag}},
        },
    }


def children(namespace: str, name: str, tag: str = FIRST_TAG) -> tuple[Manifest, ...]:
    """Return the manifests the operator applies for it, owner included."""
    spec = LLMDeploymentSpec.model_validate(an_object(namespace, name, tag)["spec"])
    verdict = plan(spec, gather(spec, offers_of([NodeGroup.parse(NODES)])))
    if not isinstance(verdict, Plan):
        raise TypeError(verdict)
    # An owner that does not exist: nobody collects garbage during the run.
    rendered = render(Owner(name=name, namespace=namespace, uid="0" * 36), spec, verdict, Settings())
    if isinstance(rendered, Infeasible):
        raise TypeError(rendered)
    return rendered
