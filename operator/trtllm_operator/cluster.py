"""The API server, as the operator uses it: plain aiohttp, JSON parsed once, typed errors out.

``Connection`` knows where the server is and who we are, from a kubeconfig or from inside a pod. ``Cluster`` has the
requests. No aiohttp exception leaves this module, and nothing is retried here but one 401: the queue and the informers
decide when to try again.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ipaddress
import json
import logging
import os
import re
import ssl
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode
from urllib.request import getproxies, proxy_bypass

import aiohttp
import yaml
from yarl import URL

from trtllm_operator import __version__
from trtllm_operator.errors import (
    ClusterError,
    Conflict,
    Forbidden,
    Gone,
    NotFound,
    OperatorError,
    Rejected,
    Unavailable,
)
from trtllm_operator.kinds import Kind

logger = logging.getLogger(__name__)

Manifest = dict[str, Any]
Manifests = list[Manifest]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_TOKEN_MAX_AGE = 60.0
_RENEWAL_PAUSE = 10.0
_EXEC_TIMEOUT = 60.0
_EXPIRY_MARGIN = 10.0
_MESSAGE_LIMIT = 1024


@dataclass(frozen=True, slots=True, eq=False)
class _Credential:
    """A bearer token, or none; compared by identity to tell a renewed one from the one that was refused."""

    token: str | None
    good_until: float = float("inf")


class _Credentials:
    """The current credential, loaded when first needed, when it has aged, and when the server refused it."""

    def __init__(
        self,
        load: Callable[[], Awaitable[_Credential]],
        *,
        renewable: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.renewable = renewable
        self._load = load
        self._clock = clock
        self._held: _Credential | None = None
        self._lock = asyncio.Lock()

    async def current(self) -> _Credential:
        """Return a credential that is believed good."""
        held = self._held
        if held is not None and self._clock() < held.good_until:
            return held
        return await self._renew(held)

    async def renewed(self, refused: _Credential) -> _Credential:
        """Return a credential newer than the one the server refused; requests refused together load once."""
        return await self._renew(refused)

    async def _renew(self, old: _Credential | None) -> _Credential:
        async with self._lock:
            if self._held is not None and self._held is not old:
                return self._held
            try:
                self._held = await self._load()
            except OperatorError as error:
                if self._held is None:
                    # An aiohttp error: kopf's requests pass here as well, and must be retried, not end the process.
                    raise aiohttp.ClientConnectionError(str(error)) from error
                logger.warning("keeping the last credential: %s", error)
                self._held = replace(self._held, good_until=self._clock() + _RENEWAL_PAUSE)
            return self._held


def _static(token: str | None) -> _Credentials:
    async def load() -> _Credential:
        return _Credential(token)

    return _Credentials(load, renewable=False)


def _from_file(path: Path, clock: Callable[[], float] = time.monotonic) -> _Credentials:
    _read_token(path)

    async def load() -> _Credential:
        return _Credential(_read_token(path), clock() + _TOKEN_MAX_AGE)

    return _Credentials(load, clock=clock)


def _read_token(path: Path) -> str:
    token = _read(path, "the token").decode("ascii", "replace").strip()
    if not token:
        raise OperatorError(f"{path}: the token file is empty")
    return token


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OperatorError(f"{path}: cannot read {what}: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class _ExecPlugin:
    """A credential plugin of a kubeconfig (client.authentication.k8s.io), run as kubectl runs it."""

    config: Path
    settings: Mapping[str, Any]
    cluster: Mapping[str, Any]
    tls: ssl.SSLContext | None

    async def load(self) -> _Credential:
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
            _load_client_certificate(self.tls, certificate.encode(), key.encode(), self.config)
        return _Credential(token or None, time.monotonic() + remaining - _EXPIRY_MARGIN)

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
        spec: Manifest = {"interactive": False}
        if self.settings.get("provideClusterInfo"):
            spec["cluster"] = {key: value for key, value in self.cluster.items() if key != "certificate-authority"}
        info = {"apiVersion": self.settings.get("apiVersion"), "kind": "ExecCredential", "spec": spec}
        extra = {str(item["name"]): str(item["value"]) for item in self.settings.get("env") or ()}
        return {**os.environ, **extra, "KUBERNETES_EXEC_INFO": json.dumps(info)}


def _tls_context(authority: bytes | None, *, verify: bool, source: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    except (ssl.SSLError, ValueError) as error:
        raise OperatorError(f"{source}: the certificate authority is not a PEM certificate") from error
    # Python 3.13 made this the default; the self-made authorities of many clusters do not pass it.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load_client_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes, source: Path) -> None:
    # OpenSSL takes files only; this one is readable by us alone and gone at once.
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(certificate + b"\n" + key)
        file.flush()
        try:
            context.load_cert_chain(file.name)
        except (ssl.SSLError, OSError) as error:
            raise OperatorError(f"{source}: the client certificate and its key are not a PEM pair") from error


@dataclass(frozen=True, slots=True)
class _Kubeconfig:
    """One kubeconfig file, read with errors that name the file and the entry."""

    path: Path
    content: Mapping[str, Any]

    @classmethod
    def load(cls, path: Path) -> _Kubeconfig:
        """Read the file."""
        try:
            content = yaml.safe_load(_read(path, "the kubeconfig"))
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
        return _read(self.file(entry[key]), key) if entry.get(key) else None

    def tls(self, cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext:
        """Return the TLS context for a cluster and a user."""
        verify = not cluster.get("insecure-skip-tls-verify")
        context = _tls_context(self.material(cluster, "certificate-authority"), verify=verify, source=self.path)
        certificate, key = self.material(user, "client-certificate"), self.material(user, "client-key")
        if bool(certificate) != bool(key):
            raise OperatorError(f"{self.path}: client-certificate and client-key need each other; one is missing")
        if certificate and key:
            _load_client_certificate(context, certificate, key, self.path)
        return context

    def credentials(
        self, cluster: Mapping[str, Any], user: Mapping[str, Any], tls: ssl.SSLContext | None
    ) -> _Credentials:
        """Return where the user's bearer token comes from; kubectl's order."""
        if "auth-provider" in user:
            raise OperatorError(f"{self.path}: auth-provider was removed from Kubernetes; use an exec plugin")
        if user.get("tokenFile"):
            return _from_file(self.file(user["tokenFile"]))
        if user.get("token"):
            return _static(user["token"])
        if plugin := user.get("exec"):
            if not plugin.get("command"):
                raise OperatorError(f"{self.path}: the exec plugin has no command")
            return _Credentials(_ExecPlugin(self.path, plugin, cluster, tls).load)
        return _static(None)


def _kubeconfig_path() -> Path:
    listed = [Path(item) for item in os.environ.get("KUBECONFIG", "").split(os.pathsep) if item]
    default = Path.home() / ".kube" / "config"
    for path in listed or [default]:
        if path.is_file():
            return path
    tried = ", ".join(map(str, listed)) if listed else str(default)
    raise OperatorError(f"no kubeconfig: {tried} does not exist; set $KUBECONFIG or name a file")


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
        credentials: _Credentials | None = None,
        default_namespace: str = "default",
        tls_server_name: str | None = None,
        proxy: str | None = None,
        limit: int = 48,
    ) -> None:
        self.server = server.rstrip("/")
        self.default_namespace = default_namespace
        self._tls = tls
        self._credentials = credentials or _static(None)
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
        config = _Kubeconfig.load(path or _kubeconfig_path())
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
        tls = _tls_context(_read(folder / "ca.crt", "the certificate authority"), verify=True, source=folder / "ca.crt")
        namespace = folder / "namespace"
        return cls(
            f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
            tls=tls,
            credentials=_from_file(folder / "token"),
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


def _set_token(request: aiohttp.ClientRequest, credential: _Credential) -> None:
    if credential.token is not None:
        request.headers["Authorization"] = f"Bearer {credential.token}"


class WatchEvent(NamedTuple):
    """One line of a watch: ADDED, MODIFIED, DELETED or BOOKMARK, and the object."""

    type: str
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Applied:
    """What the API server stored, and whether the apply created it."""

    manifest: Manifest
    created: bool


_METHODS = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "patch": "PATCH",
    "delete": "DELETE",
}
_CREATED = 201
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_JSON = "application/json"
_ERRORS: Mapping[int, type[ClusterError]] = {
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
}

# An apply body is read as YAML. JSON is YAML but for these: raw, they are refused or folded as line breaks. And YAML
# takes no escaped surrogate pairs, so everything else (emoji!) must go raw.
_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One request: an RBAC verb on a collection, an object or a subresource."""

    verb: str
    kind: Kind
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    content_type: str = _JSON

    @property
    def target(self) -> str:
        """The path and query."""
        path = self.kind.path(self.namespace, self.name, self.subresource).rstrip("/")
        return f"{path}?{urlencode(self.query)}" if self.query else path

    @property
    def resource(self) -> str:
        """The resource as RBAC names it; discovery has none."""
        plural = self.kind.plural or self.kind.kind
        return f"{plural}/{self.subresource}" if self.subresource else plural

    def __str__(self) -> str:
        where = "/".join(part for part in (self.namespace, self.name) if part)
        group = f".{self.kind.group}" if self.kind.group else ""
        return f"{self.verb} {self.resource}{group} {where}".rstrip()

    def content(self) -> tuple[bytes | None, dict[str, str]]:
        """Return the body and the header that says what it is."""
        if self.body is None:
            return None, {}
        text = json.dumps(self.body, separators=(",", ":"), ensure_ascii=False)
        text = _NOT_YAML.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
        return text.encode("utf-8", "replace"), {"Content-Type": self.content_type}


