"""Follows what Go prints while it builds: progress for the user, and why it failed."""

from __future__ import annotations

import logging
import re
import selectors
import subprocess
import sys
import time
from collections import deque

_LOG = logging.getLogger(__name__)

_PACKAGE = re.compile(r"^[\w./~+@-]+$")
_NETWORK = re.compile(
    r"dial tcp|no such host|i/o timeout|connection refused|network is unreachable|proxyconnect"
    r"|TLS handshake|module lookup disabled|server misbehaving|temporary failure in name resolution",
    re.IGNORECASE,
)
_ERROR_LINES = 3
_LONGEST_ERROR = 500
_LIVE_SECONDS = 0.5
_PLAIN_SECONDS = 30.0


class BuildOutput:
    """The output of one run of Go."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._started = time.monotonic()
        self._shown = self._started
        # A live line only where somebody watches and has asked for progress.
        self._live = sys.stderr.isatty() and _LOG.isEnabledFor(logging.INFO)
        self._packages = 0
        self._errors: deque[str] = deque(maxlen=_ERROR_LINES)
        self.no_space = False
        self.no_network = False

    @property
    def error(self) -> str:
        """What Go said last, as one line."""
        return "; ".join(dict.fromkeys(self._errors))[:_LONGEST_ERROR] or "Go gave no reason"

    def follow(self, process: subprocess.Popen[bytes]) -> str:
        """Read both outputs until the process closes them; return the standard output."""
        _LOG.info("%s, some minutes the first time", self._title)
        answer = bytearray()
        rest = b""
        with selectors.DefaultSelector() as selector:
            for stream in filter(None, (process.stdout, process.stderr)):
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select(_LIVE_SECONDS):
                    chunk = key.fileobj.read1(65536)  # type: ignore[union-attr]
                    if not chunk:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is process.stdout:
                        answer += chunk
                    else:
                        *lines, rest = (rest + chunk).split(b"\n")
                        self._read(lines)
                self._show()
        self._read([rest])
        process.wait()
        self._end()
        return answer.decode("utf-8", "replace")

    def _read(self, lines: list[bytes]) -> None:
        for line in lines:
            text = line.decode("utf-8", "replace").strip()
            if not text or text.startswith(("go: downloading ", "go: finding ", "go: added ", "#")):
                continue
            if _PACKAGE.match(text):
                self._packages += 1
                continue
            self.no_space = self.no_space or "no space left on device" in text
            self.no_network = self.no_network or _NETWORK.search(text) is not None
            self._errors.append(text)

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown < (_LIVE_SECONDS if self._live else _PLAIN_SECONDS):
            return
        self._shown = now
        if self._live:
            sys.stderr.write(f"\r\x1b[K{self._state(now)}")
            sys.stderr.flush()
        else:
            _LOG.info("%s", self._state(now))

    def _state(self, now: float) -> str:
        minutes, seconds = divmod(int(now - self._started), 60)
        return f"{self._title}: {minutes}m{seconds:02}s, {self._packages} packages compiled"

    def _end(self) -> None:
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        _LOG.info("%s", self._state(time.monotonic()))
