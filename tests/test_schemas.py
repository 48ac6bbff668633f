"""Everything we render has only fields its API knows; and the check that says so agrees with the API server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane import Kubectl
from schemas import pinned_schemas, problems, strict
from support import GOLDEN, inputs
from trtllm_operator.sandbox import Sandbox

GOLDENS = sorted(path for path in GOLDEN.rglob("*.yaml") if path.parent.name != "chart")


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_every_golden_fits_its_schema(path: Path) -> None:
    assert problems(yaml.safe_load(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("example", inputs())
def test_every_example_fits_its_schema(example: dict[str, Any]) -> None:
    assert problems(example) == []


def a_deployment(container: dict[str, Any], **pod: Any) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [{"name": "x", "image": "x", **container}], **pod},
    }
    return an_object("apps/v1", "Deployment", selector={"matchLabels": {"app": "x"}}, template=template)


def a_leader_worker_set(**template: Any) -> dict[str, Any]:
    worker = {"spec": {"containers": [{"name": "x", "image": "x"}]}}
    return an_object(
        "leaderworkerset.x-k8s.io/v1",
        "LeaderWorkerSet",
        leaderWorkerTemplate={"size": 2, "workerTemplate": worker, **template},
    )


def an_object(api_version: str, kind: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, "spec": spec}


GOOD = [
    pytest.param(a_deployment({"resources": {"limits": {"nvidia.com/gpu": 8, "memory": "1Gi"}}}), id="quantities"),
    pytest.param(a_deployment({"livenessProbe": {"httpGet": {"port": "http"}}}), id="port-by-name"),
    pytest.param(a_deployment({"livenessProbe": {"httpGet": {"port": 8000}}}), id="port-by-number"),
    pytest.param(a_deployment({}, nodeSelector={"anything": "goes"}), id="map"),
    pytest.param(a_leader_worker_set(restartPolicy="RecreateGroupOnPodRestart"), id="leader-worker-set"),
]
BAD = [
    pytest.param(a_deployment({"startupProbe": {"timeout": 2}}), "'timeout' was unexpected", id="probe-timeout"),
    pytest.param(a_deployment({"env": [{"name": "A", "vlaue": "B"}]}), "'vlaue' was unexpected", id="field-of-an-item"),
    pytest.param(a_deployment({"resources": {"limit": {}}}), "'limit' was unexpected", id="resources-limit"),
    pytest.param(a_deployment({"command": "trtllm-serve"}), "is not of type 'array'", id="type"),
    pytest.param(a_deployment({}, restartPolicy="Sometimes"), "is not one of", id="enumeration"),
    pytest.param(a_deployment({}, hostNetwork="true"), "is not of type 'boolean'", id="string-for-boolean"),
    pytest.param({**a_deployment({}), "metadata": {"name": "x", "label": {}}}, "'label' was unexpected", id="metadata"),
    pytest.param(an_object("apps/v1", "Deployment", template={}), "'selector' is a required property", id="required"),
    pytest.param(a_leader_worker_set(restartPolicy="Always"), "is not one of", id="custom-enumeration"),
    pytest.param(
        a_leader_worker_set(leaderTemplate={"spec": {"containers": [], "hostname_": "x"}}),
        "'hostname_' was unexpected",
        id="custom-pod-template",
    ),
    pytest.param(
        an_object("gateway.networking.k8s.io/v1", "HTTPRoute", rules=[{"backendRefs": [{"name": "x", "prt": 1}]}]),
        "'prt' was unexpected",
        id="custom-field-of-an-item",
    ),
    pytest.param(
        {**a_leader_worker_set(), "sepc": {}},
        "'sepc' was unexpected",
        id="custom-top-level",
    ),
]


@pytest.mark.parametrize("manifest", GOOD)
def test_good_manifests_have_no_problem(manifest: dict[str, Any]) -> None:
    assert problems(manifest) == []


@pytest.mark.parametrize(("manifest", "problem"), BAD)
def test_bad_manifests_have_one_problem(manifest: dict[str, Any], problem: str) -> None:
    assert [problem in line for line in problems(manifest)] == [True]


def test_a_kind_without_a_schema_is_an_error() -> None:
    with pytest.raises(KeyError, match="VirtualService"):
        problems(an_object("networking.istio.io/v1", "VirtualService"))


@pytest.fixture(scope="module")
def kubectl(sandbox: Sandbox) -> Kubectl:
    return Kubectl(sandbox, sandbox.kubeconfig)


STRICT_DRY_RUN = ("create", "--dry-run=server", "--validate=strict", "--filename=-")


@pytest.mark.component
@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_the_api_server_accepts_every_golden(kubectl: Kubectl, path: Path) -> None:
    kubectl(*STRICT_DRY_RUN, stdin=yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.component
@pytest.mark.parametrize("manifest", GOOD)
def test_the_api_server_accepts_what_has_no_problem(kubectl: Kubectl, manifest: dict[str, Any]) -> None:
    kubectl(*STRICT_DRY_RUN, stdin=manifest)


@pytest.mark.component
@pytest.mark.parametrize(("manifest", "_"), BAD)
def test_the_api_server_refuses_what_has_one(kubectl: Kubectl, manifest: dict[str, Any], _: str) -> None:
    kubectl(*STRICT_DRY_RUN, stdin=manifest, code=1)


@pytest.mark.component
@pytest.mark.parametrize("group_version", ["api/v1", "apis/apps/v1", "apis/autoscaling/v2", "apis/policy/v1"])
def test_the_api_server_serves_the_pinned_schemas(kubectl: Kubectl, group_version: str) -> None:
    served = json.loads(kubectl("get", "--raw", f"/openapi/v3/{group_version}"))["components"]["schemas"]
    for name, schema in served.items():
        assert strict(schema) == strict(pinned_schemas()[name]), name
