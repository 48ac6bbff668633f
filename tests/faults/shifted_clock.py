"""Runs a module in a process whose wall clock is wrong: ``shifted_clock.py OFFSET JUMP -m MODULE [ARGUMENTS]``.

Both are seconds: OFFSET from the start, JUMP more at every SIGUSR1. Only what Python reads is shifted; the monotonic
clock goes on as it is, as on a machine whose clock is set.
"""

from __future__ import annotations

import datetime as dt
import runpy
import signal
import sys
import time

_TRUE_TIME = time.time
_shift = [0]


class ShiftedDatetime(dt.datetime):
    """``datetime`` of which ``now`` is wrong."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> ShiftedDatetime:  # type: ignore[override]
        return super().now(tz) + dt.timedelta(seconds=_shift[0])


def _main(offset: int, jump: int, module: str, *arguments: str) -> None:
    def shift(*_: object) -> None:
        _shift[0] += jump

    _shift[0] = offset
    signal.signal(signal.SIGUSR1, shift)
    time.time = lambda: _TRUE_TIME() + _shift[0]
    dt.datetime = ShiftedDatetime  # type: ignore[misc]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[4:])
