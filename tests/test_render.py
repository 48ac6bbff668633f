from __future__ import annotations

import dataclasses
import json
from typing import Any

import jinja2.nodes
import pytest
import yaml
from jinja2 import Environment, PackageLoader

from builders import H100, a_plan, a_spec
from support import GOLDEN, Golden, examples
from trtllm_operator import objects
from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.kinds import KINDS
from trtllm_operator.naming import DIGEST_ANNOTATION
from trtllm_operator.render import Manifest, Owner, parse, render
from trtllm_operator.settings import Settings

CONTEXTS = {
    "configmap": objects.ConfigMapContext,
    "service": objects.ServiceContext,
    "deployment": objects.DeploymentContext,
    "horizontalpodautoscaler": objects.AutoscalerContext,
}
HOSTILE = [
    'x"\nhostNetwork: true\nfoo: "',
    "no",
    "0x10",
    "2026-11-20",
    "a: b # c",
    "{{ 7*7 }}",
    "$(HF_TOKEN)",
    "\u0085\u2028",
    "-leading",
    "*anchor",
    "ünïcödé 🙂",
]


def _render(spec: LLMDeploymentSpec, uid: str = "") -> dict[str, Manifest]:
    owner = Owner(name="llama", namespace="team-a", uid=uid)
    return {manifest["kind"]: manifest for manifest in render(owner, spec, a_plan(spec), Settings())}


@pytest.mark.parametrize("example", examples())
def test_goldens(example: dict[str, Any], golden: Golden) -> None:
    spec = LLMDeploymentSpec.model_validate(example["spec"], extra="forbid")
    name = example["metadata"]["name"]
    for manifest in render(Owner(name=name, namespace="default"), spec, a_plan(spec), Settings()):
        text = yaml.safe_dump(manifest, sort_keys=False)
        golden.check(f"{name}/{manifest['kind'].lower()}-{manifest['metadata']['name']}.yaml", text)


def test_no_golden_is_left_of_an_example_that_is_gone() -> None:
    names = {parameter.values[0]["metadata"]["name"] for parameter in examples()}
    assert {path.name for path in GOLDEN.iterdir()} == names


def test_rendering_twice_gives_the_same() -> None:
    assert json.dumps(_render(a_spec())) == json.dumps(_render(a_spec()))


def test_the_gpu_limit_is_the_plan_s() -> None:
    for fields in (
        {"gpus": {"count": 4}},
        {"gpus": {"count": 8}},
        {"parallelism": {"tensor": 2, "pipeline": 2}},
    ):
        spec = a_spec(**fields)
        made = a_plan(spec)
        container = _render(spec)["Deployment"]["spec"]["template"]["spec"]["containers"][0]
        assert container["resources"] == {"limits": {"nvidia.com/gpu": made.tensor * made.pipeline}}
        assert "requests" not in container["resources"]


def test_an_autoscaler_owns_the_replicas() -> None:
    scaled = _render(a_spec(scaling={"maxReplicas": 3}))
    assert "replicas" not in scaled["Deployment"]["spec"]
    assert scaled["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "llama"
    fixed = _render(a_spec(replicas=0))
    assert fixed["Deployment"]["spec"]["replicas"] == 0
    assert "HorizontalPodAutoscaler" not in fixed


def test_the_owner_is_the_controller_and_does_not_change_the_digest() -> None:
    offline, online = _render(a_spec()), _render(a_spec(), uid="1234")
    for kind, manifest in online.items():
        reference = manifest["metadata"].pop("ownerReferences")[0]
        assert (reference["uid"], reference["controller"]) == ("1234", True)
        assert manifest == offline[kind]


def test_the_digest_changes_with_the_content() -> None:
    first, second = _render(a_spec()), _render(a_spec(gpus={"count": 8}))
    digests = [m["Deployment"]["metadata"]["annotations"][DIGEST_ANNOTATION] for m in (first, second)]
    assert digests[0] != digests[1]


def test_metrics_switches_are_on() -> None:
    config = json.loads(_render(a_spec())["ConfigMap"]["data"]["engine.json"])
    assert config == {"enable_iter_perf_stats": True, "return_perf_metrics": True}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_strings_stay_in_their_field(text: str) -> None:
    spec = a_spec(podMetadata={"annotations": {"note": text}})
    plain = a_spec(podMetadata={"annotations": {"note": "plain"}})
    hostile, expected = _render(spec)["Deployment"], _render(plain)["Deployment"]
    assert hostile["spec"]["template"]["metadata"]["annotations"].pop("note") == text
    expected["spec"]["template"]["metadata"]["annotations"].pop("note")
    for manifest in (hostile, expected):
        del manifest["metadata"]["annotations"]
    assert hostile == expected


def test_user_labels_never_override_ours() -> None:
    spec = LLMDeploymentSpec.model_validate(
        {
            "model": {"uri": "hf://meta-llama/Llama-3.3-70B-Instruct"},
            "podMetadata": {"labels": {"trtllm.dev/name": "evil"}},
        }
    )
    template = _render(spec)["Deployment"]["spec"]["template"]
    assert template["metadata"]["labels"]["trtllm.dev/name"] == "llama"


def test_arguments_cannot_read_the_environment() -> None:
    from trtllm_operator.engine import escape_expansion

    assert escape_expansion("$(HF_TOKEN)") == "$$(HF_TOKEN)"


def test_duplicate_keys_are_refused() -> None:
    with pytest.raises(yaml.YAMLError, match="duplicate keys: a"):
        parse("a: 1\na: 2\n")


def test_every_kind_has_a_template_and_a_context() -> None:
    assert {kind.kind.lower() for kind in KINDS} == set(CONTEXTS)


@pytest.mark.parametrize("name", sorted(CONTEXTS))
def test_templates_only_place_values(name: str) -> None:
    environment = Environment(loader=PackageLoader("trtllm_operator"))
    assert environment.loader is not None
    source, _, _ = environment.loader.get_source(environment, f"{name}.yaml.j2")
    tree = environment.parse(source)
    allowed = (
        jinja2.nodes.Template, jinja2.nodes.Output, jinja2.nodes.TemplateData, jinja2.nodes.If, jinja2.nodes.For,
        jinja2.nodes.Name, jinja2.nodes.Getattr, jinja2.nodes.Test, jinja2.nodes.Not,
    )  # fmt: skip
    for node in tree.find_all(jinja2.nodes.Node):
        assert isinstance(node, allowed), f"{type(node).__name__} in {name}"
    used = {
        node.attr
        for node in tree.find_all(jinja2.nodes.Getattr)
        if isinstance(node.node, jinja2.nodes.Name) and node.node.name == "ctx"
    }
    assert used == {field.name for field in dataclasses.fields(CONTEXTS[name])}


def test_pods_run_on_the_product_the_plan_is_for() -> None:
    pod = _render(a_spec())["Deployment"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": H100}
    assert pod["automountServiceAccountToken"] is False