def _failure(call: _Call, response: aiohttp.ClientResponse, body: bytes) -> ClusterError:
    """Return the error for a refusal, with the server's own words."""
    status = response.status
    try:
        answer = json.loads(body)
        text, reason = str(answer.get("message") or ""), str(answer.get("reason") or "")
    except (ValueError, AttributeError):
        text, reason = body.decode(errors="replace"), ""
    message = f"{call}: {status} {reason or response.reason or ''}: {text.strip()[:_MESSAGE_LIMIT]}"
    if kind := _ERRORS.get(status):
        return kind(message, status=status, reason=reason)
    if 400 <= status < 500 and status not in {408, 429}:  # noqa: PLR2004 - the request itself is at fault
        return Rejected(message, status=status, reason=reason)
    seconds = response.headers.get("Retry-After", "")
    return Unavailable(
        message, status=status, reason=reason, retry_after=float(seconds) if seconds.isdecimal() else None
    )


class Cluster:
    """Requests to the API server. Timeouts in seconds.

    Any method raises, besides the errors it names: Forbidden (401, 403), Rejected (the request is at fault) and
    Unavailable (429, 5xx, time-outs, no connection). ``on_request`` is told the RBAC verb, the resource and the HTTP
    status (0: no answer) of every request.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        request_timeout: float = 30,
        connect_timeout: float = 5,
        watch_silence: float = 75,
        on_request: Callable[[str, str, int], None] | None = None,
    ) -> None:
        self._connection = connection
        self._server = connection.server
        self._on_request = on_request
        self._timeout = aiohttp.ClientTimeout(total=request_timeout, sock_connect=connect_timeout)
        self._watch_timeout = aiohttp.ClientTimeout(
            total=None, connect=request_timeout, sock_connect=connect_timeout, sock_read=watch_silence
        )

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        """Return the object, or None when it does not exist."""
        try:
            _, manifest = await self._request(_Call(verb="get", kind=kind, namespace=namespace, name=name))
        except NotFound:
            return None
        return manifest

    async def list(
        self, kind: Kind, namespace: str | None = None, *, labels: str = "", limit: int = 500
    ) -> tuple[Manifests, str]:
        """Return every object that matches a label selector, and the resourceVersion to watch from.

        Reads pages of ``limit`` objects. Raises NotFound when the kind is not served, Gone when pages expired twice.
        """
        try:
            return await self._pages(kind, namespace, labels, limit)
        except Gone:
            return await self._pages(kind, namespace, labels, limit)

    async def _pages(self, kind: Kind, namespace: str | None, labels: str, limit: int) -> tuple[Manifests, str]:
        query = {"limit": str(limit)}
        if labels:
            query["labelSelector"] = labels
        items: Manifests = []
        while True:
            _, page = await self._request(_Call(verb="list", kind=kind, namespace=namespace, query=query))
            metadata = page.get("metadata") or {}
            # The items of a list leave these two out.
            items += [{**item, "apiVersion": kind.api_version, "kind": kind.kind} for item in page.get("items") or ()]
            if not metadata.get("continue"):
                return items, metadata.get("resourceVersion", "")
            query = {**query, "continue": metadata["continue"]}

    async def apply(self, kind: Kind, manifest: Manifest, *, manager: str, force: bool) -> Applied:
        """Apply server-side as a field manager; ``force`` takes fields over from other managers.

        Raises Conflict when another manager holds a field (without force) or a uid in the body is not the object's,
        NotFound when the namespace or the kind does not exist.
        """
        status, stored = await self._request(_patch(kind, manifest, None, manager, force=force))
        return Applied(stored, status == _CREATED)

    async def apply_status(self, kind: Kind, manifest: Manifest, *, manager: str) -> Manifest:
        """Apply the status server-side, with force; return the object. Raises NotFound when it is gone, Conflict."""
        _, stored = await self._request(_patch(kind, manifest, "status", manager, force=True))
        return stored

    async def merge(self, kind: Kind, manifest: Manifest, *, manager: str) -> Manifest:
        """Merge the manifest into the object, lists replaced whole. Raises NotFound, and Conflict for another uid."""
        metadata = manifest["metadata"]
        call = _Call(
            verb="patch",
            kind=kind,
            namespace=metadata.get("namespace"),
            name=metadata["name"],
            query={"fieldManager": manager},
            body=manifest,
            content_type=_MERGE,
        )
        _, stored = await self._request(call)
        return stored

    async def delete(
        self, kind: Kind, namespace: str | None, name: str, *, uid: str, propagation: str = "Background"
    ) -> bool:
        """Delete the object of this uid; False when the name is free. Raises Conflict when the uid differs."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": propagation,
        }
        try:
            await self._request(_Call(verb="delete", kind=kind, namespace=namespace, name=name, body=options))
        except NotFound:
            return False
        return True

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Create the object; return it as stored. Raises Conflict when it exists, NotFound without its namespace."""
        namespace = manifest["metadata"].get("namespace")
        _, stored = await self._request(_Call(verb="create", kind=kind, namespace=namespace, body=manifest))
        return stored

    async def kinds_served(self, group: str, version: str) -> frozenset[str]:
        """Return the plural names of the kinds a group and version serve; empty when they are not there."""
        discovery = Kind(group=group, version=version, kind="APIResourceList", plural="")
        try:
            _, answer = await self._request(_Call(verb="get", kind=discovery))
        except NotFound:
            return frozenset()
        return frozenset(item["name"] for item in answer.get("resources") or () if "/" not in item["name"])

    async def watch(
        self, kind: Kind, *, namespace: str | None = None, labels: str = "", resource_version: str
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield what happens after a resourceVersion, until the server ends the stream (after ten minutes).

        Raises Gone when the resourceVersion is too old, NotFound when the kind is not served, and Unavailable also for
        a stream that went silent (bookmarks come about every minute) or broke.
        """
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": "600",
            "resourceVersion": resource_version,
        }
        if labels:
            query["labelSelector"] = labels
        call = _Call(verb="watch", kind=kind, namespace=namespace, query=query)
        async with self._response(call, self._watch_timeout) as response:
            async for line in _lines(response.content):
                yield _event(call, line)

    async def _request(self, call: _Call) -> tuple[int, Manifest]:
        async with self._response(call, self._timeout) as response:
            body = await response.read()
        try:
            answer: Manifest = json.loads(body)
        except ValueError as error:
            raise Unavailable(f"{call}: the answer is not JSON", status=response.status) from error
        return response.status, answer

    @asynccontextmanager
    async def _response(self, call: _Call, limits: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientResponse]:
        content, headers = call.content()
        url = URL(self._server + call.target, encoded=True)
        status = 0
        try:
            async with self._connection.session.request(
                _METHODS[call.verb],
                url,
                data=content,
                headers=headers,
                timeout=limits,
                allow_redirects=False,
            ) as response:
                status = response.status
                self._count(call, status)
                if status >= 300:  # noqa: PLR2004 - the API server never redirects
                    raise _failure(call, response, await response.read())
                yield response
        except TimeoutError as error:
            self._count_unanswered(call, status)
            raise Unavailable(f"{call}: no answer in time ({str(error) or 'request'})", status=status) from error
        except (aiohttp.ClientError, OSError) as error:
            self._count_unanswered(call, status)
            raise Unavailable(f"{call}: {str(error) or type(error).__name__}", status=status) from error

    def _count(self, call: _Call, status: int) -> None:
        if self._on_request is not None:
            self._on_request(call.verb, call.resource, status)

    def _count_unanswered(self, call: _Call, status: int) -> None:
        if status == 0:
            self._count(call, 0)


