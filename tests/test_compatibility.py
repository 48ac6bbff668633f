"""Within a version of the API every release takes the objects of the one before.

``tests/data/crd`` holds the CRD of each release, named after it. A narrowing that closes a hole, which v1alpha1 may do,
is listed in ACCEPTED with its reason, and in the changelog.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from compatibility import incompatibilities
from support import ROOT
from trtllm_operator.crd import crd

ACCEPTED: dict[str, str] = {}
"""What changed, in the words of ``incompatibilities``, and why it may."""

RELEASED = Path(__file__).parent / "data" / "crd"


def _schemas(definition: dict[str, Any]) -> dict[str, Any]:
    return {version["name"]: version["schema"]["openAPIV3Schema"] for version in definition["spec"]["versions"]}


def test_no_release_is_broken() -> None:
    now = _schemas(crd())
    for path in sorted(RELEASED.glob("*.yaml")):
        for version, schema in _schemas(yaml.safe_load(path.read_text(encoding="utf-8"))).items():
            assert version in now, f"{path.stem} served {version}"
            found = set(incompatibilities(schema, now[version]))
            assert found <= ACCEPTED.keys(), path.stem


def test_every_release_left_its_crd() -> None:
    releases = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    missing = [release for release in releases if not (RELEASED / f"{release}.yaml").exists()]
    assert not missing, f"copy crds/llmdeployments.yaml of these releases to {RELEASED.relative_to(ROOT)}"


def test_the_crd_is_compatible_with_itself() -> None:
    schema = _schemas(crd())["v1alpha1"]
    assert incompatibilities(schema, schema) == []


STRING = {"type": "string"}


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        pytest.param({}, {"a": STRING}, [], id="field added"),
        pytest.param({"a": STRING}, {}, ["a: removed"], id="field removed"),
        pytest.param({"a": STRING}, {"a": {**STRING, "description": "x"}}, [], id="described"),
        pytest.param(
            {"a": STRING}, {"a": {"type": "integer"}}, ["a: type changed from 'string' to 'integer'"], id="type"
        ),
        pytest.param({"a": {"maximum": 8}}, {"a": {"maximum": 9}}, [], id="maximum raised"),
        pytest.param({"a": {"maximum": 8}}, {"a": {}}, [], id="maximum removed"),
        pytest.param(
            {"a": {"maximum": 8}}, {"a": {"maximum": 7}}, ["a: maximum lowered from 8 to 7"], id="maximum lowered"
        ),
        pytest.param({"a": {}}, {"a": {"maxItems": 7}}, ["a: maxItems lowered from None to 7"], id="bound added"),
        pytest.param({"a": {"minLength": 1}}, {"a": {"minLength": 0}}, [], id="minimum lowered"),
        pytest.param(
            {"a": {"minLength": 1}}, {"a": {"minLength": 2}}, ["a: minLength raised from 1 to 2"], id="minimum raised"
        ),
        pytest.param({"a": {"enum": ["x"]}}, {"a": {"enum": ["x", "y"]}}, [], id="value added"),
        pytest.param({"a": {"enum": ["x"]}}, {"a": {}}, [], id="every value allowed"),
        pytest.param({"a": {"enum": ["x", "y"]}}, {"a": {"enum": ["y"]}}, ["a: value 'x' removed"], id="value removed"),
        pytest.param({"a": {}}, {"a": {"enum": ["y"]}}, ["a: value '*' removed"], id="values listed"),
        pytest.param(
            {"a": {"pattern": "a"}}, {"a": {"pattern": "b"}}, ["a: pattern changed from 'a' to 'b'"], id="pattern"
        ),
        pytest.param({"a": {}}, {"a": {"default": 1}}, [], id="default added"),
        pytest.param(
            {"a": {"default": 1}}, {"a": {"default": 2}}, ["a: default changed from 1 to 2"], id="default changed"
        ),
        pytest.param(
            {"a": {}},
            {"a": {"x-kubernetes-validations": [{"rule": "self > 0"}]}},
            ["a: new rule 'self > 0'"],
            id="rule added",
        ),
        pytest.param(
            {"a": {"properties": {"b": {}}}},
            {"a": {"properties": {"b": {}}, "required": ["b"]}},
            ["a.b: newly required"],
            id="newly required",
        ),
        pytest.param(
            {"a": {"items": {"properties": {"b": {}}}}},
            {"a": {"items": {"properties": {}}}},
            ["a[].b: removed"],
            id="in a list",
        ),
        pytest.param(
            {"a": {"additionalProperties": {"maxLength": 2}}},
            {"a": {"additionalProperties": {"maxLength": 1}}},
            ["a[]: maxLength lowered from 2 to 1"],
            id="in a map",
        ),
    ],
)
def test_incompatibilities(old: dict[str, Any], new: dict[str, Any], found: list[str]) -> None:
    assert incompatibilities({"properties": old}, {"properties": new}) == found
