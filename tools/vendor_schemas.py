"""Copy the pinned CRDs out of their Go modules, and the OpenAPI of a sandbox's API server: ``make vendor``.

Needs Go and a network that reaches the Go modules. A module whose checksum is not the pinned one is refused.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from trtllm_operator.sandbox import Sandbox
from trtllm_operator.sandbox.binaries import resolve

_ROOT = Path(__file__).parents[1]
_CRDS = _ROOT / "operator" / "trtllm_operator" / "sandbox" / "crds"
_FLUX = _ROOT / "tests" / "data" / "flux"
_OPENAPI = _ROOT / "tests" / "data" / "kubernetes-openapi.json.xz"
_GROUP_VERSIONS = (
    "api/v1",
    "apis/admissionregistration.k8s.io/v1",
    "apis/apiextensions.k8s.io/v1",
    "apis/apps/v1",
    "apis/autoscaling/v2",
    "apis/batch/v1",
    "apis/coordination.k8s.io/v1",
    "apis/networking.k8s.io/v1",
    "apis/policy/v1",
    "apis/rbac.authorization.k8s.io/v1",
    "apis/resource.k8s.io/v1",
    "apis/scheduling.k8s.io/v1",
)
_CONTROLLER_KINDS = (
    "Namespace",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
)
_METRICS_RIGHTS = ("lws-metrics-", "lws-proxy-")


def main() -> None:
    """Rewrite everything that is copied, and the digests beside the pins."""
    modules = _copy_crds(_CRDS)
    (_CRDS / "lws-controller.yaml").write_text(_controller_manifests(modules["lws"]), encoding="utf-8")
    _copy_crds(_FLUX)
    _write_compressed(_OPENAPI, json.dumps(_kubernetes_schemas(), sort_keys=True).encode())


def _copy_crds(directory: Path) -> dict[str, Path]:
    """Copy what a directory's pins name into it; return where the module of each pin is."""
    path = directory / "pins.json"
    pins: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    modules = {name: _download(pin["module"], pin["version"], pin["sum"]) for name, pin in pins.items()}
    for name, pin in pins.items():
        content = b"".join(_document(modules[name] / pin["directory"] / file) for file in pin["files"])
        pin["sha256"] = hashlib.sha256(content).hexdigest()
        _write_compressed(directory / f"{name}.yaml.xz", content)
    path.write_text(json.dumps(pins, indent=2) + "\n", encoding="utf-8")
    return modules


def _download(module: str, version: str, checksum: str) -> Path:
    with tempfile.TemporaryDirectory() as elsewhere:  # `go mod download` heeds a go.mod around it
        answer = subprocess.run(
            ["go", "mod", "download", "-json", f"{module}@{version}"],  # noqa: S607
            cwd=elsewhere,
            capture_output=True,
            check=True,
        )
    found = json.loads(answer.stdout)
    if found["Sum"] != checksum:
        raise SystemExit(f"{module} {version} has the checksum {found['Sum']}, not the pinned {checksum}")
    return Path(found["Dir"])


def _write_compressed(path: Path, content: bytes) -> None:
    path.write_bytes(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))


def _document(path: Path) -> bytes:
    """Return a file so that another can follow it: some projects leave out the mark of a document's start."""
    content, mark = path.read_bytes(), b"---\n"
    return content if content.startswith(mark) else mark + content


def _controller_manifests(module: Path) -> str:
    """Return what upstream's own kustomization installs, without what only a pod needs."""
    answer = subprocess.run(
        [resolve()["kubectl"], "kustomize", str(module / "config" / "default")],
        capture_output=True,
        check=True,
    )
    wanted = [
        manifest
        for manifest in yaml.safe_load_all(answer.stdout)
        if manifest["kind"] in _CONTROLLER_KINDS and not manifest["metadata"]["name"].startswith(_METRICS_RIGHTS)
    ]
    return yaml.safe_dump_all(wanted, sort_keys=False)


def _kubernetes_schemas() -> dict[str, Any]:
    """Return the schemas of the stable groups as the API server serves them, but for their descriptions.

    The file of the same name in the module of Kubernetes lacks the enumerations.
    """
    schemas: dict[str, Any] = {}
    with Sandbox.start() as sandbox:
        for path in _GROUP_VERSIONS:
            answer = subprocess.run(
                [
                    sandbox.binary("kubectl"),
                    f"--kubeconfig={sandbox.kubeconfig}",
                    "get",
                    "--raw",
                    f"/openapi/v3/{path}",
                ],
                capture_output=True,
                check=True,
            )
            schemas |= json.loads(answer.stdout)["components"]["schemas"]
    return {name: _without_descriptions(schema) for name, schema in schemas.items()}


def _without_descriptions(schema: Any) -> Any:
    """Return a schema without its prose; a property that is named ``description`` stays."""
    if isinstance(schema, list):
        return [_without_descriptions(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_descriptions(value)
        for key, value in schema.items()
        if not (key == "description" and isinstance(value, str))
    }


if __name__ == "__main__":
    main()
