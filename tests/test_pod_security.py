"""Each published control, broken once: the pod is refused for it, and for nothing else."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from trtllm_operator.pod_security import baseline_violations, restricted_violations

Manifest = dict[str, Any]

HARDENED: Manifest = {
    "metadata": {"annotations": {"example.com/note": "text"}},
    "spec": {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [
            {
                "name": "first",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
        "containers": [
            {
                "name": "main",
                "ports": [{"containerPort": 8000}],
                "startupProbe": {"httpGet": {"port": 8000}},
                "lifecycle": {"preStop": {"sleep": {"seconds": 15}}},
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
        "volumes": [{"name": "cache", "emptyDir": {}}],
    },
}
MAIN, FIRST = ("spec", "containers", 0), ("spec", "initContainers", 0)


def _pod(path: tuple[str | int, ...], value: Any) -> Manifest:
    """Return the hardened pod with one value set, or removed where ``value`` is None."""
    pod: Any = deepcopy(HARDENED)
    inner = pod
    for step in path[:-1]:
        inner = inner.setdefault(step, {}) if isinstance(step, str) else inner[step]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return dict(pod)


BASELINE = [
    ("HostProcess", ("spec", "securityContext", "windowsOptions"), {"hostProcess": True}),
    ("Host Namespaces", ("spec", "hostNetwork"), True),
    ("Host Namespaces", ("spec", "hostPID"), True),
    ("Host Namespaces", ("spec", "hostIPC"), True),
    ("Privileged Containers", (*FIRST, "securityContext", "privileged"), True),
    ("HostPath Volumes", ("spec", "volumes"), [{"name": "node", "hostPath": {"path": "/"}}]),
    ("Host Ports", (*MAIN, "ports"), [{"containerPort": 8000, "hostPort": 80}]),
    ("Host Probes / Lifecycle Hooks", (*MAIN, "startupProbe", "httpGet", "host"), "10.0.0.1"),
    ("Host Probes / Lifecycle Hooks", (*MAIN, "lifecycle", "postStart"), {"tcpSocket": {"host": "a", "port": 1}}),
    ("AppArmor", (*MAIN, "securityContext", "appArmorProfile"), {"type": "Unconfined"}),
    ("AppArmor", ("metadata", "annotations", "container.apparmor.security.beta.kubernetes.io/main"), "unconfined"),
    ("SELinux", ("spec", "securityContext", "seLinuxOptions"), {"type": "spc_t"}),
    ("SELinux", (*MAIN, "securityContext", "seLinuxOptions"), {"role": "sysadm_r"}),
    ("/proc Mount Type", (*MAIN, "securityContext", "procMount"), "Unmasked"),
    ("Seccomp", (*MAIN, "securityContext", "seccompProfile"), {"type": "Unconfined"}),
    ("Sysctls", ("spec", "securityContext", "sysctls"), [{"name": "kernel.msgmax", "value": "1"}]),
    ("Capabilities", (*MAIN, "securityContext", "capabilities"), {"add": ["IPC_LOCK"], "drop": ["ALL"]}),
]
RESTRICTED = [
    ("Volume Types", ("spec", "volumes"), [{"name": "share", "nfs": {"server": "a", "path": "/"}}]),
    ("Privilege Escalation", (*MAIN, "securityContext", "allowPrivilegeEscalation"), None),
    ("Running as Non-root", ("spec", "securityContext", "runAsNonRoot"), None),
    ("Running as Non-root", (*MAIN, "securityContext", "runAsNonRoot"), False),
    ("Running as Non-root user", (*FIRST, "securityContext", "runAsUser"), 0),
    ("Seccomp (Restricted)", ("spec", "securityContext", "seccompProfile"), None),
    ("Capabilities (Restricted)", (*FIRST, "securityContext", "capabilities"), {"drop": ["NET_RAW"]}),
    ("Capabilities (Restricted)", (*MAIN, "securityContext", "capabilities"), {"add": ["CHOWN"], "drop": ["ALL"]}),
]
CASES = [pytest.param(*case, id=f"{case[0]}-{case[1][-1]}") for case in BASELINE]
FURTHER = [pytest.param(*case, id=f"{case[0]}-{case[1][-1]}") for case in RESTRICTED]


def test_a_hardened_pod_breaks_nothing() -> None:
    assert baseline_violations(HARDENED) == ()
    assert restricted_violations(HARDENED) == ()


@pytest.mark.parametrize(("control", "path", "value"), CASES)
def test_what_baseline_forbids_restricted_forbids_too(control: str, path: tuple[str | int, ...], value: Any) -> None:
    pod = _pod(path, value)
    assert {violation.control for violation in baseline_violations(pod)} == {control}
    assert control in {violation.control for violation in restricted_violations(pod)}


@pytest.mark.parametrize(("control", "path", "value"), FURTHER)
def test_what_only_restricted_forbids(control: str, path: tuple[str | int, ...], value: Any) -> None:
    pod = _pod(path, value)
    assert baseline_violations(pod) == ()
    assert {violation.control for violation in restricted_violations(pod)} == {control}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param((*MAIN, "securityContext", "capabilities"), {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}),
        pytest.param((*MAIN, "securityContext", "appArmorProfile"), {"type": "Localhost", "localhostProfile": "a"}),
        pytest.param(("spec", "securityContext", "seLinuxOptions"), {"type": "container_t"}),
        pytest.param(("spec", "securityContext", "sysctls"), [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]),
        pytest.param(("spec", "volumes"), [{"name": "model", "image": {"reference": "a/b:1"}}]),
        pytest.param((*MAIN, "securityContext", "seccompProfile"), {"type": "Localhost", "localhostProfile": "a"}),
    ],
)
def test_what_restricted_allows(path: tuple[str | int, ...], value: Any) -> None:
    assert restricted_violations(_pod(path, value)) == ()
