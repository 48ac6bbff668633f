"""LLMDeployments in YAML as people write them: read strictly, every problem with its line.

The operator itself ignores what it does not know, because a newer release may have stored it. At the desk an unknown
field is a mistake. Rules over several fields are CEL, which the API server alone evaluates
(``kubectl apply --dry-run=server``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from typing import Any

import yaml
from pydantic import JsonValue, ValidationError
from pydantic_core import ErrorDetails

from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.api_base import ApiModel
from trtllm_operator.errors import InvalidObject
from trtllm_operator.naming import API_VERSION, KIND, MAX_NAME_LENGTH, NAME_PATTERN
from trtllm_operator.reference import Schema, editor_schema

Path = tuple[str | int, ...]

_MERGE = "tag:yaml.org,2002:merge"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_FLOAT = "tag:yaml.org,2002:float"
_EXPONENT = re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One LLMDeployment. ``namespace`` is None where the document names none."""

    name: str
    namespace: str | None
    spec: LLMDeploymentSpec

    @property
    def manifest(self) -> dict[str, Any]:
        """The object as kubectl takes it, with the fields that were set and no others."""
        metadata = {"name": self.name} | ({"namespace": self.namespace} if self.namespace else {})
        spec = self.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong on one line; lines count from 1. The message is safe to print whatever the text held."""

    line: int
    message: str

    def __post_init__(self) -> None:
        """Escape what a terminal would obey or hide."""
        object.__setattr__(self, "message", "".join(map(_printable, self.message)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """The LLMDeployments of one text, what is wrong with the others, and the ConfigMaps beside them by name."""

    valid: tuple[Document, ...]
    problems: tuple[Problem, ...]
    config_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class _Object(ApiModel):
    api_version: str
    kind: str
    metadata: dict[str, JsonValue]
    spec: LLMDeploymentSpec
    status: JsonValue = None


class _Loader(yaml.SafeLoader):
    """Reads a date as text and a commit such as 4893e10 as a number, as Kubernetes does."""


_Loader.add_constructor(_TIMESTAMP, lambda _, node: str(node.value))
_Loader.add_implicit_resolver(_FLOAT, _EXPONENT, list("-+0123456789"))


def read_documents(text: str) -> Documents:
    """Read every LLMDeployment of a YAML text with one or several documents, and the ConfigMaps beside them.

    Other kinds are passed over.
    """
    valid: list[Document] = []
    config_maps: dict[str, Mapping[str, str]] = {}
    problems: list[Problem] = []
    try:
        for node in yaml.compose_all(text, Loader=_Loader):
            duplicates = list(_duplicates(node, "", set()))  # first: constructing merges what << refers to
            stored = _Loader("").construct_document(node)
            if isinstance(stored, dict) and stored.get("kind") == "ConfigMap":
                config_maps |= _config_map(stored)
                continue
            document, found = _read(node, stored, duplicates)
            problems += found
            valid += [document] if document is not None else []
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problems.append(Problem(line=line, message=f"not YAML: {error.reason}"))
    except RecursionError:
        problems.append(Problem(line=1, message="not YAML that can be read: it is nested too deeply"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problems.append(Problem(line=line, message=f"not YAML: {error.problem}"))
    if not valid and not problems:
        problems.append(Problem(line=1, message=f"expected an {KIND} of {API_VERSION}; found none"))
    in_order = tuple(sorted(problems, key=lambda problem: problem.line))
    return Documents(valid=tuple(valid), problems=in_order, config_maps=config_maps)


def document(stored: Mapping[str, Any]) -> Document:
    """Check one object that was put together here. Raises InvalidObject, naming every field that is wrong."""
    documents = read_documents(json.dumps(stored))
    if documents.problems:
        raise InvalidObject("; ".join(problem.message for problem in documents.problems))
    return documents.valid[0]


def _config_map(stored: Mapping[str, Any]) -> dict[str, Mapping[str, str]]:
    metadata, data = stored.get("metadata"), stored.get("data")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not isinstance(data, dict):
        return {}
    return {metadata["name"]: {str(key): value for key, value in data.items() if isinstance(value, str)}}


def _read(node: yaml.Node, stored: Any, duplicates: Sequence[Problem]) -> tuple[Document | None, list[Problem]]:
    if not isinstance(stored, dict) or stored.get("kind") != KIND:
        return None, []
    try:
        text = _json(stored)
    except ValueError:
        return None, [_problem(node, ("spec",), "holds itself through an alias")]
    problems = [*duplicates, *(_problem(node, *finding) for finding in _findings(stored, text))]
    if problems:
        return None, problems
    spec = _Object.model_validate_json(text).spec
    metadata = stored["metadata"]
    return Document(name=metadata["name"], namespace=metadata.get("namespace"), spec=spec), []


def _duplicates(node: yaml.Node, path: str, seen: set[int]) -> Iterator[Problem]:
    if id(node) in seen:  # an alias: reported once, and endless where it refers to itself
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, child in enumerate(node.value):
            yield from _duplicates(child, f"{path}[{number}]", seen)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, child in node.value:
        name = f"{path}.{key.value}" if path else str(key.value)
        line = key.start_mark.line + 1
        if key.tag != _MERGE and name in lines:
            yield Problem(line=line, message=f"{name}: stands on line {lines[name]} already")
        lines[name] = line
        yield from _duplicates(child, name, seen)


Finding = tuple[Path, str]


def _findings(stored: dict[str, Any], text: str) -> Iterator[Finding]:
    if stored.get("apiVersion") != API_VERSION:
        yield ("apiVersion",), f"expected {API_VERSION}; got {_json(stored.get('apiVersion'))}"
    yield from _metadata_findings(stored.get("metadata"))
    yield from _nulls(stored, ())
    try:
        _Object.model_validate_json(text, strict=True, extra="forbid")
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_context=False):
            if detail["loc"] != ("apiVersion",) and detail["input"] is not None:
                yield _finding(detail)


def _metadata_findings(metadata: Any) -> Iterator[Finding]:
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str):
        yield ("metadata", "name"), "missing"
    elif len(name) > MAX_NAME_LENGTH or not re.fullmatch(NAME_PATTERN, name):
        said = (
            f"{name} has {len(name)} characters; it must be at most {MAX_NAME_LENGTH} lower-case letters, digits and"
            " dashes, starting with a letter"
        )
        yield ("metadata", "name"), said
    if isinstance(metadata, dict) and not isinstance(metadata.get("namespace", ""), str):
        yield ("metadata", "namespace"), f"Input should be a valid string; got {_json(metadata['namespace'])}"


def _nulls(value: Any, path: Path) -> Iterator[Finding]:
    """Yield every null outside free-form fields. ``kubectl apply`` drops them, server-side apply refuses them."""
    if value is None and path[0] == "spec" and _schema_at(path) is not None:
        yield path, "has no value; give it one or remove it"
    members: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, list):
        members = enumerate(value)
    for name, child in members:
        yield from _nulls(child, (*path, name))


def _finding(detail: ErrorDetails) -> Finding:
    path = detail["loc"]
    match detail["type"]:
        case "extra_forbidden":
            return path, f"unknown field{_suggestion(path)}"
        case "missing":
            return path, "missing"
        case _:
            given = detail["input"]
            shown = "" if isinstance(given, dict | list) else f"; got {_json(given)}"
            return path, f"{detail['msg']}{shown}{_example(path)}"


def _suggestion(path: Path) -> str:
    schema = _schema_at(path[:-1]) or {}
    near = get_close_matches(str(path[-1]), schema.get("properties", {}), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _example(path: Path) -> str:
    description = str((_schema_at(path) or {}).get("description", ""))
    example = re.search(r" (Example: .*)\.$", description)
    return f". {example[1]}" if example else ""


@cache
def _schema() -> Schema:
    return editor_schema()


def _schema_at(path: Path) -> Schema | None:
    schema = _schema()
    for name in path:
        inner = schema.get("items") if isinstance(name, int) else schema.get("properties", {}).get(name)
        inner = inner or schema.get("additionalProperties")
        if not isinstance(inner, dict):
            return None
        schema = inner
    return schema


def _problem(root: yaml.Node, path: Path, message: str) -> Problem:
    return Problem(line=_line(root, path), message=f"{_text(path)}: {message}")


def _line(node: yaml.Node, path: Path) -> int:
    """Return the line of the key or the item at this path; for what is missing, that of its parent."""
    line = node.start_mark.line
    for name in path:
        found = _member(node, name)
        if found is None:
            break
        line, node = found
    return line + 1


def _member(node: yaml.Node, name: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(name, int):
        return node.value[name].start_mark.line, node.value[name]
    if isinstance(node, yaml.MappingNode):
        for key, child in reversed(node.value):  # what << merged in stands first, and is overruled
            if key.value == name:
                return key.start_mark.line, child
    return None


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def _text(path: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _json(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)
