"""What a cluster needs before the operator can run in it: the CRD, an account and its rights."""

from __future__ import annotations

from typing import Any

from trtllm_operator.crd import crd
from trtllm_operator.rbac import NAME, cluster_role


def manifests(namespace: str) -> list[dict[str, Any]]:
    """Return namespace, CRD, service account, role and binding, in the order to apply them."""
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
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": NAME},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME},
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": namespace}],
        },
    ]
