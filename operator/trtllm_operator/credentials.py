"""Bearer tokens and TLS material: read, aged, and renewed when the server refuses them."""

from __future__ import annotations

import asyncio
import logging
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp

from trtllm_operator.errors import OperatorError

logger = logging.getLogger(__name__)

_TOKEN_MAX_AGE = 60.0
_RENEWAL_PAUSE = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Credential:
    """A bearer token, or none; compared by identity to tell a renewed one from the one that was refused."""

    token: str | None
    good_until: float = float("inf")


class Credentials:
    """The current credential, loaded when first needed, when it has aged, and when the server refused it."""

    def __init__(
        self,
        load: Callable[[], Awaitable[Credential]],
        *,
        renewable: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.renewable = renewable
        self._load = load
        self._clock = clock
        self._held: Credential | None = None
        self._lock = asyncio.Lock()

    async def current(self) -> Credential:
        """Return a credential that is believed good."""
        held = self._held
        if held is not None and self._clock() < held.good_until:
            return held
        return await self._renew(held)

    async def renewed(self, refused: Credential) -> Credential:
        """Return a credential newer than the one the server refused; requests refused together load once."""
        return await self._renew(refused)

    async def _renew(self, old: Credential | None) -> Credential:
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


def static_credentials(token: str | None) -> Credentials:
    """Return a token that never changes, or none."""

    async def load() -> Credential:
        return Credential(token)

    return Credentials(load, renewable=False)


def token_file_credentials(path: Path, clock: Callable[[], float] = time.monotonic) -> Credentials:
    """Return the token of a file, read again every minute. Raises OperatorError when it cannot be read now."""
    _read_token(path)

    async def load() -> Credential:
        return Credential(_read_token(path), clock() + _TOKEN_MAX_AGE)

    return Credentials(load, clock=clock)


def _read_token(path: Path) -> str:
    token = read_file(path, "the token").decode("ascii", "replace").strip()
    if not token:
        raise OperatorError(f"{path}: the token file is empty")
    return token


def read_file(path: Path, what: str) -> bytes:
    """Return the content of a file. Raises OperatorError naming the file and ``what`` it should hold."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise OperatorError(f"{path}: cannot read {what}: {error.strerror}") from error


def tls_context(authority: bytes | None, *, verify: bool, source: Path) -> ssl.SSLContext:
    """Return the TLS context for one authority (PEM), or the system's; ``source`` is named in errors."""
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


def load_client_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes, source: Path) -> None:
    """Load a PEM pair into a context. Raises OperatorError naming ``source``."""
    # OpenSSL takes files only; this one is readable by us alone and gone at once.
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(certificate + b"\n" + key)
        file.flush()
        try:
            context.load_cert_chain(file.name)
        except (ssl.SSLError, OSError) as error:
            raise OperatorError(f"{source}: the client certificate and its key are not a PEM pair") from error
