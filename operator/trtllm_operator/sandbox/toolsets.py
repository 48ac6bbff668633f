"""The pinned sources of every binary: versions, modules, packages, build flags."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib import resources

KUBERNETES_VERSION = "1.36.3"
ETCD_VERSION = "3.6.16"
KWOK_VERSION = "0.8.0"
HELM_VERSION = "4.3.1"
LWS_VERSION = "0.9.0"
KUSTOMIZE_CONTROLLER_VERSION = "1.9.5"
HELM_CONTROLLER_VERSION = "1.6.1"

LWS_CONTROLLER = "lws-controller-manager"

_EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSet:
    """Tools built together from one module."""

    name: str
    version: str
    pinned: bool
    packages: tuple[str, ...]
    module_packages: tuple[str, ...]
    ldflags: str

    def package(self, tool: str) -> str:
        """Return the Go package a tool is built from."""
        return self.module_packages[self.packages.index(tool)]

    def flags(self) -> tuple[str, ...]:
        """Return the flags of ``go build``."""
        modules = "-mod=readonly" if self.pinned else "-mod=mod"
        return ("-trimpath", "-buildvcs=false", modules, "-ldflags", self.ldflags)

    def go_mod(self) -> str:
        """Return the packaged go.mod."""
        return _source(self.name, "go.mod")

    def go_sum(self) -> str:
        """Return the packaged go.sum."""
        return _source(self.name, "go.sum")

    def stamp(self) -> str:
        """Return what names a build: it changes whenever the binaries could."""
        return stamp(self.go_mod(), self.go_sum(), self.version, self.flags())

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def stamp(go_mod: str, go_sum: str, version: str, flags: tuple[str, ...]) -> str:
    """Return the digest of everything that decides what a build yields."""
    digest = hashlib.sha256()
    for part in (go_mod, go_sum, version, *flags):
        digest.update(part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def tool_sets(kubernetes_version: str) -> Iterator[ToolSet]:
    """Yield the three tool sets for this version of Kubernetes."""
    names = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
    yield ToolSet(
        name="kubernetes",
        version=kubernetes_version,
        pinned=kubernetes_version == KUBERNETES_VERSION,
        packages=names,
        module_packages=tuple(f"k8s.io/kubernetes/cmd/{name}" for name in names),
        ldflags=_kubernetes_ldflags(kubernetes_version),
    )
    yield ToolSet(
        name="etcd",
        version=ETCD_VERSION,
        pinned=True,
        packages=("etcd",),
        module_packages=("go.etcd.io/etcd/server/v3",),
        ldflags="-s -w",
    )
    yield ToolSet(
        name="kwok",
        version=KWOK_VERSION,
        pinned=True,
        packages=("kwok",),
        module_packages=("sigs.k8s.io/kwok/cmd/kwok",),
        ldflags=f"-s -w -X sigs.k8s.io/kwok/pkg/consts.Version=v{KWOK_VERSION}",
    )


def addon_tool_sets(addons: Collection[str]) -> Iterator[ToolSet]:
    """Yield the tool sets of those add-ons that run a controller."""
    if "lws" in addons:
        yield ToolSet(
            name="lws",
            version=LWS_VERSION,
            pinned=True,
            packages=(LWS_CONTROLLER,),
            module_packages=("sigs.k8s.io/lws/cmd",),
            ldflags=f"-s -w -X sigs.k8s.io/lws/pkg/version.GitVersion=v{LWS_VERSION}",
        )


def helm() -> ToolSet:
    """Return Helm, which no control plane needs: built only when somebody asks for it."""
    return ToolSet(
        name="helm",
        version=HELM_VERSION,
        pinned=True,
        packages=("helm",),
        module_packages=("helm.sh/helm/v4/cmd/helm",),
        ldflags=f"-s -w -X helm.sh/helm/v4/internal/version.version=v{HELM_VERSION}",
    )


def flux() -> ToolSet:
    """Return two of Flux's controllers, which only ``make gitops`` runs; their Go modules pin one set of libraries."""
    names = ("kustomize-controller", "helm-controller")
    return ToolSet(
        name="flux",
        version=KUSTOMIZE_CONTROLLER_VERSION,
        pinned=True,
        packages=names,
        module_packages=tuple(f"github.com/fluxcd/{name}" for name in names),
        ldflags="-s -w",
    )


def _kubernetes_ldflags(version: str) -> str:
    major, minor, _ = version.split(".")
    # A build from a module knows no release: without these, every component reports v0.0.0 and the version
    # skew checks of kubectl and of the feature gates go wrong.
    values = {
        "gitVersion": f"v{version}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "archive",
        "gitCommit": "unknown",
        "buildDate": _EPOCH,
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    settings = [f"-X {package}.{key}={value}" for package in packages for key, value in values.items()]
    return " ".join(["-s -w", *settings])


def _source(tool_set: str, file: str) -> str:
    path = resources.files("trtllm_operator.sandbox").joinpath("go", tool_set, file)
    return path.read_text(encoding="utf-8")