def _patch(kind: Kind, manifest: Manifest, subresource: str | None, manager: str, *, force: bool) -> _Call:
    metadata = manifest["metadata"]
    return _Call(
        verb="patch",
        kind=kind,
        namespace=metadata.get("namespace"),
        name=metadata["name"],
        subresource=subresource,
        query={"fieldManager": manager, "force": "true" if force else "false"},
        body=manifest,
        content_type=_APPLY,
    )


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield the lines of a stream; a line of several MB comes in many pieces, each of which is searched once."""
    begun = bytearray()
    async for piece in content.iter_any():
        first, *others = piece.split(b"\n")
        begun += first
        for other in others:
            if begun:
                yield bytes(begun)
            begun = bytearray(other)
    if begun:
        yield bytes(begun)


def _event(call: _Call, line: bytes) -> WatchEvent:
    try:
        event = json.loads(line)
        kind, manifest = event["type"], event["object"]
        if kind != "ERROR":
            return WatchEvent(kind, manifest)
        code, reason = manifest.get("code", 0), manifest.get("reason", "")
        message = f"{call}: {code} {reason}: {str(manifest.get('message', ''))[:_MESSAGE_LIMIT]}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unavailable(f"{call}: a line of the stream is not a watch event") from error
    if code == 410:  # noqa: PLR2004 - Gone
        raise Gone(message, status=code, reason=reason)
    raise Unavailable(message, status=code, reason=reason)
