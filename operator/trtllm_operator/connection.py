"""Where the API server is and who we are, and the bounded HTTP sessions that carry both."""

from __future__ import annotations

import copy
import ipaddress
import os
import ssl
from pathlib import Path
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from trtllm_operator import __version__
from trtllm_operator.credentials import (
    Credential,
    Credentials,
    read_file,
    static_credentials,
    tls_context,
    token_file_credentials,
)
from trtllm_operator.errors import OperatorError
from trtllm_operator.kubeconfig import Kubeconfig, kubeconfig_path

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def _proxy_for(server: URL, configured: str | None) -> URL | None:
    """Return the proxy in front of the server.

    Resolved once: aiohttp's own ``trust_env`` would read the environment and ~/.netrc in a thread for each request.
    """
    proxies = getproxies()
    proxy = configured or proxies.get(server.scheme)
    host = server.host or ""
    if not proxy:
        return None
    if not configured and (proxy_bypass(host) or _is_in_networks(host, proxies.get("no", ""))):
        return None
    url = URL(proxy if "://" in proxy else f"http://{proxy}")
    if url.scheme not in {"http", "https"}:
        raise OperatorError(f"proxy {url.with_user(None)}: only http and https proxies are supported")
    return url


def _is_in_networks(host: str, no_proxy: str) -> bool:
    """Whether NO_PROXY lists a network (10.0.0.0/8) that holds the host, as Go programs read it."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for item in no_proxy.split(","):
        try:
            if address in ipaddress.ip_network(item.strip(), strict=False):
                return True
        except ValueError:
            continue
    return False


class Connection:
    """Where the API server is, who we are, and the bounded sessions that carry both."""

    def __init__(
        self,
        server: str,
        *,
        tls: ssl.SSLContext | None = None,
        credentials: Credentials | None = None,
        default_namespace: str = "default",
        tls_server_name: str | None = None,
        proxy: str | None = None,
        limit: int = 48,
    ) -> None:
        self.server = server.rstrip("/")
        self.default_namespace = default_namespace
        self._tls = tls
        self._credentials = credentials or static_credentials(None)
        self._tls_server_name = tls_server_name
        self._proxy = _proxy_for(URL(self.server), proxy)
        self._limit = limit
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_kubeconfig(cls, path: Path | None = None, context: str | None = None) -> Connection:
        """Return the connection a kubeconfig describes.

        ``path`` None: the first existing file of $KUBECONFIG, or ~/.kube/config; ``context`` None: the current one.
        Raises OperatorError, naming the file and what is missing in it.
        """
        config = Kubeconfig.load(path or kubeconfig_path())
        chosen = config.entry("contexts", context or config.content.get("current-context"))
        cluster = config.entry("clusters", chosen.get("cluster"))
        user = config.entry("users", chosen["user"]) if chosen.get("user") else {}
        server = cluster.get("server")
        if not isinstance(server, str) or URL(server).scheme not in {"http", "https"}:
            raise OperatorError(f"{config.path}: cluster {chosen.get('cluster')!r} has no http or https server")
        tls = config.tls(cluster, user) if server.startswith("https:") else None
        return cls(
            server,
            tls=tls,
            credentials=config.credentials(cluster, user, tls),
            default_namespace=chosen.get("namespace") or "default",
            tls_server_name=cluster.get("tls-server-name"),
            proxy=cluster.get("proxy-url"),
        )

    @staticmethod
    def is_in_cluster(folder: Path = SERVICE_ACCOUNT) -> bool:
        """Whether this process runs in a pod with a service account."""
        return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (folder / "token").is_file()

    @classmethod
    def in_cluster(cls, folder: Path = SERVICE_ACCOUNT) -> Connection:
        """Return the connection of a pod's service account. Raises OperatorError when this is not a pod."""
        host, port = (
            os.environ.get("KUBERNETES_SERVICE_HOST"),
            os.environ.get("KUBERNETES_SERVICE_PORT", "443"),
        )
        if not host:
            raise OperatorError("not in a pod: KUBERNETES_SERVICE_HOST is not set")
        tls = tls_context(
            read_file(folder / "ca.crt", "the certificate authority"), verify=True, source=folder / "ca.crt"
        )
        namespace = folder / "namespace"
        return cls(
            f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
            tls=tls,
            credentials=token_file_credentials(folder / "token"),
            default_namespace=namespace.read_text().strip() if namespace.is_file() else "default",
        )

    @property
    def session(self) -> aiohttp.ClientSession:
        """Our own session, opened when there is none or it was closed; look it up for each request."""
        if self._session is None or self._session.closed:
            self._session = self.new_session()
        return self._session

    def new_session(self) -> aiohttp.ClientSession:
        """Open a session the caller owns and closes; its requests carry the current credential."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._limit, keepalive_timeout=60, ssl=self._tls or True),
            headers={"Accept": "application/json", "User-Agent": f"trtllm-operator/{__version__}"},
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(self._authorize,),
            proxy=self._proxy.with_user(None) if self._proxy else None,
        )

    def apart(self, limit: int = 2) -> Connection:
        """Return a connection of its own to the same place, whose requests never wait for ours."""
        other = copy.copy(self)
        other._session, other._limit = None, limit  # noqa: SLF001 - a copy of ourselves
        return other

    async def close(self) -> None:
        """Close our own session; those of ``new_session`` belong to who asked for them."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _authorize(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if self._tls_server_name:
            request.server_hostname = self._tls_server_name
        if self._proxy is not None and self._proxy.user:
            login = aiohttp.encode_basic_auth(self._proxy.user, self._proxy.password or "")
            request.update_proxy(request.proxy, None, {"Proxy-Authorization": login})
        credential = await self._credentials.current()
        _set_token(request, credential)
        response = await handler(request)
        if response.status != 401 or not self._credentials.renewable:  # noqa: PLR2004 - Unauthorized
            return response
        # Closed, not released: a renewed client certificate needs a new connection.
        response.close()
        _set_token(request, await self._credentials.renewed(credential))
        return await handler(request)


def _set_token(request: aiohttp.ClientRequest, credential: Credential) -> None:
    if credential.token is not None:
        request.headers["Authorization"] = f"Bearer {credential.token}"
