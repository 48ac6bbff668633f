"""From a bound port that refuses connections to a server that drains."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys

import click
from aiohttp import web

from trtllm_operator.sandbox.fake_trtllm_serve import faults
from trtllm_operator.sandbox.fake_trtllm_serve.engine import Engine
from trtllm_operator.sandbox.fake_trtllm_serve.environment import Environment
from trtllm_operator.sandbox.fake_trtllm_serve.routes import Served, application

_UNBOUNDED_SECONDS = 1e9


class StartupFailure(Exception):
    """The server ends while it loads; the message is what the real one prints."""


def bind(host: str, port: int) -> socket.socket:
    """Take the port without listening, as the real server does while it loads. Raises RuntimeError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    try:
        taken.bind((host, port))
    except OSError as error:
        taken.close()
        raise RuntimeError(f"Failed to bind socket to {host}:{port}: {error}") from error
    return taken


async def load(environment: Environment) -> None:
    """Take the time a model takes. Raises StartupFailure for a fault of this phase."""
    await asyncio.sleep(environment.load_seconds)
    fault = faults.SPAWN_FAILURE if environment.spawn_fails else environment.fault
    if fault in faults.AT_LOAD:
        raise StartupFailure(faults.AT_LOAD[fault])


async def serve(listener: socket.socket, served: Served, environment: Environment) -> signal.Signals:
    """Serve until told to stop, then refuse new connections and wait for the running requests without limit.

    Returns the signal that ended it.
    """
    told = _signals()
    runner = web.AppRunner(application(served), access_log=None, shutdown_timeout=_UNBOUNDED_SECONDS)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    click.echo(f"INFO:     Uvicorn running on socket {listener.getsockname()} (Press CTRL+C to quit)", err=True)
    fault = asyncio.create_task(_strike(served.engine, environment))
    ended_by = await told
    fault.cancel()
    await runner.cleanup()
    return ended_by


def _signals() -> asyncio.Future[signal.Signals]:
    loop = asyncio.get_running_loop()
    told: asyncio.Future[signal.Signals] = loop.create_future()

    def tell(number: signal.Signals) -> None:
        if not told.done():
            told.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell, number)
    return told


async def _strike(engine: Engine, environment: Environment) -> None:
    await asyncio.sleep(environment.fault_seconds)
    if environment.fault == faults.DEAD_ENGINE:
        engine.dead = True
    if environment.fault == faults.CRASH:
        sys.stderr.write("[TRT-LLM] [E] Fatal error, the server ends\n")
        sys.stderr.flush()
        os._exit(1)
