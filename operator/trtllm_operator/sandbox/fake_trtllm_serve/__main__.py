"""``python -m trtllm_operator.sandbox.fake_trtllm_serve MODEL [OPTIONS]``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

import click

from trtllm_operator.sandbox.fake_trtllm_serve import faults
from trtllm_operator.sandbox.fake_trtllm_serve.admission import Admitted, admit
from trtllm_operator.sandbox.fake_trtllm_serve.engine import Engine
from trtllm_operator.sandbox.fake_trtllm_serve.environment import Environment
from trtllm_operator.sandbox.fake_trtllm_serve.routes import Served
from trtllm_operator.sandbox.fake_trtllm_serve.server import StartupFailure, bind, load, serve

_DEFAULT_BATCH_SIZE = 2048


def main(arguments: Sequence[str]) -> None:
    """Serve, and end as the real server ends: 2 for a wrong command line, 1 for a failed start, by signal when told.

    Any other exception leaves with its traceback, which is what the real one prints.
    """
    environment = Environment.read(os.environ)
    if environment.fault and environment.fault not in faults.NAMES:
        raise SystemExit(f"FAKE_TRTLLM_FAULT {environment.fault!r} is none of {', '.join(sorted(faults.NAMES))}")
    try:
        admitted = admit(arguments, environment)
    except click.UsageError as error:
        error.show()
        sys.exit(error.exit_code)
    try:
        ended_by = asyncio.run(_run(admitted, environment))
    except StartupFailure as failure:
        raise SystemExit(f"Traceback (most recent call last):\n{failure}") from failure
    signal.signal(ended_by, signal.SIG_DFL)
    signal.raise_signal(ended_by)


async def _run(admitted: Admitted, environment: Environment) -> signal.Signals:
    listener = bind(admitted.host, admitted.port)
    await load(environment)
    engine = Engine(
        max_batch_size=admitted.config.get("max_batch_size") or _DEFAULT_BATCH_SIZE,
        token_seconds=environment.token_seconds,
        keep_statistics=bool(admitted.config.get("enable_iter_perf_stats")),
    )
    served = Served(
        name=admitted.model_id,
        version=environment.version,
        config=admitted.config,
        release=environment.release,
        engine=engine,
    )
    return await serve(listener, served, environment)


if __name__ == "__main__":
    main(sys.argv[1:])
