"""What the charts render, by real Helm: ten sets of values, and thirty that are refused."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart_values import VALUES
from helm import LLM_DEPLOYMENT_CHART, OPERATOR_CHART, Helm, Manifest
from support import Golden
from trtllm_operator.cli import run
from trtllm_operator.install import manifests
from trtllm_operator.rbac import leader_rules, namespaced_rules, node_rules, rules

pytestmark = pytest.mark.component  # needs Helm, which the sandbox builds


def _render(helm: Helm, values: dict[str, Any]) -> list[Manifest]:
    return helm.template(OPERATOR_CHART, "trtllm-operator", "--skip-schema-validation", values=values)


def _one(rendered: Sequence[Manifest], kind: str) -> Manifest:
    (found,) = [manifest for manifest in rendered if manifest["kind"] == kind]
    return found


@pytest.mark.parametrize("name", VALUES)
def test_rendered_manifests(helm: Helm, golden: Golden, name: str) -> None:
    rendered = _render(helm, VALUES[name])
    for manifest in rendered:
        if manifest["kind"] == "CustomResourceDefinition":
            manifest["spec"] = "as in crds/llmdeployments.yaml"
        if manifest.get("rules") in (namespaced_rules(), node_rules(), leader_rules(), rules()):
            manifest["rules"] = "as in rbac.py"
    golden.check(f"chart/{name}.yaml", yaml.safe_dump_all(rendered, sort_keys=False))


@pytest.mark.parametrize("chart", [OPERATOR_CHART, LLM_DEPLOYMENT_CHART], ids=lambda chart: chart.name)
def test_lint(helm: Helm, chart: Path) -> None:
    files = sorted((chart / "ci").glob("*-values.yaml"))
    assert files
    for file in files:
        assert "0 chart(s) failed" in helm("lint", "--strict", str(chart), f"--values={file}")


@pytest.mark.parametrize("chart", [OPERATOR_CHART, LLM_DEPLOYMENT_CHART], ids=lambda chart: chart.name)
def test_package(helm: Helm, chart: Path, tmp_path: Path) -> None:
    helm("package", str(chart), f"--destination={tmp_path}")
    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        names = {name.removeprefix(f"{chart.name}/") for name in archive.getnames()}
    assert {"Chart.yaml", "values.yaml", "values.schema.json", "README.md", "templates/NOTES.txt"} <= names
    assert not [name for name in names if name.startswith("ci/")]


def test_default_installation_has_the_identity_of_the_sandbox_s_operator(helm: Helm) -> None:
    """Namespace aside: that is the installer's."""
    rendered = {(m["kind"], m["metadata"]["name"]): m for m in _render(helm, {})}
    for manifest in manifests("operators")[1:]:
        found = rendered[(manifest["kind"], manifest["metadata"]["name"])]
        if manifest["kind"] == "CustomResourceDefinition":
            assert found["spec"] == manifest["spec"]
        if manifest["kind"] == "ClusterRoleBinding":
            assert found["subjects"] == manifest["subjects"]


@pytest.mark.parametrize(
    ("values", "cluster_rules", "role_rules"),
    [
        pytest.param({}, rules(), [], id="cluster-wide"),
        pytest.param({"rbac": {"readNodes": False}}, namespaced_rules(), [], id="cluster-wide-without-nodes"),
        pytest.param(VALUES["namespaced"], node_rules(), namespaced_rules(), id="namespaced"),
        pytest.param(VALUES["without-cluster-rights"], [], namespaced_rules(), id="without-cluster-rights"),
    ],
)
def test_rights(
    helm: Helm, values: dict[str, Any], cluster_rules: list[dict[str, Any]], role_rules: list[dict[str, Any]]
) -> None:
    rendered = _render(helm, {**values, "rbac": {**values.get("rbac", {}), "aggregate": False}})
    found: dict[str, list[dict[str, Any]]] = {"ClusterRole": [], "Role": [], "trtllm-operator-leader": []}
    for manifest in rendered:
        if manifest["kind"] in ("ClusterRole", "Role"):
            name = manifest["metadata"]["name"]
            found[name if name in found else manifest["kind"]] += manifest["rules"]
    assert found == {"ClusterRole": cluster_rules, "Role": role_rules, "trtllm-operator-leader": leader_rules()}


