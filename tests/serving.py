"""A stand-in server run as a process."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from trtllm_operator.engine import CONFIG_DIRECTORY, CONFIG_FILE, PORT, EngineCommand

MODULE = "trtllm_operator.sandbox.fake_trtllm_serve"
DEADLINE_SECONDS = 60.0
POLL_SECONDS = 0.02

_RUNNING = re.compile(r"Uvicorn running on socket \('[^']*', (\d+)\)")
T = TypeVar("T")


def wait_for(probe: Callable[[], T | None]) -> T:
    """Poll until the probe answers something true."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (answer := probe()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(POLL_SECONDS)
    return answer


def local_arguments(command: EngineCommand, folder: Path) -> list[str]:
    """The rendered arguments, with a free port and the rendered file where this computer may have them."""
    path = folder / CONFIG_FILE
    path.write_text(json.dumps(command.config), encoding="utf-8")
    places = {str(PORT): "0", f"{CONFIG_DIRECTORY}/{CONFIG_FILE}": str(path)}
    program, *arguments = command.argv
    assert program == "trtllm-serve"
    return [places.get(argument, argument) for argument in arguments]


def environment(**fake: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FAKE_TRTLLM_", "OMPI_"))}
    return {**kept, **{f"FAKE_TRTLLM_{name}": value for name, value in fake.items()}}


def run(arguments: Sequence[str], **fake: str) -> subprocess.CompletedProcess[str]:
    """Run to the end, for a start that fails."""
    command = [sys.executable, "-m", MODULE, *arguments]
    return subprocess.run(
        command, env=environment(**fake), capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def port(self) -> int | None:
        assert self.process.poll() is None, self.output
        found = _RUNNING.search(self.output)
        return int(found[1]) if found else None

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", wait_for(self.port), timeout=DEADLINE_SECONDS)
        connection.connect()
        return connection

    def get(self, path: str) -> tuple[int, str]:
        with contextlib.closing(self.connect()) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    @contextlib.contextmanager
    def posting(self, path: str, body: dict[str, Any]) -> Iterator[http.client.HTTPResponse]:
        """The answer to a request, which may still be running."""
        with contextlib.closing(self.connect()) as connection:
            connection.request("POST", path, body=json.dumps(body))
            with contextlib.closing(connection.getresponse()) as answer:
                yield answer


@contextlib.contextmanager
def started(arguments: Sequence[str], folder: Path, *, module: str = MODULE, **fake: str) -> Iterator[Server]:
    """Start a server; it is killed at the end if it still runs."""
    log = folder / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], env=environment(**fake), stdout=output, stderr=output
        )
    try:
        yield Server(process, log)
    finally:
        process.kill()
        process.wait()
