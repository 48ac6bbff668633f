"""Ranks started by a launcher: rank 0 serves, and the job ends when a rank ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from serving import DEADLINE_SECONDS, MODULE, Server, environment, wait_for

LAUNCH = [sys.executable, "-m", f"{MODULE}.launch", "trtllm-serve"]


@contextlib.contextmanager
def mpirun(arguments: Sequence[str], ranks: int, folder: Path, **fake: str) -> Iterator[list[Server]]:
    """Start every rank on this computer, as mpirun does over the pods of a replica."""
    servers = []
    try:
        for rank in range(ranks):
            mpi = {"OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_SIZE": str(ranks)}
            log = folder / f"rank-{rank}.log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [*LAUNCH, *arguments], env={**environment(**fake), **mpi}, stdout=output, stderr=output
                )
            servers.append(Server(process, log))
        yield servers
    finally:
        for server in servers:
            server.process.kill()
            server.process.wait()


def _options(folder: Path, **config: int) -> list[str]:
    path = folder / "engine.json"
    path.write_text(json.dumps(config))
    return ["org/model", "--host", "127.0.0.1", "--port", "0", "--extra_llm_api_options", str(path)]


def test_rank_0_serves_and_the_others_wait(tmp_path: Path) -> None:
    options = _options(tmp_path, tensor_parallel_size=2, pipeline_parallel_size=2, gpus_per_node=2)
    with mpirun(options, 4, tmp_path, GPUS="2") as (leader, *workers):
        assert leader.get("/health")[0] == 200
        assert [worker.process.poll() for worker in workers] == [None, None, None]
        leader.process.send_signal(signal.SIGTERM)
        assert leader.process.wait(timeout=DEADLINE_SECONDS) == -signal.SIGTERM
        for worker in workers:
            worker.process.send_signal(signal.SIGTERM)
            assert worker.process.wait(timeout=DEADLINE_SECONDS) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("ranks", "told"),
    [pytest.param(2, "but got 2 != 4 * 1 * 1", id="too-few"), pytest.param(5, "but got 5 != 4 * 1 * 1", id="too-many")],
)
def test_ranks_must_be_as_many_as_the_sizes_multiply_to(ranks: int, told: str, tmp_path: Path) -> None:
    options = _options(tmp_path, tensor_parallel_size=4, gpus_per_node=4)
    with mpirun(options, ranks, tmp_path) as (leader, *_):
        wait_for(lambda: leader.process.poll() is not None)
        assert leader.process.returncode == 1
        assert told in leader.output


def test_a_single_rank_under_mpirun_spawns_the_others_itself(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", MODULE, *_options(tmp_path, tensor_parallel_size=4), "--port", "0"],
        env={**environment(FAULT="crash"), "OMPI_COMM_WORLD_SIZE": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert "Uvicorn running" in done.stderr


def test_without_a_launcher_there_is_no_rank() -> None:
    done = subprocess.run(
        [*LAUNCH, "org/model"],
        env={name: value for name, value in os.environ.items() if not name.startswith("OMPI_")},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert "OMPI_COMM_WORLD_RANK" in done.stderr