def test_without_cluster_rights_every_object_is_in_a_namespace(helm: Helm) -> None:
    rendered = _render(helm, VALUES["without-cluster-rights"])
    assert {manifest["metadata"].get("namespace") for manifest in rendered} == {"operators", "team-a"}


@pytest.mark.parametrize("name", VALUES)
def test_every_flag_is_one_of_the_operator_s(helm: Helm, name: str) -> None:
    (container,) = _one(_render(helm, VALUES[name]), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["args"][0] == "run"
    known = {option for parameter in run.params for option in (*parameter.opts, *parameter.secondary_opts)}
    flags = {argument.partition("=")[0] for argument in container["args"][1:]}
    assert flags <= known


def test_large_numbers_survive_the_llm_deployment_chart(helm: Helm) -> None:
    file = LLM_DEPLOYMENT_CHART / "ci" / "every-field-values.yaml"
    values = yaml.safe_load(file.read_text())
    (rendered,) = helm.template(LLM_DEPLOYMENT_CHART, "llama", values={**values, "global": {"of": "a parent chart"}})
    assert rendered["spec"] == values


WRONG: list[Any] = [
    pytest.param({"replica": 1}, "'replica' not allowed", id="unknown-value"),
    pytest.param({"image": {"repo": "x"}}, "'/image': additional properties 'repo' not allowed", id="unknown-nested"),
    pytest.param({"image": {"repository": ""}}, "'/image/repository'", id="empty-repository"),
    pytest.param({"image": {"repository": "a b"}}, "'/image/repository'", id="repository-with-space"),
    pytest.param({"image": {"tag": 1.0}}, "'/image/tag': got number, want string", id="tag-as-number"),
    pytest.param({"image": {"tag": "latest:1"}}, "'/image/tag'", id="tag-with-colon"),
    pytest.param({"image": {"digest": "sha256:abc"}}, "'/image/digest'", id="short-digest"),
    pytest.param({"image": {"pullPolicy": "always"}}, "'/image/pullPolicy': value must be one of", id="pull-policy"),
    pytest.param({"imagePullSecrets": [{"name": "x"}]}, "got object, want string", id="pull-secret-as-object"),
    pytest.param({"imagePullSecrets": "x"}, "got string, want array", id="pull-secrets-as-string"),
    pytest.param({"crds": {"enabled": "true"}}, "'/crds/enabled': got string, want boolean", id="quoted-boolean"),
    pytest.param({"crds": {"install": True}}, "'install' not allowed", id="unknown-crds"),
    pytest.param({"crds": None, "installCRDs": True}, "'installCRDs' not allowed", id="cert-manager-s-old-name"),
    pytest.param({"replicas": -1}, "'/replicas': minimum: got -1, want 0", id="negative-replicas"),
    pytest.param({"replicas": 1.5}, "'/replicas'", id="fractional-replicas"),
    pytest.param({"replicas": "1"}, "'/replicas': got string, want integer", id="quoted-replicas"),
    pytest.param({"watchNamespaces": "a"}, "'/watchNamespaces': got string, want array", id="namespaces-as-string"),
    pytest.param({"watchNamespaces": ["A"]}, "'/watchNamespaces/0'", id="upper-case-namespace"),
    pytest.param(
        {"watchNamespaces": [f"n{i}" for i in range(65)]}, "'/watchNamespaces': maxItems", id="many-namespaces"
    ),
    pytest.param({"logFormat": "xml"}, "'/logFormat': value must be one of", id="log-format"),
    pytest.param({"watchNamespaces": ["a", "a"]}, "'/watchNamespaces'", id="namespace-twice"),
    pytest.param({"rbac": {"clusterScoped": True}}, "'clusterScoped' not allowed", id="unknown-rbac"),
    pytest.param({"rbac": {"readNodes": "no"}}, "'/rbac/readNodes'", id="read-nodes-as-string"),
    pytest.param({"serviceAccount": {"name": "Ops"}}, "'/serviceAccount/name'", id="upper-case-account"),
    pytest.param({"serviceAccount": {"annotations": {"a": 1}}}, "'/serviceAccount/annotations/a'", id="number"),
    pytest.param({"env": [{"value": "x"}]}, "missing property 'name'", id="env-without-name"),
    pytest.param({"env": [{"name": "A=B"}]}, "'/env/0/name'", id="env-name"),
    pytest.param({"env": {"A": "B"}}, "'/env': got object, want array", id="env-as-map"),
    pytest.param({"resources": {"limits": {"memory": "512MB"}}}, "'/resources/limits/memory'", id="bad-unit"),
    pytest.param({"resources": {"limits": {"nvidia.com/gpu": 1}}}, "'nvidia.com/gpu' not allowed", id="gpu"),
    pytest.param({"runAsUser": 0}, "'/runAsUser': minimum: got 0, want 1", id="root"),
    pytest.param({"podLabels": {"team": True}}, "'/podLabels/team': got boolean, want string", id="boolean-label"),
    pytest.param({"nodeSelector": ["a=b"]}, "'/nodeSelector': got array, want object", id="selector-as-list"),
    pytest.param({"tolerations": [{"operator": "exists"}]}, "'/tolerations/0/operator'", id="toleration-operator"),
    pytest.param({"tolerations": [{"effects": "NoSchedule"}]}, "'effects' not allowed", id="unknown-toleration"),
    pytest.param({"metrics": {"port": 70000}}, "'/metrics/port': maximum", id="port"),
    pytest.param({"metrics": {"podMonitor": {"interval": "30"}}}, "'/metrics/podMonitor/interval'", id="interval"),
    pytest.param({"networkPolicy": {"apiServerPorts": []}}, "'/networkPolicy/apiServerPorts'", id="no-port"),
    pytest.param({"fullnameOverride": "UPPER"}, "'/fullnameOverride'", id="upper-case-name"),
    pytest.param({"fullnameOverride": "a" * 53}, "'/fullnameOverride': maxLength: got 53, want 52", id="long-name"),
]


@pytest.mark.parametrize(("values", "complaint"), WRONG)
def test_wrong_values_are_refused(helm: Helm, values: dict[str, Any], complaint: str) -> None:
    assert complaint in helm("template", "x", str(OPERATOR_CHART), values=values, fails=True)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        pytest.param({}, "missing property 'model'", id="nothing"),
        pytest.param({"model": {}}, "'/model': missing property 'uri'", id="no-uri"),
        pytest.param({"model": {"uri": "hf://a/b", "url": "x"}}, "'url' not allowed", id="unknown"),
        pytest.param({"model": {"uri": "hf://a/b"}, "gpus": {"count": 0}}, "'/gpus/count': minimum", id="no-gpu"),
        pytest.param({"model": {"uri": "hf://a/b"}, "gpus": 4}, "'/gpus': got number, want object", id="gpus-number"),
        pytest.param({"model": {"uri": "hf://a/b"}, "dtype": "fp16"}, "'/dtype': value must be one of", id="dtype"),
        pytest.param({"spec": {"model": {"uri": "hf://a/b"}}}, "'spec' not allowed", id="spec-as-a-value"),
    ],
)
def test_wrong_specs_are_refused(helm: Helm, values: dict[str, Any], complaint: str) -> None:
    assert complaint in helm("template", "x", str(LLM_DEPLOYMENT_CHART), values=values, fails=True)
