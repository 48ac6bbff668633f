from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from builders import LLAMA_70B, a_spec
from support import ROOT, Golden, examples
from trtllm_operator.crd import crd, crd_yaml
from trtllm_operator.naming import API_VERSION, KIND
from trtllm_operator.reference import editor_schema, editor_schema_json, reference


def _nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from _nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _nodes(schema[key], f"{path}[]")


def _schema() -> dict[str, Any]:
    version = crd()["spec"]["versions"][0]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def an_object(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "llama"}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": metadata,
        "spec": {"model": {"uri": LLAMA_70B}, **spec},
    }


def described_objects() -> list[Any]:
    """Every object of the spec as kubectl explain names it, with the descriptions of its fields."""
    return [
        pytest.param(
            path.replace("[]", ""), {name: child["description"] for name, child in node["properties"].items()}, id=path
        )
        for path, node in _nodes(_schema()["properties"]["spec"], "spec")
        if "properties" in node
    ]


@pytest.mark.parametrize(
    ("name", "generate"),
    [
        ("llmdeployments.yaml", crd_yaml),
        ("README.md", reference),
        ("llmdeployment.schema.json", editor_schema_json),
    ],
)
def test_what_is_committed_is_generated(name: str, generate: Callable[[], str], golden: Golden) -> None:
    golden.check_file(ROOT / "crds" / name, generate())


def test_the_crd_is_small_enough_for_client_side_apply() -> None:
    assert len(crd_yaml()) < 200_000


def test_every_field_has_a_type_and_a_description() -> None:
    for part in ("spec", "status"):
        for path, node in _nodes(_schema()["properties"][part], part):
            assert node.get("type") or node.get("x-kubernetes-int-or-string"), path
            if not path.endswith("[]"):
                assert node.get("description"), path
            assert not {"$ref", "anyOf", "allOf", "oneOf", "title"} & set(node), path


def test_everything_under_spec_is_bounded() -> None:
    for path, node in _nodes(_schema()["properties"]["spec"], "spec"):
        match node.get("type", "string"):
            case "string":
                assert "maxLength" in node or "enum" in node, path
            case "array":
                assert "maxItems" in node, path
            case "integer":
                assert "maximum" in node, path
            case "object":
                assert "properties" in node or "maxProperties" in node, path


def test_no_pattern_means_another_thing_to_the_operator_than_to_the_api_server() -> None:
    for path, node in _nodes(_schema()["properties"]["spec"], "spec"):
        # These classes are ASCII in the API server's regular expressions and Unicode in pydantic's.
        assert not re.search(r"\\[dDsSwWbB]", node.get("pattern", "")), path


def test_kstatus_defaults() -> None:
    status = _schema()["properties"]["status"]
    assert status["default"] == {"observedGeneration": -1}
    ready = status["properties"]["conditions"]["default"][0]
    assert (ready["type"], ready["status"]) == ("Ready", "Unknown")


def test_a_default_that_asks_for_nothing_is_not_stored() -> None:
    for path, node in _nodes(_schema()["properties"]["spec"], "spec"):
        assert node.get("default", "set") not in ("", "Auto", "auto", False), path


def test_a_pipe_does_not_end_a_cell_of_the_reference() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 200
    assert {line.replace("\\|", "").count("|") for line in rows} == {5}


@pytest.mark.parametrize("example", examples())
def test_the_editor_schema_accepts_every_example(example: dict[str, Any]) -> None:
    jsonschema.validate(example, editor_schema())


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        pytest.param({"gpuz": {}}, "gpuz", id="unknown field"),
        pytest.param({"gpus": {"cuont": 1}}, "cuont", id="unknown nested field"),
        pytest.param({"gpus": {"count": "4"}}, "'4'", id="text for a number"),
        pytest.param({"gpus": {"count": 0}}, "minimum", id="below the bound"),
        pytest.param({"dtype": "float8"}, "float8", id="unknown value"),
        pytest.param({"resources": {"limits": {"cpu": True}}}, "True", id="neither integer nor string"),
        pytest.param({"resources": {"limits": {"cpu": -1}}}, "minimum", id="negative number"),
        pytest.param({"resources": {"limits": {"cpu": "-1"}}}, "'-1' does not match", id="negative text"),
    ],
)
def test_the_editor_schema_refuses(spec: dict[str, Any], complaint: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match=complaint):
        jsonschema.validate(an_object(**spec), editor_schema())


@pytest.mark.parametrize("config", [{"a": {"b": [1, None]}}, {}])
def test_free_form_configuration_is_kept(config: dict[str, Any]) -> None:
    jsonschema.validate(an_object(engine={"config": config}), editor_schema())
    spec = a_spec(engine={"config": config})
    assert spec.engine is not None
    assert spec.engine.config == config


@pytest.mark.parametrize(("stated", "read"), [(16, "16"), ("16", "16"), ("500m", "500m"), ("180Gi", "180Gi")])
def test_a_quantity_may_be_a_bare_number(stated: Any, read: str) -> None:
    spec = a_spec(resources={"limits": {"cpu": stated}})
    assert spec.resources is not None
    assert spec.resources.limits == {"cpu": read}


@pytest.mark.parametrize("stated", [True, -1, 1.5, "-1", "16 GB", "", None])
def test_what_is_no_quantity(stated: Any) -> None:
    with pytest.raises(ValidationError):
        a_spec(resources={"limits": {"cpu": stated}})
