"""The published Pod Security Standards, Baseline and Restricted, as checks over a pod as Kubernetes has it.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/. The API server enforces the same with its
admission plugin, but only where a namespace asks for it, and only after a Deployment was stored. Controls for Windows
pods, which cannot serve, are left out but for host processes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

Pod = Mapping[str, Any]
"""A pod or a pod template: ``metadata`` and ``spec``."""


class Violation(NamedTuple):
    """A control that a pod breaks, by its published name, and the field with its value."""

    control: str
    detail: str


HOST_PATH_VOLUMES = "HostPath Volumes"

_APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_PROFILES = ("RuntimeDefault", "Localhost")


def baseline_violations(pod: Pod) -> tuple[Violation, ...]:
    """Return every control of Baseline that the pod breaks."""
    return _violations(pod, _BASELINE)


def restricted_violations(pod: Pod) -> tuple[Violation, ...]:
    """Return every control of Restricted, which holds those of Baseline, that the pod breaks."""
    return _violations(pod, {**_BASELINE, **_RESTRICTED})


@cache
def _allowed(values: str) -> frozenset[str]:
    """Return one list of ``data/pod_security.json``."""
    text = resources.files("trtllm_operator").joinpath("data/pod_security.json").read_text(encoding="utf-8")
    return frozenset(json.loads(text)[values])


def _violations(pod: Pod, controls: Mapping[str, Callable[[Pod], Iterator[str]]]) -> tuple[Violation, ...]:
    return tuple(Violation(name, detail) for name, broken in controls.items() for detail in broken(pod))


def _containers(pod: Pod) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in pod["spec"].get(field, ()):
            yield f"{field}[{container['name']}]", container


def _contexts(pod: Pod) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the security context of the pod and that of each container, with its path."""
    yield "securityContext", pod["spec"].get("securityContext", {})
    for path, container in _containers(pod):
        yield f"{path}.securityContext", container.get("securityContext", {})


def _container_contexts(pod: Pod) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return (found for found in _contexts(pod) if found[0] != "securityContext")


def _host_process(pod: Pod) -> Iterator[str]:
    for path, context in _contexts(pod):
        if context.get("windowsOptions", {}).get("hostProcess"):
            yield f"{path}.windowsOptions.hostProcess is true"


def _host_namespaces(pod: Pod) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod["spec"].get(field):
            yield f"{field} is true"


def _privileged(pod: Pod) -> Iterator[str]:
    for path, context in _container_contexts(pod):
        if context.get("privileged"):
            yield f"{path}.privileged is true"


def _added_capabilities(pod: Pod) -> Iterator[str]:
    for path, context in _container_contexts(pod):
        for name in context.get("capabilities", {}).get("add", ()):
            if name not in _allowed("addableCapabilities"):
                yield f"{path}.capabilities.add holds {name}"


def _host_path_volumes(pod: Pod) -> Iterator[str]:
    for volume in pod["spec"].get("volumes", ()):
        if "hostPath" in volume:
            yield f"volumes[{volume['name']}].hostPath is {volume['hostPath'].get('path')}"


def _host_ports(pod: Pod) -> Iterator[str]:
    for path, container in _containers(pod):
        for port in container.get("ports", ()):
            if port.get("hostPort"):
                yield f"{path}.ports has hostPort {port['hostPort']}"


def _host_probes(pod: Pod) -> Iterator[str]:
    """Probes and lifecycle handlers must not reach out to other hosts (published with Kubernetes 1.34)."""
    for path, container in _containers(pod):
        hooks = {name: container.get(name, {}) for name in ("livenessProbe", "readinessProbe", "startupProbe")}
        hooks |= {f"lifecycle.{name}": hook for name, hook in container.get("lifecycle", {}).items()}
        for name, hook in hooks.items():
            for action in ("httpGet", "tcpSocket"):
                if hook.get(action, {}).get("host"):
                    yield f"{path}.{name}.{action}.host is {hook[action]['host']}"


