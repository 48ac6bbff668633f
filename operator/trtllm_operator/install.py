"""What a cluster needs before the operator can run in it: the CRD, an account and its rights."""

from __future__ import annotations

from typing import Any

from trtllm_operator.crd import crd
from trtllm_operator.rbac import LEADER_ROLE, NAME, cluster_role, leader_role


def manifests(namespace: str) -> list[dict[str, Any]]:
    """Return namespace, CRD, service account, roles and their bindings, in the order to apply them."""
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        crd(),
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": NAME, "namespace": namespace},
            "automountServiceAccountToken": False,
        },
        cluster_role(),
        _binding("ClusterRole", NAME, namespace),
        leader_role(namespace),
        _binding("Role", LEADER_ROLE, namespace),
    ]


def _binding(kind: str, role: str, namespace: str) -> dict[str, Any]:
    """Return the binding of a role to the operator's account; that of a Role is in the same namespace."""
    place = {} if kind == "ClusterRole" else {"namespace": namespace}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": f"{kind}Binding",
        "metadata": {"name": role, **place},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": namespace}],
    }
