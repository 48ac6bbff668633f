"""The serving pods of every example, admitted by the API server in namespaces that enforce Pod Security."""

from __future__ import annotations

from typing import Any

import pytest

from builders import a_verdict
from control_plane import Namespace
from support import examples, inputs
from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.planned import Infeasible
from trtllm_operator.render import Manifest, Owner, render
from trtllm_operator.settings import Settings
from trtllm_operator.workload import pod_templates

pytestmark = pytest.mark.component

LABEL = "pod-security.kubernetes.io/enforce"
NEEDED: list[Manifest] = [
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "inference"}},
    {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "inference"},
        "value": 1000,
    },
    {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}, "handler": "nvidia"},
]


def _rendered(example: dict[str, Any], namespace: str, profile: str) -> tuple[Manifest, ...]:
    """Return what is rendered for an example under a Pod Security Standard; nothing where it is refused."""
    spec = LLMDeploymentSpec.model_validate({**example["spec"], "securityProfile": profile}, extra="forbid")
    verdict = a_verdict(spec)
    if isinstance(verdict, Infeasible):
        return ()
    found = render(Owner(name=example["metadata"]["name"], namespace=namespace), spec, verdict, Settings())
    assert not isinstance(found, Infeasible), found
    return found


def _pods(manifests: tuple[Manifest, ...]) -> list[Manifest]:
    """Return the pods a controller would create: only for pods is the standard enforced."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            **template,
            "metadata": {
                **template["metadata"],
                "name": f"{manifest['metadata']['name']}-{index}",
                "namespace": manifest["metadata"]["namespace"],
            },
        }
        for manifest in manifests
        for index, template in enumerate(pod_templates(manifest))
    ]


@pytest.mark.parametrize("profile", ["Baseline", "Restricted"])
def test_every_example_is_admitted_where_its_standard_is_enforced(namespace: Namespace, profile: str) -> None:
    namespace.kubectl("label", "namespace", namespace.name, f"{LABEL}={profile.lower()}")
    namespace.apply(*NEEDED)
    rendered = [_rendered(parameter.values[0], namespace.name, profile) for parameter in inputs()]
    admitted = [pod for manifests in rendered for pod in _pods(manifests)]
    assert len(admitted) >= 8
    namespace.assert_accepted(*(manifest for manifests in rendered for manifest in manifests), *admitted)


def test_a_baseline_pod_is_not_admitted_where_restricted_is_enforced(namespace: Namespace) -> None:
    namespace.kubectl("label", "namespace", namespace.name, f"{LABEL}=restricted")
    example = examples()[0].values[0]
    (pod,) = _pods(_rendered(example, namespace.name, "Baseline"))
    assert "runAsNonRoot != true" in namespace.refusal(pod)
