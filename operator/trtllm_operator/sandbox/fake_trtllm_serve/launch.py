"""A stand-in for trtllm-llmapi-launch: started once for each rank by an MPI launcher, it serves on rank 0 only.

The other ranks wait for work and end when they are told to; the launcher ends them when rank 0 ends, as mpirun does.
The rank and the number of ranks come from ``OMPI_COMM_WORLD_RANK`` and ``OMPI_COMM_WORLD_SIZE``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from trtllm_operator.sandbox.fake_trtllm_serve.__main__ import main as serve


def main(arguments: Sequence[str]) -> None:
    """Serve on rank 0, wait on every other. Raises KeyError without an MPI launcher."""
    rank, size = os.environ["OMPI_COMM_WORLD_RANK"], os.environ["OMPI_COMM_WORLD_SIZE"]
    if rank != "0":
        signal.pause()
    program, *rest = arguments
    if program != "trtllm-serve":
        raise SystemExit(f"{program}: only trtllm-serve has a stand-in")
    os.environ["FAKE_TRTLLM_RANKS"] = size
    serve(rest)


if __name__ == "__main__":
    main(sys.argv[1:])
