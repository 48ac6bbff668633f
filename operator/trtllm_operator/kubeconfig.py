"""Reading a kubeconfig, credential plugins included, with errors that name the file and the entry."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from trtllm_operator.credentials import (
    Credential,
    Credentials,
    load_client_certificate,
    read_file,
    static_credentials,
    tls_context,
    token_file_credentials,
)
from trtllm_operator.errors import OperatorError

_EXEC_TIMEOUT = 60.0
_EXPIRY_MARGIN = 10.0
_MESSAGE_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class ExecPlugin:
    """A credential plugin of a kubeconfig (client.authentication.k8s.io), run as kubectl runs it."""

    config: Path
    settings: Mapping[str, Any]
    cluster: Mapping[str, Any]
    tls: ssl.SSLContext | None

    async def load(self) -> Credential:
        """Run the plugin; a client certificate it returns serves the connections opened from now on."""
        command = str(self.settings.get("command") or "")
        try:
            status = json.loads(await self._output(command))["status"]
            token, certificate = status.get("token"), status.get("clientCertificateData")
            key, expires = status.get("clientKeyData"), status.get("expirationTimestamp")
            remaining = (
                (datetime.fromisoformat(expires) - datetime.now(UTC)).total_seconds() if expires else float("inf")
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise OperatorError(f"{self.config}: {command!r} printed no usable ExecCredential") from error
        if not token and not (certificate and key):
            raise OperatorError(f"{self.config}: {command!r} returned neither a token nor a client certificate")
        if certificate and key and self.tls is not None:
            load_client_certificate(self.tls, certificate.encode(), key.encode(), self.config)
        return Credential(token or None, time.monotonic() + remaining - _EXPIRY_MARGIN)

    async def _output(self, command: str) -> bytes:
        # As in kubectl: a bare name is searched on PATH, a relative path starts at the kubeconfig's folder.
        program = str(self.config.parent / command) if os.sep in command else command
        arguments = [str(argument) for argument in self.settings.get("args") or ()]
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                *arguments,
                env=self._environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            hint = str(self.settings.get("installHint") or "").strip()
            raise OperatorError(
                f"{self.config}: cannot run {command!r}: {error.strerror}. {hint}".rstrip(". ")
            ) from error
        try:
            async with asyncio.timeout(_EXEC_TIMEOUT):
                output, problem = await process.communicate()
        except TimeoutError as error:
            raise OperatorError(f"{self.config}: {command!r} did not answer within {_EXEC_TIMEOUT:.0f} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            text = problem.decode(errors="replace").strip()[:_MESSAGE_LIMIT]
            raise OperatorError(f"{self.config}: {command!r} ended with status {process.returncode}: {text}")
        return output

    def _environment(self) -> dict[str, str]:
        spec: dict[str, Any] = {"interactive": False}
        if self.settings.get("provideClusterInfo"):
            spec["cluster"] = {key: value for key, value in self.cluster.items() if key != "certificate-authority"}
        info = {"apiVersion": self.settings.get("apiVersion"), "kind": "ExecCredential", "spec": spec}
        extra = {str(item["name"]): str(item["value"]) for item in self.settings.get("env") or ()}
        return {**os.environ, **extra, "KUBERNETES_EXEC_INFO": json.dumps(info)}


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """One kubeconfig file, read with errors that name the file and the entry."""

    path: Path
    content: Mapping[str, Any]

    @classmethod
    def load(cls, path: Path) -> Kubeconfig:
        """Read the file."""
        try:
            content = yaml.safe_load(read_file(path, "the kubeconfig"))
        except yaml.YAMLError as error:
            raise OperatorError(f"{path}: not YAML: {error}") from error
        if not isinstance(content, dict):
            raise OperatorError(f"{path}: not a kubeconfig")
        return cls(path, content)

    def entry(self, section: str, name: str | None) -> Mapping[str, Any]:
        """Return the cluster, user or context of a name."""
        singular = section.removesuffix("s")
        known = {item["name"]: item.get(singular) or {} for item in self.content.get(section) or () if "name" in item}
        if not name or name not in known:
            raise OperatorError(f"{self.path}: no {singular} {name!r}; there are: {', '.join(sorted(known)) or 'none'}")
        found: Mapping[str, Any] = known[name]
        return found

    def file(self, name: str) -> Path:
        """Return a file the kubeconfig names; relative ones start at its own folder."""
        return self.path.parent / name

    def material(self, entry: Mapping[str, Any], key: str) -> bytes | None:
        """Return what ``KEY-data`` holds or the file ``KEY`` names."""
        if data := entry.get(f"{key}-data"):
            try:
                return base64.b64decode(data, validate=True)
            except (binascii.Error, ValueError, TypeError) as error:
                raise OperatorError(f"{self.path}: {key}-data is not base64") from error
        return read_file(self.file(entry[key]), key) if entry.get(key) else None

    def tls(self, cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext:
        """Return the TLS context for a cluster and a user."""
        verify = not cluster.get("insecure-skip-tls-verify")
        context = tls_context(self.material(cluster, "certificate-authority"), verify=verify, source=self.path)
        certificate, key = self.material(user, "client-certificate"), self.material(user, "client-key")
        if bool(certificate) != bool(key):
            raise OperatorError(f"{self.path}: client-certificate and client-key need each other; one is missing")
        if certificate and key:
            load_client_certificate(context, certificate, key, self.path)
        return context

    def credentials(
        self, cluster: Mapping[str, Any], user: Mapping[str, Any], tls: ssl.SSLContext | None
    ) -> Credentials:
        """Return where the user's bearer token comes from; kubectl's order."""
        if "auth-provider" in user:
            raise OperatorError(f"{self.path}: auth-provider was removed from Kubernetes; use an exec plugin")
        if user.get("tokenFile"):
            return token_file_credentials(self.file(user["tokenFile"]))
        if user.get("token"):
            return static_credentials(user["token"])
        if plugin := user.get("exec"):
            if not plugin.get("command"):
                raise OperatorError(f"{self.path}: the exec plugin has no command")
            return Credentials(ExecPlugin(self.path, plugin, cluster, tls).load)
        return static_credentials(None)


def kubeconfig_path() -> Path:
    """Return the first existing file of $KUBECONFIG, or ~/.kube/config. Raises OperatorError when there is none."""
    listed = [Path(item) for item in os.environ.get("KUBECONFIG", "").split(os.pathsep) if item]
    default = Path.home() / ".kube" / "config"
    for path in listed or [default]:
        if path.is_file():
            return path
    tried = ", ".join(map(str, listed)) if listed else str(default)
    raise OperatorError(f"no kubeconfig: {tried} does not exist; set $KUBECONFIG or name a file")
