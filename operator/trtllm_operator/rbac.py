"""The rights the operator needs, made from the table of kinds, and nothing more."""

from __future__ import annotations

from typing import Any

from trtllm_operator.kinds import EVENT, KINDS, LLM_DEPLOYMENT, OBSERVED_KINDS, Kind

Rule = dict[str, list[str]]

NAME = "trtllm-operator"


def _rule(kind: Kind, verbs: list[str], suffix: str = "") -> Rule:
    return {"apiGroups": [kind.group], "resources": [kind.plural + suffix], "verbs": verbs}


def rules() -> list[Rule]:
    """Return the rules. Server-side apply needs create and patch; deletes carry a uid precondition."""
    return [
        _rule(LLM_DEPLOYMENT, ["get", "list", "watch"]),
        _rule(LLM_DEPLOYMENT, ["patch"], "/status"),
        # blockOwnerDeletion needs this where OwnerReferencesPermissionEnforcement is on.
        _rule(LLM_DEPLOYMENT, ["update"], "/finalizers"),
        *(_rule(kind, ["get", "list", "watch", "create", "patch", "delete"]) for kind in KINDS),
        *(_rule(kind, ["list", "watch"]) for kind in OBSERVED_KINDS),
        _rule(EVENT, ["create"]),
    ]


def cluster_role() -> dict[str, Any]:
    """Return the ClusterRole."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": NAME},
        "rules": rules(),
    }
