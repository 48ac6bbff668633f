"""The operator as a process of its own, to be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from control_plane import wait_until
from support import ROOT
from trtllm_operator.sandbox.process import free_ports


def processor_time(pid: int) -> float:
    """Return the processor time a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class OperatorProcess:
    """``trtllm-operator run`` for one namespace; its log outlives it."""

    def __init__(
        self,
        kubeconfig: Path,
        namespace: str,
        log: Path,
        *arguments: str,
        name: str = "operator",
        python: Sequence[str] = (sys.executable,),
        sources: Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = log
        (port,) = free_ports(1)
        self._probes = f"http://127.0.0.1:{port}"
        self._command = [
            *(*python, "-m", "trtllm_operator", "run"),
            *(f"--kubeconfig={kubeconfig}", f"--namespace={namespace}", f"--port={port}"),
            *arguments,
        ]
        path = os.pathsep.join(map(str, (*sources, ROOT / "operator")))
        self._environment = {**os.environ, "PYTHONPATH": path, "POD_ID": name, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def rss(self) -> int:
        """Resident memory in bytes, 0 when it does not run."""
        return self._memory("VmRSS")

    @property
    def data(self) -> int:
        """Bytes it may write to, resident or not, which is what RLIMIT_DATA limits; 0 when it does not run."""
        return self._memory("VmData")

    def _memory(self, field: str) -> int:
        if self._process is None or not self.alive:
            return 0
        for line in Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
        return 0

    @property
    def cpu(self) -> float:
        """Processor time it has used, in seconds."""
        assert self._process is not None
        return processor_time(self._process.pid)

    def start(self, *, wait: bool = True) -> None:
        """Start; ``wait`` until every watch has been listed."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stderr=log, stdout=log, env=self._environment)
        if wait:
            wait_until(lambda: self.probe("readyz") == 200, what=lambda: self.log[-2000:])

    def probe(self, path: str) -> int:
        """Return the HTTP status of a probe, 0 when nobody answers."""
        try:
            with urllib.request.urlopen(f"{self._probes}/{path}", timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self._process is not None and self.alive:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL; from any thread."""
        self.send(signal.SIGKILL)

    def wait(self, seconds: float = 30) -> int:
        """Wait for its end and return the exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def terminate(self) -> None:
        """Let it stop by itself."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        self.wait()

    def end(self) -> None:
        """Kill it and wait, whatever state it is in."""
        self.send(signal.SIGCONT)
        self.kill()
        if self._process is not None:
            self._process.wait()
