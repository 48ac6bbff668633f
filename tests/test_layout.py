"""The layout that other things rely on."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from support import ROOT


def test_operator_is_a_source_root() -> None:
    assert not list((ROOT / "operator").glob("*.py")), "a module here would shadow the standard library's operator"


def test_import_operator_is_the_standard_library_everywhere() -> None:
    for folder in (ROOT, ROOT / "operator", ROOT / "tests"):
        code = "import operator, sys; print(operator.__file__); sys.exit(not hasattr(operator, 'itemgetter'))"
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
        assert Path(done.stdout.strip()).name == "operator.py"
        assert ROOT not in Path(done.stdout.strip()).parents or ".venv" in done.stdout


def test_newest_changelog_heading_is_unreleased_or_the_version() -> None:
    from trtllm_operator import __version__

    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## [")]
    assert headings[0] == "## [Unreleased]" or headings[0].startswith(f"## [{__version__}]")


def test_lock_files_name_no_address_and_pin_every_package_by_hash() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        for requirement in text.replace("\\\n", " ").splitlines():
            assert "==" in requirement, requirement
            assert "--hash=sha256:" in requirement, requirement


def test_runtime_lock_holds_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = (ROOT / "requirements.txt").read_text()
    for dependency in project["dependencies"]:
        name = dependency.split(">=")[0]
        assert f"\n{name}==" in f"\n{locked}"
