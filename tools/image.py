"""Makes the root file system that the Dockerfile describes, without a container engine.

The Dockerfile is the only list of files and steps: its COPY and RUN lines are read and carried out. The base image is
stood in for by this machine's Python and the shared libraries it needs; there is no shell in it and no writable place.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent

_APP = "/app"
_UNUSED = ("test", "site-packages", "ensurepip", "idlelib", "tkinter", "turtledemo", "lib2to3", "__pycache__")
_STAND_INS = {"pip": (sys.executable, "-m", "pip"), "python": (sys.executable,)}
"""This machine's programs in place of the base image's."""

_LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What the Dockerfile says: the steps of the build stage, and how the last stage starts."""

    steps: tuple[tuple[str, str], ...]
    environment: Mapping[str, str]
    user: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The files and directories taken from the repository."""
        return tuple(argument.split()[0] for name, argument in self.steps if name == "COPY")


def read_image(text: str) -> Image:
    """Return what a Dockerfile of two stages says. Raises ValueError for an instruction that is not understood."""
    stages: list[list[tuple[str, str]]] = []
    for line in text.replace("\\\n", " ").splitlines():
        name, _, argument = line.strip().partition(" ")
        if name == "FROM":
            stages.append([])
        elif name and name not in ("#", "ARG"):
            stages[-1].append((name, argument.strip()))
    build, final = stages
    told = dict(final)
    unknown = {name for name, _ in build} - {"WORKDIR", "COPY", "RUN"}
    unknown |= set(told) - {"LABEL", "COPY", "ENV", "USER", "ENTRYPOINT", "CMD"}
    if unknown or told["COPY"] != f"--from=build {_APP} {_APP}":
        raise ValueError(f"not understood: {sorted(unknown) or told['COPY']}")
    return Image(
        steps=tuple(step for step in build if step[0] != "WORKDIR"),
        environment=dict(pair.split("=", 1) for pair in shlex.split(told["ENV"])),
        user=told["USER"],
        entrypoint=tuple(json.loads(told["ENTRYPOINT"])),
        command=tuple(json.loads(told["CMD"])),
    )


def make_root(image: Image, root: Path) -> None:
    """Fill an empty directory. Raises CalledProcessError when a step fails."""
    app = root / _APP.lstrip("/")
    for name, argument in image.steps:
        if name == "COPY":
            _copy(argument, app, root)
        else:
            program, *arguments = [word.replace(_APP, str(app)) for word in shlex.split(argument)]
            argv = [*_STAND_INS.get(program, (program,)), *arguments]
            subprocess.run(argv, cwd=root / "src", check=True, capture_output=True, text=True)
    shutil.rmtree(root / "src")
    _copy_python(root)
    _copy_libraries(root)


def _copy(argument: str, app: Path, root: Path) -> None:
    source, target = argument.split()
    (root / "src").mkdir(parents=True, exist_ok=True)
    if target == ".":
        shutil.copy(ROOT / source, root / "src")
    else:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / source, app / Path(target).relative_to(_APP), ignore=ignored)


def _copy_python(root: Path) -> None:
    library = Path(sysconfig.get_path("stdlib"))
    target = root / "usr" / "local" / "lib" / library.name
    shutil.copytree(library, target, symlinks=True, ignore=shutil.ignore_patterns(*_UNUSED, "config-*"))
    binary = root / "usr" / "local" / "bin" / "python"
    binary.parent.mkdir(parents=True)
    shutil.copy(Path(sys.executable).resolve(), binary)


def _copy_libraries(root: Path) -> None:
    """Copy every shared library that the interpreter and the extension modules load, to where they look for it."""
    binaries = [root / "usr" / "local" / "bin" / "python", *root.rglob("*.so")]
    for library in sorted(_libraries(binaries)):
        target = root / str(library).lstrip("/")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library.resolve(), target)


def _libraries(binaries: Iterable[Path]) -> Iterator[Path]:
    for binary in binaries:
        answer = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False)  # noqa: S607
        yield from (Path(found) for found in _LIBRARY.findall(answer.stdout))


def main() -> None:
    """Make the root file system in the directory given."""
    (target,) = sys.argv[1:]
    make_root(read_image((ROOT / "Dockerfile").read_text(encoding="utf-8")), Path(target))


if __name__ == "__main__":
    main()