def _apparmor(pod: Pod) -> Iterator[str]:
    for path, context in _contexts(pod):
        kind = context.get("appArmorProfile", {}).get("type", "RuntimeDefault")
        if kind not in ("RuntimeDefault", "Localhost"):
            yield f"{path}.appArmorProfile.type is {kind}"
    for key, value in pod.get("metadata", {}).get("annotations", {}).items():
        allowed = value in ("", "runtime/default") or value.startswith("localhost/")
        if key.startswith(_APPARMOR_ANNOTATION) and not allowed:
            yield f"annotation {key} is {value}"


def _selinux(pod: Pod) -> Iterator[str]:
    for path, context in _contexts(pod):
        options = context.get("seLinuxOptions", {})
        if options.get("type", "") not in _allowed("selinuxTypes"):
            yield f"{path}.seLinuxOptions.type is {options['type']}"
        for field in ("user", "role"):
            if options.get(field):
                yield f"{path}.seLinuxOptions.{field} is {options[field]}"


def _proc_mount(pod: Pod) -> Iterator[str]:
    for path, context in _container_contexts(pod):
        if context.get("procMount", "Default") != "Default":
            yield f"{path}.procMount is {context['procMount']}"


def _seccomp_unconfined(pod: Pod) -> Iterator[str]:
    for path, context in _contexts(pod):
        kind = context.get("seccompProfile", {}).get("type", "RuntimeDefault")
        if kind not in _SECCOMP_PROFILES:
            yield f"{path}.seccompProfile.type is {kind}"


def _sysctls(pod: Pod) -> Iterator[str]:
    for sysctl in pod["spec"].get("securityContext", {}).get("sysctls", ()):
        if sysctl["name"] not in _allowed("safeSysctls"):
            yield f"securityContext.sysctls holds {sysctl['name']}"


def _volume_types(pod: Pod) -> Iterator[str]:
    for volume in pod["spec"].get("volumes", ()):
        for kind in sorted(volume.keys() - {"name"} - _allowed("volumeTypes")):
            yield f"volumes[{volume['name']}] is a {kind}"


def _privilege_escalation(pod: Pod) -> Iterator[str]:
    for path, context in _container_contexts(pod):
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{path}.allowPrivilegeEscalation is not false"


def _non_root(pod: Pod) -> Iterator[str]:
    inherited = pod["spec"].get("securityContext", {}).get("runAsNonRoot")
    for path, context in _container_contexts(pod):
        if context.get("runAsNonRoot", inherited) is not True:
            yield f"{path}.runAsNonRoot is not true"


def _non_root_user(pod: Pod) -> Iterator[str]:
    for path, context in _contexts(pod):
        if context.get("runAsUser") == 0:
            yield f"{path}.runAsUser is 0"


def _seccomp_stated(pod: Pod) -> Iterator[str]:
    inherited = pod["spec"].get("securityContext", {}).get("seccompProfile", {})
    for path, context in _container_contexts(pod):
        if context.get("seccompProfile", inherited).get("type") not in _SECCOMP_PROFILES:
            yield f"{path}.seccompProfile.type is not RuntimeDefault or Localhost"


def _dropped_capabilities(pod: Pod) -> Iterator[str]:
    for path, context in _container_contexts(pod):
        capabilities = context.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", ()):
            yield f"{path}.capabilities.drop does not hold ALL"
        for name in capabilities.get("add", ()):
            if name != "NET_BIND_SERVICE":
                yield f"{path}.capabilities.add holds {name}"


_BASELINE: Mapping[str, Callable[[Pod], Iterator[str]]] = {
    "HostProcess": _host_process,
    "Host Namespaces": _host_namespaces,
    "Privileged Containers": _privileged,
    "Capabilities": _added_capabilities,
    HOST_PATH_VOLUMES: _host_path_volumes,
    "Host Ports": _host_ports,
    "Host Probes / Lifecycle Hooks": _host_probes,
    "AppArmor": _apparmor,
    "SELinux": _selinux,
    "/proc Mount Type": _proc_mount,
    "Seccomp": _seccomp_unconfined,
    "Sysctls": _sysctls,
}

_RESTRICTED: Mapping[str, Callable[[Pod], Iterator[str]]] = {
    "Volume Types": _volume_types,
    "Privilege Escalation": _privilege_escalation,
    "Running as Non-root": _non_root,
    "Running as Non-root user": _non_root_user,
    "Seccomp (Restricted)": _seccomp_stated,
    "Capabilities (Restricted)": _dropped_capabilities,
}
