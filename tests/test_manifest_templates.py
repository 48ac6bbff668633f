"""How templates are filled: structure from YAML, values untouched."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import jinja2
import pytest
import yaml

from trtllm_operator import strict_yaml
from trtllm_operator.manifest_templates import environment, fill


def _fill(text: str, context: object = None) -> dict[str, Any]:
    return fill(environment().from_string(text), context)


class _Color(StrEnum):
    GREEN = "green"


@dataclass(frozen=True)
class _Point:
    x: int
    y: tuple[int, ...]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("1", "1"),
        ("<0>", "<0>"),
        ("a: b\n- c\n{{ ctx }}\u2028\x00", "a: b\n- c\n{{ ctx }}\u2028\x00"),
        (1, 1),
        (1.5, 1.5),
        (True, True),
        (None, None),
        (("a", "b"), ["a", "b"]),
        ({"a": {"b": ()}}, {"a": {"b": []}}),
        (_Color.GREEN, "green"),
        ([_Color.GREEN], ["green"]),
        (_Point(1, (2, 3)), {"x": 1, "y": [2, 3]}),
    ],
)
def test_a_value_arrives_as_json_would_give_it_back(value: object, found: object) -> None:
    (filled,) = _fill("{{ 'key' }}: {{ ctx }}", value).items()
    assert filled == ("key", found)
    assert type(filled[1]) is type(found)


def test_a_manifest_shares_nothing_with_its_context() -> None:
    labels = {"a": {"b": "c"}}
    manifest = _fill("labels: {{ ctx }}\nagain: {{ ctx }}", labels)
    manifest["labels"]["a"]["b"] = "d"
    assert labels == manifest["again"] == {"a": {"b": "c"}}


def test_manifests_of_one_text_share_nothing() -> None:
    text = "metadata:\n  name: {{ ctx }}\n  labels: {a: [b]}"
    first, second = _fill(text, "one"), _fill(text, "two")
    first["metadata"]["labels"]["a"].append("c")
    assert second == {"metadata": {"name": "two", "labels": {"a": ["b"]}}}


@pytest.mark.parametrize(
    ("text", "context"), [("a: 1\na: 2\n", None), ("{% for key in ctx %}\n{{ key }}: 1\n{% endfor %}", ("a", "b", "a"))]
)
def test_a_key_given_twice_is_refused(text: str, context: object) -> None:
    with pytest.raises(yaml.YAMLError, match=r"duplicate keys: a\b"):
        _fill(text, context)


@pytest.mark.parametrize("text", ["{{ ctx.missing }}: 1", "a: {{ ctx.missing }}", "a: {{ other }}"])
def test_an_undefined_name_is_refused(text: str) -> None:
    with pytest.raises(jinja2.UndefinedError, match=r"missing|other"):
        _fill(text, _Point(1, ()))


@pytest.mark.parametrize("text", ["- a", "a: 1\n---\nb: 2\n", "{{ ctx }}"])
def test_a_template_makes_one_mapping(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        _fill(text, "value")


@pytest.mark.parametrize("text", ["a: {{ ctx }}-config", "a: {{ ctx }}{{ ctx }}", 'a: "{{ ctx }} "', "{{ ctx }}-a: 1"])
def test_a_value_is_no_part_of_a_longer_text(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="must be a whole key"):
        _fill(text, "value")


def test_a_text_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed, load = [], strict_yaml.load

    def counted(text: str) -> Any:
        parsed.append(text)
        return load(text)

    monkeypatch.setattr(strict_yaml, "load", counted)
    text = "only: [here, {{ ctx }}]"
    assert [_fill(text, value) for value in ("a", 2)] == [{"only": ["here", "a"]}, {"only": ["here", 2]}]
    assert parsed == ["only: [here, <0>]"]
