"""A small client of the sandbox's own API server, and of the health endpoints beside it."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.parse
from typing import TYPE_CHECKING, Any

from trtllm_operator.sandbox.errors import SandboxError

if TYPE_CHECKING:
    from trtllm_operator.sandbox.components import Layout

_TIMEOUT = 5.0
TOKEN_SECONDS = 30 * 24 * 3600


class ApiError(SandboxError):
    """The API server refused a request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the API server answered {status}: {message}")
        self.status = status


class Client:
    """HTTPS with the administrator's certificate, which etcd and every component accept too."""

    def __init__(self, layout: Layout) -> None:
        self._context = ssl.create_default_context(cafile=layout.certificate("ca"))
        self._context.load_cert_chain(layout.certificate("admin"), layout.key("admin"))

    def healthy(self, url: str) -> bool:
        """Tell whether ``url`` answers 200 within a second."""
        try:
            status, _ = self._send("GET", url, None, timeout=1.0)
        except (OSError, http.client.HTTPException):
            return False
        return status == http.client.OK

    def request(self, method: str, url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send one request to the API server and return the object it answers with."""
        try:
            status, content = self._send(method, url, body, timeout=_TIMEOUT)
        except (OSError, http.client.HTTPException) as error:
            raise SandboxError(f"the API server does not answer: {error}") from error
        try:
            answer: dict[str, Any] = json.loads(content or b"{}")
        except ValueError:
            answer = {"message": content.decode("utf-8", "replace")}
        if status >= http.client.BAD_REQUEST:
            raise ApiError(status, str(answer.get("message", "")))
        return answer

    def service_account_token(self, server: str, namespace: str, name: str) -> str:
        """Return a token of the service account from the TokenRequest API, valid for 30 days."""
        answer = self.request(
            "POST",
            f"{server}/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": TOKEN_SECONDS},
            },
        )
        return str(answer["status"]["token"])

    def _send(self, method: str, url: str, body: dict[str, Any] | None, *, timeout: float) -> tuple[int, bytes]:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", parts.port
        connection = (
            http.client.HTTPSConnection(host, port, timeout=timeout, context=self._context)
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=timeout)
        )
        try:
            path = f"{parts.path}?{parts.query}" if parts.query else parts.path
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
