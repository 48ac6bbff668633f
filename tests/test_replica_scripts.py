"""The scripts of a replica of several pods, run with local processes in the place of pods.

mpirun, ssh, sshd and getent are those of ``stand_ins``: they obey what the scripts write and pass, and refuse a key
that differs; the ranks are the strict stand-in server's. What ssh and Open MPI themselves do is not shown here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builders import a_plan, a_spec
from serving import DEADLINE_SECONDS, Server, local_arguments, wait_for
from trtllm_operator import engine
from trtllm_operator.engine_versions import find_release
from trtllm_operator.pod import PodContext, launch_scripts, serving_pod
from trtllm_operator.replica import replica_pods
from trtllm_operator.settings import Settings
from trtllm_operator.ssh_key import private_key

STAND_INS = Path(__file__).parent / "stand_ins"
LLAMA_405B = "hf://meta-llama/Llama-3.1-405B-Instruct"
LEADER, WORKER = "llama-0.llama-0.team-a", "llama-0-1.llama-0.team-a"
TOKEN = 'it\'s "quoted"\n$(touch /tmp/x) $HOME'


class Replica:
    """Two pods in one folder, from what is rendered for a plan of two nodes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        spec = a_spec(LLAMA_405B, dtype="bfloat16", gpus={"count": 16})
        self.plan = a_plan(spec)
        self.command = engine.command("llama", spec, self.plan, find_release(Settings().image_tag))
        alone = serving_pod("llama", spec, self.plan, self.command, Settings())
        self.leader, self.worker = replica_pods(alone, self.plan, spec, "key")
        (folder / "scripts").mkdir()
        for name, text in launch_scripts().items():
            (folder / "scripts" / name).write_text(text)
        (folder / "key").write_text(private_key())

    def environment(self, pod: PodContext, host: str, **more: str) -> dict[str, str]:
        run = self.folder / "pods" / host
        run.mkdir(parents=True)
        return {
            "PATH": os.pathsep.join([str(STAND_INS), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.environ.get("PYTHONPATH", str(Path(__file__).parent.parent / "operator")),
            "STAND_IN_PODS": str(run.parent),
            **{variable.name: variable.value for variable in pod.environment},
            "LWS_LEADER_ADDRESS": LEADER,
            "LWS_GROUP_SIZE": str(self.plan.nodes),
            "REPLICA_KEY_FILE": str(self.folder / "key"),
            "REPLICA_RUN_DIRECTORY": str(run),
            "FAKE_TRTLLM_GPUS": str(self.plan.gpus_per_pod),
            "HF_TOKEN": TOKEN,
            **more,
        }

    @contextlib.contextmanager
    def start(self, pod: PodContext, host: str, arguments: tuple[str, ...], **more: str) -> Iterator[Server]:
        script = self.folder / "scripts" / Path(pod.command[1]).name
        log = self.folder / f"{host}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [pod.command[0], str(script), *arguments],
                env=self.environment(pod, host, **more),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield Server(process, log)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def serve(self) -> tuple[str, ...]:
        """The leader's arguments, on a free port and with the rendered file where this computer may have it."""
        launcher, program, *_ = self.leader.args
        return (launcher, program, *local_arguments(self.command, self.folder))


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    return Replica(tmp_path)


def _chat(server: Server) -> dict[str, Any]:
    body = {"model": "meta-llama/Llama-3.1-405B-Instruct", "messages": [{"role": "user", "content": "hello"}]}
    with server.posting("/v1/chat/completions", body) as answer:
        assert answer.status == 200
        return dict(json.loads(answer.read()))


def _children(server: Server) -> list[str]:
    """The programs a process has started and that still run. Raises FileNotFoundError when it has ended."""
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{child}/comm").read_text().strip() for child in children]


def test_two_pods_serve_together_and_the_worker_stays_until_the_leader_has_ended(replica: Replica) -> None:
    with (
        replica.start(replica.leader, LEADER, replica.serve()) as leader,
        replica.start(replica.worker, WORKER, ()) as worker,
    ):
        assert leader.get("/health")[0] == 200
        assert _chat(leader)["choices"][0]["message"]["content"]
        worker.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "flock" in _children(worker))
        assert leader.get("/health")[0] == 200
        leader.process.send_signal(signal.SIGTERM)
        leader.process.wait(timeout=DEADLINE_SECONDS)
        assert worker.process.wait(timeout=DEADLINE_SECONDS) == 128 + signal.SIGTERM


def test_every_rank_has_the_environment_of_its_own_pod(replica: Replica) -> None:
    told = replica.folder / "told"
    told.mkdir()
    script = 'printf "%s" "$STAND_IN_POD$HF_TOKEN" >"$0/$OMPI_COMM_WORLD_RANK"; exec sleep infinity'
    arguments = ("bash", "-c", script, str(told))
    with (
        replica.start(replica.worker, WORKER, (), STAND_IN_POD="worker"),
        replica.start(replica.leader, LEADER, arguments, STAND_IN_POD="leader"),
    ):
        expected = {str(rank): ("leader" if rank < 8 else "worker") + TOKEN for rank in range(16)}
        wait_for(lambda: {file.name: file.read_text() for file in told.iterdir()} == expected)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        pytest.param(None, "its name does not resolve", id="no-worker"),
        pytest.param("another", "Permission denied", id="another-key"),
    ],
)
def test_a_worker_that_does_not_join_is_named(replica: Replica, key: str | None, told: str) -> None:
    with contextlib.ExitStack() as stack:
        if key is not None:
            other = replica.folder / key
            other.write_text(private_key())
            stack.enter_context(replica.start(replica.worker, WORKER, (), REPLICA_KEY_FILE=str(other)))
            wait_for((replica.folder / "pods" / WORKER / "listening").exists)
        leader = stack.enter_context(replica.start(replica.leader, LEADER, ("true",), REPLICA_JOIN_SECONDS="0"))
        assert leader.process.wait(timeout=DEADLINE_SECONDS) == 1
        assert f"{WORKER} did not join within 0 seconds: " in leader.output
        assert told in leader.output
