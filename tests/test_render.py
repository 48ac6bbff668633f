from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import jinja2.nodes
import pytest
import yaml
from jinja2 import Environment, PackageLoader

from builders import H100, a_plan, a_spec, a_verdict
from support import GOLDEN, Golden, inputs
from trtllm_operator import autoscaling, disruption, download_job, monitoring, network, objects, pod
from trtllm_operator import render as render_module
from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.api_scaling import Rollout, RolloutStrategy
from trtllm_operator.kinds import KINDS
from trtllm_operator.naming import DIGEST_ANNOTATION
from trtllm_operator.planned import Infeasible
from trtllm_operator.render import Manifest, Owner, Renderings, render
from trtllm_operator.rollout import RolloutPlan, rollout_plan
from trtllm_operator.settings import Settings

CONTEXTS = {
    "configmap": objects.ConfigMapContext,
    "persistentvolumeclaim": objects.ClaimContext,
    "job": download_job.JobContext,
    "deployment": objects.DeploymentContext,
    "leaderworkerset": objects.LeaderWorkerSetContext,
    "service": network.ServiceContext,
    "ingress": network.IngressContext,
    "httproute": network.HTTPRouteContext,
    "inferencepool": network.InferencePoolContext,
    "networkpolicy": network.NetworkPolicyContext,
    "poddisruptionbudget": disruption.DisruptionBudgetContext,
    "podmonitor": monitoring.PodMonitorContext,
    "horizontalpodautoscaler": autoscaling.AutoscalerContext,
    "scaledobject": autoscaling.ScaledObjectContext,
}
PARTIALS = {"_pod": ("pod", pod.PodContext)}
"""What a template includes: the name it reads its context by, and that context."""
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


def _texts(example: dict[str, Any]) -> dict[str, str]:
    """Return what becomes of an example, by file name: its manifests, or why this release refuses it."""
    spec = LLMDeploymentSpec.model_validate(example["spec"], extra="forbid")
    name = example["metadata"]["name"]
    verdict = a_verdict(spec)
    owner = Owner(name=name, namespace="default")
    rendered = verdict if isinstance(verdict, Infeasible) else render(owner, spec, verdict, Settings())
    if isinstance(rendered, Infeasible):
        return {"refusal.txt": f"{rendered.reason}: {rendered.message}\n"}
    return {f"{_file(manifest)}.yaml": yaml.safe_dump(manifest, sort_keys=False) for manifest in rendered}


def _file(manifest: Manifest) -> str:
    """Return a name that does not change with the content, as those of a ConfigMap and a Job do."""
    name = re.sub("-(engine|download)-[0-9a-f]{10}$", r"-\1", manifest["metadata"]["name"])
    return f"{manifest['kind'].lower()}-{name}"


@pytest.mark.parametrize("example", inputs())
def test_goldens(example: dict[str, Any], golden: Golden) -> None:
    name = example["metadata"]["name"]
    texts = _texts(example)
    for file, text in texts.items():
        golden.check(f"{name}/{file}", text)
    assert {path.name for path in (GOLDEN / name).iterdir()} == set(texts), "delete the goldens that are left over"


def test_no_golden_is_left_of_an_example_that_is_gone() -> None:
    names = {parameter.values[0]["metadata"]["name"] for parameter in inputs()}
    assert {path.name for path in GOLDEN.iterdir()} == names | {"chart"}


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
        assert container["resources"] == {"limits": {"nvidia.com/gpu": made.layout.tensor * made.layout.pipeline}}
        assert "requests" not in container["resources"]


