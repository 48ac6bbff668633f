"""The process that owns one sandbox: starts its components, answers for them, takes everything down.

It reads one line of JSON (the spec) from standard input and reports in lines of JSON on standard output.
Standard input then is its lifeline: when it closes before the word ``detach`` came, the process that wanted
the sandbox is gone, and so is the sandbox. One thread only: that is what makes PR_SET_PDEATHSIG reliable.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trtllm_operator.sandbox import claim
from trtllm_operator.sandbox.apiserver import Client
from trtllm_operator.sandbox.bringup import bring_up
from trtllm_operator.sandbox.components import Component, Layout
from trtllm_operator.sandbox.control import Listener
from trtllm_operator.sandbox.errors import SandboxError
from trtllm_operator.sandbox.logs import last_words, log_tail
from trtllm_operator.sandbox.process import kill_group, spawn
from trtllm_operator.sandbox.spec import SandboxSpec

_STDIN = 0
_TURN_SECONDS = 0.05
_TAIL_LINES = 3


class Stopped(Exception):
    """Somebody asked for the end: a signal, a command, or the end of the process that wanted the sandbox."""


class Supervisor:
    """The components of one sandbox and everything that may happen to them."""

    def __init__(self, spec: SandboxSpec, layout: Layout) -> None:
        self.spec = spec
        self.layout = layout
        self.client: Client | None = None
        self._components: dict[str, Component] = {}
        self._environments: dict[str, dict[str, str]] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._states: dict[str, str] = {}
        self._ready = False
        self._facts: dict[str, Any] = {}
        self._listener: Listener | None = None
        self._tied = True
        self._selector = selectors.DefaultSelector()
        self._selector.register(_STDIN, selectors.EVENT_READ, self._read_lifeline)
        self._wake_on_signals()

    def report(self, event: str, **fields: Any) -> None:
        """Tell the process that wanted the sandbox."""
        line = json.dumps({"event": event, **fields}) + "\n"
        try:
            os.write(sys.stdout.fileno(), line.encode())
        except BrokenPipeError as error:
            raise Stopped from error

    def start(self, component: Component, environment: dict[str, str] | None = None) -> None:
        """Start a component, or start it again."""
        base = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.layout.temporary),
            "TMPDIR": str(self.layout.temporary),
        }
        name = component.name
        self._components[name] = component
        self._environments[name] = environment or base
        self._processes[name] = spawn(
            component.argv,
            log=self.layout.log(name),
            env=self._environments[name],
            cwd=self.layout.root,
        )
        self._states[name] = "running"
        self.record()

    def record(self, **facts: Any) -> None:
        """Write down what other processes need when this one cannot answer."""
        self._facts |= facts
        components = {
            name: {"pid": process.pid, "endpoint": self._components[name].endpoint}
            for name, process in self._processes.items()
        }
        draft = self.layout.record.with_suffix(".new")
        draft.write_text(json.dumps({**self._facts, "components": components}), encoding="utf-8")
        draft.replace(self.layout.record)

    def wait(self, what: str, condition: Callable[[], bool], seconds: float, *, log: str) -> None:
        """Wait until the condition holds, at most ``seconds``; a component's death ends the wait.

        ``log`` names the component whose log says why when the time is over.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            self._turn(_TURN_SECONDS)
            for name, state in self._states.items():
                if state.startswith("exited"):
                    raise SandboxError(f"{name} {state}: {last_words(self.layout.log(name))}")
            if time.monotonic() > deadline:
                words = last_words(self.layout.log(log))
                raise SandboxError(f"{what} not ready after {seconds:.0f} s; {log} says: {words}")

    def healthy(self, component: str) -> bool:
        """Tell whether a component answers its health endpoint."""
        return self.client is not None and self.client.healthy(self._components[component].health)

    def serve(self) -> None:
        """Answer until somebody asks for the end."""
        self._ready = True
        while True:
            self._turn(None)

    def listen(self) -> None:
        """Open the control socket."""
        self._listener = Listener(self.layout.socket)
        self._selector.register(self._listener.socket, selectors.EVENT_READ, self._answer)

    def tear_down(self) -> None:
        """Kill every component and remove every file."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for process in reversed(self._processes.values()):
            kill_group(process)
        claim.remove_tree(self.layout.root)
        claim.release(self.layout)

    def _wake_on_signals(self) -> None:
        waker, wakened = socket.socketpair()
        for end in (waker, wakened):
            end.setblocking(False)  # noqa: FBT003 - the parameter has no name
        self._waker = waker
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        self._selector.register(wakened, selectors.EVENT_READ, self._read_signals)

    def _turn(self, seconds: float | None) -> None:
        for key, _ in self._selector.select(seconds):
            key.data(key.fileobj)

    def _read_lifeline(self, _: Any) -> None:
        if b"detach" in os.read(_STDIN, 4096):
            self._tied = False
        elif self._tied:
            raise Stopped
        self._selector.unregister(_STDIN)
        self._become_silent()

    def _become_silent(self) -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1):
            os.dup2(null, descriptor)
        os.close(null)

    def _read_signals(self, wakened: socket.socket) -> None:
        numbers = set(wakened.recv(4096))
        if numbers & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
            raise Stopped
        for name, process in self._processes.items():
            code = process.poll()
            if code is not None and self._states[name] in {"running", "paused"}:
                self._states[name] = f"exited with {code}" if code >= 0 else f"exited by signal {-code}"

    def _answer(self, _: Any) -> None:
        if self._listener is None:
            return
        # A client that hangs up or says nothing must not take the sandbox with it.
        with contextlib.suppress(OSError), self._listener.accept() as conversation:
            if conversation.command == "down":
                conversation.keep()
                raise Stopped
            if conversation.command == "run":
                self.start(Component.from_json(conversation.argument))
                conversation.reply({})
                return
            conversation.reply(self._obey(conversation.command, conversation.component))

    def _obey(self, command: str, name: str) -> dict[str, Any]:
        if command == "status":
            return {"ready": self._ready, "components": {name: self._status(name) for name in self._components}}
        if name not in self._components:
            return {"error": f"no component {name!r}; there are: {', '.join(self._components)}"}
        process, state = self._processes[name], self._states[name]
        match command, state:
            case "start", "paused":
                return {"error": f"{name} is paused; resume it"}
            case "start", state if state != "running":
                self.start(self._components[name], self._environments[name])
            case "stop", "running" | "paused":
                self._states[name] = "stopped"
                kill_group(process)
            case "pause", "running":
                os.killpg(process.pid, signal.SIGSTOP)
                self._states[name] = "paused"
            case "resume", "paused":
                os.killpg(process.pid, signal.SIGCONT)
                self._states[name] = "running"
            case _:  # already as asked
                pass
        return {}

    def _status(self, name: str) -> dict[str, Any]:
        state = self._states[name]
        return {
            "pid": self._processes[name].pid,
            "state": state,
            "endpoint": self._components[name].endpoint,
            "healthy": state == "running" and self.healthy(name),
            "log": log_tail(self.layout.log(name), _TAIL_LINES) if state.startswith("exited") else [],
        }


def _read_spec() -> SandboxSpec:
    line = bytearray()
    while not line.endswith(b"\n"):
        chunk = os.read(_STDIN, 65536)
        if not chunk:
            raise Stopped
        line += chunk
    return SandboxSpec.loads(line.decode())


def run() -> int:
    """Own one sandbox from its claim to its end; return the exit code."""
    spec = _read_spec()
    # A detached supervisor is nobody's child: whoever started it need not outlive it to collect its exit code.
    if spec.detach and os.fork():
        return 0
    os.chdir("/")  # pins no directory of the caller's
    layout = Layout(Path(spec.directory))
    supervisor = Supervisor(spec, layout)
    try:
        claim.claim(layout, spec.name)
    except SandboxError as error:
        supervisor.report("failed", message=str(error))
        return 1
    return _own(supervisor)


def _own(supervisor: Supervisor) -> int:
    failure = ""
    try:
        _redirect_errors(supervisor.layout)
        bring_up(supervisor)
        supervisor.report("ready")
        supervisor.serve()
    except Stopped:
        pass
    except SandboxError as error:
        failure = str(error)
    except OSError as error:
        failure = f"{error.filename or supervisor.layout.root}: {error.strerror or error}"
    finally:
        supervisor.tear_down()
    if not failure:
        return 0
    with contextlib.suppress(Stopped):
        supervisor.report("failed", message=failure)
    return 1


def _redirect_errors(layout: Layout) -> None:
    with layout.log("supervisor").open("ab") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())


if __name__ == "__main__":
    try:
        sys.exit(run())
    except Stopped:
        sys.exit(1)
