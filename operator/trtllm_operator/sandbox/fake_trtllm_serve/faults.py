"""Faults on demand, and what the real server prints for them."""

from __future__ import annotations

_MEMORY = """\
[TRT-LLM] [RANK 0] [E] Failed to initialize executor on rank 0: Executor creation failed due to insufficient GPU memory.

The following component could not be created: KV cache
Total GPU memory (GiB): 79.11
Free GPU memory before component creation attempt (GiB): 1.02

torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.11 GiB of \
which 1.02 GiB is free.
RuntimeError: Executor worker returned error"""

_SPAWN = """\
rank 0 using MpiPoolSession to spawn MPI processes
Exception in thread Thread-1 (_manager_spawn):
    comm = MPI.COMM_SELF.Spawn(python_exe, args, max_workers, info)
mpi4py.MPI.Exception: MPI_ERR_UNKNOWN: unknown error"""

SPAWN_FAILURE = "spawn-failure"
"""The server cannot start its ranks."""

AT_LOAD = {
    "out-of-memory": _MEMORY,
    "unknown-architecture": "ValueError: Unknown architecture for AutoModelForCausalLM: UnknownForCausalLM",
    SPAWN_FAILURE: _SPAWN,
}
"""Faults after which the server ends while it loads, with exit code 1."""

CRASH = "crash"
"""The server ends with exit code 1 while it serves."""

DEAD_ENGINE = "dead-engine"
"""The engine dies and the server stays: its health check fails, or on older releases does not notice."""

NAMES = frozenset({*AT_LOAD, CRASH, DEAD_ENGINE})