def test_an_autoscaler_owns_the_replicas() -> None:
    scaled = _render(a_spec(scaling={"maxReplicas": 3}))
    assert "replicas" not in scaled["Deployment"]["spec"]
    assert scaled["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "llama"
    fixed = _render(a_spec(replicas=0))
    assert fixed["Deployment"]["spec"]["replicas"] == 0
    assert "HorizontalPodAutoscaler" not in fixed


@pytest.mark.parametrize(
    ("tag", "metrics"),
    [
        pytest.param("1.3.0rc24", ["trtllm_num_requests_waiting"], id="has-it"),
        pytest.param("1.2.1", [], id="lacks-it"),
    ],
)
def test_an_autoscaler_watches_a_metric_the_release_exports(tag: str, metrics: list[str]) -> None:
    rendered = _render(a_spec(scaling={"maxReplicas": 3}, engine={"image": {"tag": tag}}))
    watched = [
        metric["pods"]["metric"]["name"]
        for metric in rendered.get("HorizontalPodAutoscaler", {"spec": {"metrics": []}})["spec"]["metrics"]
    ]
    assert watched == metrics


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
    assert (config["enable_iter_perf_stats"], config["return_perf_metrics"]) == (True, True)


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


def test_every_kind_has_a_template_and_a_context() -> None:
    assert {kind.kind.lower() for kind in KINDS} == set(CONTEXTS)


def _template(name: str) -> jinja2.nodes.Template:
    environment = Environment(loader=PackageLoader("trtllm_operator"))
    assert environment.loader is not None
    source, _, _ = environment.loader.get_source(environment, f"{name}.yaml.j2")
    return environment.parse(source)


def _values(tree: jinja2.nodes.Template, variable: str) -> set[str]:
    """Return what a template takes from one variable."""
    return {
        node.attr
        for node in tree.find_all(jinja2.nodes.Getattr)
        if isinstance(node.node, jinja2.nodes.Name) and node.node.name == variable
    }


def test_every_template_is_checked() -> None:
    names = {name.removesuffix(".yaml.j2") for name in PackageLoader("trtllm_operator").list_templates()}
    assert names == {*CONTEXTS, *PARTIALS}


@pytest.mark.parametrize("name", sorted({*CONTEXTS, *PARTIALS}))
def test_templates_only_place_values(name: str) -> None:
    tree = _template(name)
    allowed = (
        jinja2.nodes.Template, jinja2.nodes.Output, jinja2.nodes.TemplateData, jinja2.nodes.If, jinja2.nodes.For,
        jinja2.nodes.Name, jinja2.nodes.Getattr, jinja2.nodes.Test, jinja2.nodes.Not, jinja2.nodes.Include,
        jinja2.nodes.With, jinja2.nodes.Const, jinja2.nodes.Keyword, jinja2.nodes.FilterBlock, jinja2.nodes.Filter,
    )  # fmt: skip
    for node in tree.find_all(jinja2.nodes.Node):
        assert isinstance(node, allowed), f"{type(node).__name__} in {name}"
    assert {node.name for node in tree.find_all(jinja2.nodes.Filter)} <= {"indent"}
    variable, context = PARTIALS.get(name) or ("ctx", CONTEXTS[name])
    assert _values(tree, variable) == {field.name for field in dataclasses.fields(context)}


def test_pods_run_on_the_product_the_plan_is_for() -> None:
    pod = _render(a_spec())["Deployment"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": H100}
    assert pod["automountServiceAccountToken"] is False


FIRST = rollout_plan(None)
RECREATE = rollout_plan(Rollout(strategy=RolloutStrategy.RECREATE))


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the owners that were rendered for, one for each time."""
    names: list[str] = []

    def counted(owner: Owner, *inputs: Any) -> Any:
        names.append(owner.name)
        return render(owner, *inputs)

    monkeypatch.setattr(render_module, "render", counted)
    return names


@pytest.mark.parametrize(
    ("spec", "settings", "rollout", "times"),
    [
        pytest.param(a_spec(), Settings(), FIRST, 1, id="equal inputs"),
        pytest.param(a_spec(), Settings(), dataclasses.replace(FIRST, why="other words"), 1, id="another reason"),
        pytest.param(a_spec(replicas=2), Settings(), FIRST, 2, id="another spec"),
        pytest.param(a_spec(gpus={"count": 8}), Settings(), FIRST, 2, id="another plan"),
        pytest.param(a_spec(), Settings(image_tag="x"), FIRST, 2, id="other settings"),
        pytest.param(a_spec(), Settings(), RECREATE, 2, id="another rollout"),
    ],
)
def test_a_rendering_is_remembered_as_long_as_its_inputs_are_equal(
    spec: LLMDeploymentSpec, settings: Settings, rollout: RolloutPlan, times: int, rendered: list[str]
) -> None:
    owner, renderings = Owner(name="llama", namespace="team-a", uid="1"), Renderings()
    renderings.of(owner, a_spec(), a_plan(), Settings(), FIRST)
    found = renderings.of(owner, spec, a_plan(spec), settings, rollout)
    assert rendered == ["llama"] * times
    assert found == render(owner, spec, a_plan(spec), settings, rollout)


def test_a_refusal_is_remembered(rendered: list[str]) -> None:
    owner, renderings = Owner(name="llama", namespace="team-a", uid="1"), Renderings()
    spec = a_spec(modelCache={"hostPath": "/models"})
    found = [renderings.of(owner, spec, a_plan(spec), Settings(), FIRST) for _ in range(2)]
    assert found == [render(owner, spec, a_plan(spec), Settings(), FIRST)] * 2
    assert isinstance(found[0], Infeasible)
    assert rendered == ["llama"]


def test_the_rendering_longest_unasked_for_is_forgotten(rendered: list[str]) -> None:
    renderings = Renderings(limit=2)
    for name in "abacab":
        renderings.of(Owner(name=name, namespace="team-a"), a_spec(), a_plan(), Settings(), FIRST)
    assert rendered == ["a", "b", "c", "b"]
