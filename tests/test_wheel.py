"""What a built wheel holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources and unpacked where nothing else of ours is."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"
    ignored = shutil.ignore_patterns("*.egg-info", "__pycache__", ".*", "build", "dist", "tests")
    shutil.copytree(ROOT, source, ignore=ignored)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(work), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = work.glob("*.whl")
    target = work / "target"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    return target


def _run(installed: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-m", "trtllm_operator", *arguments],
        cwd=installed,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_renders(installed: Path) -> None:
    where = subprocess.run(
        [sys.executable, "-c", "import trtllm_operator; print(trtllm_operator.__file__)"],
        cwd=installed,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(installed)
    example = str(ROOT / "examples" / "01-llama-70b.yaml")
    assert "kind: Deployment" in _run(installed, "render", "-f", example, "--nodes", "2x8xNVIDIA-H100-80GB-HBM3")
    assert "kind: CustomResourceDefinition" in _run(installed, "crd")
    assert "Show each component" in _run(installed, "sandbox", "status", "--help")


def test_the_wheel_holds_every_data_file(installed: Path) -> None:
    package = ROOT / "operator" / "trtllm_operator"
    data = [path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert len(data) > 10
    for path in data:
        assert (installed / "trtllm_operator" / path.relative_to(package)).is_file(), path
