"""Runs a module in a process that may have so much memory: ``limited_memory.py MIB -m MODULE [ARGUMENTS]``.

A container that passes its limit is killed by the kernel; here an allocation fails, which Python does not survive for
long either. RLIMIT_DATA counts what a process may write to, used or not: a little more than the resident memory.
"""

from __future__ import annotations

import resource
import runpy
import sys


def _main(mebibytes: int, module: str, *arguments: str) -> None:
    limit = mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main(int(sys.argv[1]), *sys.argv[3:])
