"""The rights the operator needs, made from the table of kinds, and nothing more."""

from __future__ import annotations

from typing import Any

from trtllm_operator.kinds import (
    CREATED_KINDS,
    KINDS,
    LEASE,
    LLM_DEPLOYMENT,
    OBSERVED_KINDS,
    SURVEYED_KINDS,
    Kind,
)
from trtllm_operator.lease import LEASE_NAME

Rule = dict[str, list[str]]

NAME = "trtllm-operator"
LEADER_ROLE = f"{NAME}-leader"


def _rule(kind: Kind, verbs: list[str], suffix: str = "") -> Rule:
    return {"apiGroups": [kind.group], "resources": [kind.plural + suffix], "verbs": verbs}


def namespaced_rules() -> list[Rule]:
    """Return the rules about objects in namespaces: a Role suffices where the operator serves one namespace.

    Server-side apply needs create and patch; deletes carry a uid precondition.
    """
    return [
        _rule(LLM_DEPLOYMENT, ["get", "list", "watch"]),
        _rule(LLM_DEPLOYMENT, ["patch"], "/status"),
        # blockOwnerDeletion needs this where OwnerReferencesPermissionEnforcement is on.
        _rule(LLM_DEPLOYMENT, ["update"], "/finalizers"),
        *(_rule(kind, ["get", "list", "watch", "create", "patch", "delete"]) for kind in KINDS),
        *(_rule(kind, ["list", "watch"]) for kind in OBSERVED_KINDS if kind.namespaced),
        *(_rule(kind, ["list"]) for kind in SURVEYED_KINDS),
        *(_rule(kind, ["create"]) for kind in CREATED_KINDS),
    ]


def node_rules() -> list[Rule]:
    """Return the rules about objects outside namespaces, all of which the operator can do without."""
    return [_rule(kind, ["list", "watch"]) for kind in OBSERVED_KINDS if not kind.namespaced]


def rules() -> list[Rule]:
    """Return every rule."""
    return [*namespaced_rules(), *node_rules()]


def leader_rules() -> list[Rule]:
    """Return the rules of leader election, for the operator's own namespace. A create cannot be bound to a name."""
    return [_rule(LEASE, ["create"]), {**_rule(LEASE, ["get", "update"]), "resourceNames": [LEASE_NAME]}]


def cluster_role() -> dict[str, Any]:
    """Return the ClusterRole."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": NAME},
        "rules": rules(),
    }


def leader_role(namespace: str) -> dict[str, Any]:
    """Return the Role of leader election."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": LEADER_ROLE, "namespace": namespace},
        "rules": leader_rules(),
    }
