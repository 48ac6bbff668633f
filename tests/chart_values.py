"""Values of the operator's chart, by what they are for."""

from __future__ import annotations

from typing import Any

VALUES: dict[str, dict[str, Any]] = {
    "default": {},
    "namespaced": {"watchNamespaces": ["team-a"]},
    "without-cluster-rights": {
        "watchNamespaces": ["team-a"],
        "rbac": {"readNodes": False, "aggregate": False},
        "crds": {"enabled": False},
    },
    "rights-by-others": {"rbac": {"create": False}, "serviceAccount": {"create": False, "name": "ops"}},
    "crd-goes-with-the-release": {"crds": {"keep": False}},
    "pinned-private-image": {
        "image": {"repository": "registry.example.com/ai/operator", "digest": f"sha256:{'0' * 64}"},
        "imagePullSecrets": ["pull"],
    },
    "scheduling": {
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "priorityClassName": "system-cluster-critical",
        "resources": {"limits": {"memory": "1Gi"}},
    },
    "network-policy": {"networkPolicy": {"enabled": True}},
    "names-and-labels": {
        "fullnameOverride": "llm",
        "podLabels": {"team": "yes"},
        "podAnnotations": {"note": 'a "quoted": text # not a comment'},
        "serviceAccount": {"annotations": {"note": "true"}},
    },
    "user-chosen-by-the-platform": {"runAsUser": None},
    "verbose-behind-a-proxy": {"verbose": True, "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}]},
    "one-replica": {"replicas": 1},
    "several-namespaces": {"watchNamespaces": ["team-a", "team-b"], "logFormat": "json"},
    "host-path": {"allowHostPath": True},
    "pod-monitor": {
        "metrics": {"podMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
        "networkPolicy": {"enabled": True},
    },
    "without-metrics": {"metrics": {"enabled": False}},
}
