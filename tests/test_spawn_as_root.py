"""One pod starts its ranks on every release, as root and as another user, by what is rendered for it.

The server is the strict stand-in, mpirun that of ``stand_ins``; neither is MPI.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders import a_plan, a_spec
from serving import DEADLINE_SECONDS, Server, environment, run
from trtllm_operator.engine import CONFIG_DIRECTORY, CONFIG_FILE, PORT, EngineCommand, command
from trtllm_operator.engine_versions import find_release
from trtllm_operator.planned import Infeasible
from trtllm_operator.render import Manifest, Owner, render
from trtllm_operator.sandbox.fake_trtllm_serve.environment import Environment
from trtllm_operator.settings import Settings

STAND_INS = Path(__file__).parent / "stand_ins"
LLAMA_8B = "hf://meta-llama/Llama-3.1-8B-Instruct"
BEFORE, SINCE = "1.3.0rc26", "1.3.0rc27"


def _pod(tag: str, profile: str, gpus: int, folder: Path) -> Manifest:
    """Return the rendered pod, its file and its port moved to where this computer may have them."""
    spec = a_spec(LLAMA_8B, securityProfile=profile, gpus={"count": gpus}, engine={"image": {"tag": tag}})
    rendered = render(Owner(name="llama", namespace="team-a"), spec, a_plan(spec), Settings())
    assert not isinstance(rendered, Infeasible), rendered
    found = {manifest["kind"]: manifest for manifest in rendered}
    (folder / CONFIG_FILE).write_text(found["ConfigMap"]["data"][CONFIG_FILE])
    pod: Manifest = found["Deployment"]["spec"]["template"]["spec"]
    places = {str(PORT): "0", f"{CONFIG_DIRECTORY}/{CONFIG_FILE}": str(folder / CONFIG_FILE)}
    (container,) = pod["containers"]
    container["args"] = [places.get(argument, argument) for argument in container["args"]]
    return pod


@contextlib.contextmanager
def _started(pod: Manifest, folder: Path, tag: str) -> Iterator[Server]:
    (container,) = pod["containers"]
    user = pod["securityContext"].get("runAsUser", 0)
    path = os.pathsep.join([str(STAND_INS), str(Path(sys.executable).parent), os.environ["PATH"]])
    log = folder / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*container["command"], *container["args"]],
            env={**environment(VERSION=tag, UID=str(user)), "PATH": path},
            stdout=output,
            stderr=output,
        )
    try:
        yield Server(process, log)
    finally:
        process.terminate()
        process.wait(timeout=DEADLINE_SECONDS)


@pytest.mark.parametrize("gpus", [pytest.param(1, id="one-gpu"), pytest.param(4, id="four-gpus")])
@pytest.mark.parametrize("profile", ["Baseline", "Restricted"])
@pytest.mark.parametrize("tag", [BEFORE, SINCE, "1.4.0rc1"])
def test_one_pod_serves(tag: str, profile: str, gpus: int, tmp_path: Path) -> None:
    with _started(_pod(tag, profile, gpus, tmp_path), tmp_path, tag) as server:
        assert server.get("/health")[0] == 200


@pytest.mark.parametrize(
    ("tag", "profile", "gpus", "program"),
    [
        pytest.param(BEFORE, "Baseline", 4, "trtllm-serve", id="open-mpi-4"),
        pytest.param(SINCE, "Baseline", 4, "mpirun", id="open-mpi-5-as-root"),
        pytest.param(SINCE, "Restricted", 4, "trtllm-serve", id="open-mpi-5-as-another-user"),
        pytest.param(SINCE, "Baseline", 16, "trtllm-serve", id="several-pods-have-a-launcher-of-their-own"),
    ],
)
def test_mpirun_starts_the_server_only_where_it_must(tag: str, profile: str, gpus: int, program: str) -> None:
    spec = a_spec(securityProfile=profile, gpus={"count": gpus})
    made = command("llama", spec, a_plan(spec), find_release(tag))
    assert isinstance(made, EngineCommand)
    assert made.argv[0] == program
    assert any("mpirun" in warning for warning in made.warnings) == (program == "mpirun")


@pytest.mark.parametrize(
    ("tag", "variables", "fails"),
    [
        pytest.param(BEFORE, {}, False, id="open-mpi-4"),
        pytest.param(SINCE, {}, True, id="open-mpi-5"),
        pytest.param(SINCE, {"FAKE_TRTLLM_UID": "1000"}, False, id="open-mpi-5-as-another-user"),
        pytest.param(SINCE, {"OMPI_COMM_WORLD_SIZE": "1"}, False, id="open-mpi-5-below-mpirun"),
        pytest.param(SINCE, {"FAKE_TRTLLM_RANKS": "16"}, False, id="open-mpi-5-with-ranks-already-started"),
    ],
)
def test_the_stand_in_fails_where_the_real_server_does(tag: str, variables: dict[str, str], fails: bool) -> None:
    assert Environment.read({"FAKE_TRTLLM_VERSION": tag, **variables}).spawn_fails == fails


def test_a_failed_spawn_ends_the_server() -> None:
    ended = run(["org/model", "--port", "0"], VERSION=SINCE)
    assert ended.returncode == 1
    assert "MPI_ERR_UNKNOWN" in ended.stderr
