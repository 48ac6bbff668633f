from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support import ROOT
from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.crd import crd, crd_yaml


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


def spec_fields() -> list[str]:
    """Every field of the spec, as kubectl explain names it."""
    return [path for path, _ in _nodes(_schema()["properties"]["spec"], "spec") if "[]" not in path]


def test_the_committed_crd_is_the_generated_one() -> None:
    committed = (ROOT / "crds" / "llmdeployments.yaml").read_text(encoding="utf-8")
    assert committed == crd_yaml(), "run `make update` and read the diff"


def test_the_crd_is_small_enough_for_client_side_apply() -> None:
    assert len(crd_yaml()) < 200_000


def test_every_field_has_a_type_and_a_description() -> None:
    for part in ("spec", "status"):
        for path, node in _nodes(_schema()["properties"][part], part):
            assert node.get("type"), path
            if not path.endswith("[]"):
                assert node.get("description"), path
            assert not {"$ref", "anyOf", "allOf", "oneOf", "title"} & set(node), path


def test_everything_under_spec_is_bounded() -> None:
    for path, node in _nodes(_schema()["properties"]["spec"], "spec"):
        match node["type"]:
            case "string":
                assert "maxLength" in node or "enum" in node, path
            case "array":
                assert "maxItems" in node, path
            case "integer":
                assert "maximum" in node, path
            case "object":
                assert "properties" in node or "maxProperties" in node, path


def test_kstatus_defaults() -> None:
    status = _schema()["properties"]["status"]
    assert status["default"] == {"observedGeneration": -1}
    ready = status["properties"]["conditions"]["default"][0]
    assert (ready["type"], ready["status"]) == ("Ready", "Unknown")


@pytest.mark.parametrize("field", sorted(LLMDeploymentSpec.model_fields))
def test_every_field_of_the_spec_is_read_by_something(field: str) -> None:
    sources = [
        path.read_text(encoding="utf-8")
        for path in (ROOT / "operator" / "trtllm_operator").glob("*.py")
        if path.name not in ("api.py", "api_status.py", "crd.py")
    ]
    assert any(f"spec.{field}" in text for text in sources)
