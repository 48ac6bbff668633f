from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import charts
from chart_values import VALUES
from support import GOLDEN, ROOT, examples
from trtllm_operator.install import manifests
from trtllm_operator.rbac import rules


@pytest.mark.parametrize("path", charts.files(), ids=lambda path: str(path.relative_to(ROOT / "charts")))
def test_generated_files_are_committed(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == charts.files()[path], "run `make update` and read the diff"


def _values(chart: Path) -> Any:
    return yaml.safe_load((chart / "values.yaml").read_text(encoding="utf-8"))


def _schema(chart: Path) -> Any:
    return json.loads((chart / "values.schema.json").read_text(encoding="utf-8"))


def _paths(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{name}.")


def _schema_paths(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, child in schema.get("properties", {}).items():
        yield f"{prefix}{name}"
        yield from _schema_paths(child, f"{prefix}{name}.")


def _closed_objects(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        if "properties" in node:
            yield path, node.get("additionalProperties")
        for name, child in node.items():
            yield from _closed_objects(child, f"{path}/{name}")


def test_every_value_has_a_rule_and_every_rule_a_value() -> None:
    free = {"affinity.", "resources."}
    ruled = {path for path in _schema_paths(_schema(charts.OPERATOR)) if not path.startswith(tuple(free))}
    given = {path for path in _paths(_values(charts.OPERATOR)) if not path.startswith(tuple(free))}
    assert ruled - {"global"} == given


def test_every_value_is_documented() -> None:
    text = (charts.OPERATOR / "values.yaml").read_text(encoding="utf-8")
    documented = {path for path, _, _ in charts.documented_values(text)}
    leaves = {path for path in _paths(_values(charts.OPERATOR)) if not path.startswith("resources.")}
    parents = {path for path in leaves if any(other.startswith(f"{path}.") for other in leaves)}
    assert documented == leaves - parents


@pytest.mark.parametrize("chart", [charts.OPERATOR, charts.LLM_DEPLOYMENT], ids=lambda chart: chart.name)
def test_the_schema_is_closed_at_every_level(chart: Path) -> None:
    schema = _schema(chart)
    jsonschema.Draft7Validator.check_schema(schema)
    objects = dict(_closed_objects(schema))
    assert objects
    assert {path for path, additional in objects.items() if additional is not False} == set()


def test_default_values_are_valid() -> None:
    jsonschema.validate(_values(charts.OPERATOR), _schema(charts.OPERATOR))


@pytest.mark.parametrize("example", examples())
def test_the_spec_of_every_example_is_valid_as_values(example: dict[str, Any]) -> None:
    jsonschema.validate(example["spec"], _schema(charts.LLM_DEPLOYMENT))


def test_the_example_on_artifact_hub_is_the_first_example() -> None:
    annotations = yaml.safe_load((charts.OPERATOR / "Chart.yaml").read_text())["annotations"]
    (shown,) = yaml.safe_load(annotations["artifacthub.io/crdsExamples"])
    assert shown == examples()[0].values[0]


def test_chart_versions_are_the_operator_s() -> None:
    from trtllm_operator import __version__

    for chart in (charts.OPERATOR, charts.LLM_DEPLOYMENT):
        about = yaml.safe_load((chart / "Chart.yaml").read_text())
        assert (about["version"], about["appVersion"]) == (__version__, __version__)


def test_rights_are_few() -> None:
    for rule in rules():
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert "secrets" not in rule["resources"] or rule["verbs"] == ["create"]
        assert not {"pods/exec", "pods/attach", "serviceaccounts/token"} & set(rule["resources"])
        assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
        if "pods" in rule["resources"] or "nodes" in rule["resources"]:
            assert rule["verbs"] == ["list", "watch"]


def test_the_sandbox_gives_the_operator_the_same_rights_as_the_chart() -> None:
    (role,) = [manifest for manifest in manifests("any") if manifest["kind"] == "ClusterRole"]
    assert role["rules"] == rules()


def test_no_golden_is_left_of_values_that_are_gone() -> None:
    assert {path.stem for path in (GOLDEN / "chart").iterdir()} == set(VALUES)


def test_a_quantity_is_a_number_or_a_text() -> None:
    quantity = {"x-kubernetes-int-or-string": True, "maxLength": 32, "description": "CPU."}
    assert charts.closed(quantity) == {"type": ["integer", "string"], "maxLength": 32, "description": "CPU."}
