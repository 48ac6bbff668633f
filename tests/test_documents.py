"""What people write, read strictly: each problem with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import ROOT
from trtllm_operator.documents import Problem, read_documents

HEAD = "apiVersion: trtllm.dev/v1alpha1\nkind: LLMDeployment\nmetadata: {name: llama}\n"
MODEL = "spec:\n  model: {uri: 'hf://a/b'}\n"
NAME_RULE = "it must be at most 40 lower-case letters, digits and dashes, starting with a letter"


def _problems(text: str) -> list[tuple[int, str]]:
    return [(problem.line, problem.message) for problem in read_documents(text).problems]


@pytest.mark.parametrize(
    ("fields", "problems"),
    [
        pytest.param(
            "  gpus:\n    cuont: 4\n", [(7, "spec.gpus.cuont: unknown field; did you mean count?")], id="near miss"
        ),
        pytest.param("  gpus:\n    zzz: 4\n", [(7, "spec.gpus.zzz: unknown field")], id="nothing near"),
        pytest.param("sepc: 1\n", [(6, "sepc: unknown field; did you mean spec?")], id="unknown at the root"),
        pytest.param(
            "  tolerations:\n  - key: a\n  - opreator: Exists\n",
            [(8, "spec.tolerations[1].opreator: unknown field; did you mean operator?")],
            id="in a list",
        ),
        pytest.param(
            '  gpus: {count: "4"}\n',
            [(6, 'spec.gpus.count: Input should be a valid integer; got "4". Example: 4')],
            id="text for a number",
        ),
        pytest.param(
            "  gpus:\n    memory: 80GB\n",
            [(7, "spec.gpus.memory: String should match pattern '^[1-9][0-9]*(Mi|Gi)$'; got \"80GB\". Example: 80Gi")],
            id="pattern",
        ),
        pytest.param(
            "  replicas: 1001\n",
            [(6, "spec.replicas: Input should be less than or equal to 1000; got 1001")],
            id="bound",
        ),
        pytest.param("  gpus: [4]\n", [(6, "spec.gpus: Input should be an object")], id="list for an object"),
        pytest.param(
            "  podMetadata: {labels: {a: yes}}\n",
            [(6, "spec.podMetadata.labels.a: Input should be a valid string; got true")],
            id="yes is a boolean",
        ),
        pytest.param(
            "  podMetadata: {labels: {a: 4893e10}}\n",
            [(6, "spec.podMetadata.labels.a: Input should be a valid string; got 48930000000000.0")],
            id="an exponent is a number",
        ),
        pytest.param(
            '  "a\\e[31m\\u202e": 1\n',
            [(6, r"spec.a\x1b[31m\u202e: unknown field")],
            id="what a terminal would obey",
        ),
        pytest.param("  scaling:\n    minReplicas: 1\n", [(6, "spec.scaling.maxReplicas: missing")], id="missing"),
        pytest.param("  paused:\n", [(6, "spec.paused: has no value; give it one or remove it")], id="no value"),
        pytest.param(
            "  replicas: 1\n  gpus:\n    count: 1\n    count: 2\n  replicas: 2\n",
            [(9, "spec.gpus.count: stands on line 8 already"), (10, "spec.replicas: stands on line 6 already")],
            id="duplicate keys",
        ),
        pytest.param(
            "  nodeSelector: &labels {a: 1}\n  podMetadata: {labels: *labels}\n",
            [
                (6, "spec.nodeSelector.a: Input should be a valid string; got 1"),
                (6, "spec.podMetadata.labels.a: Input should be a valid string; got 1"),
            ],
            id="the anchor's line",
        ),
    ],
)
def test_problem_of_the_spec(fields: str, problems: list[tuple[int, str]]) -> None:
    assert _problems(HEAD + MODEL + fields) == problems


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        pytest.param(
            HEAD.replace("v1alpha1", "v1") + MODEL,
            [(1, 'apiVersion: expected trtllm.dev/v1alpha1; got "trtllm.dev/v1"')],
            id="another version",
        ),
        pytest.param(HEAD, [(1, "spec: missing")], id="no spec"),
        pytest.param(HEAD.replace("name: llama", "") + MODEL, [(3, "metadata.name: missing")], id="no name"),
        pytest.param(
            HEAD.replace("llama", "llama.3") + MODEL,
            [(3, f"metadata.name: llama.3 has 7 characters; {NAME_RULE}")],
            id="name with a dot",
        ),
        pytest.param(
            HEAD.replace("llama", "a" * 41) + MODEL,
            [(3, f"metadata.name: {'a' * 41} has 41 characters; {NAME_RULE}")],
            id="long name",
        ),
        pytest.param(
            HEAD.replace("}", ", namespace: 7}") + MODEL,
            [(3, "metadata.namespace: Input should be a valid string; got 7")],
            id="namespace",
        ),
        pytest.param("", [(1, "expected an LLMDeployment of trtllm.dev/v1alpha1; found none")], id="empty"),
        pytest.param(
            "kind: Pod\n", [(1, "expected an LLMDeployment of trtllm.dev/v1alpha1; found none")], id="another kind"
        ),
        pytest.param(
            "a: 1\nb: [\n", [(3, "not YAML: expected the node content, but found '<stream end>'")], id="not YAML"
        ),
        pytest.param(
            "a: !python/object:os.system x\n",
            [(1, "not YAML: could not determine a constructor for the tag '!python/object:os.system'")],
            id="a tag of Python's",
        ),
        pytest.param("a: \0\n", [(1, "not YAML: special characters are not allowed")], id="control character"),
    ],
)
def test_problem_of_the_document(text: str, problems: list[tuple[int, str]]) -> None:
    assert _problems(text) == problems


def test_every_document_is_read() -> None:
    pod = "kind: Pod\nspec: {a: 1, a: 2}\n"
    bad = HEAD + MODEL + "  gpuz: 1\n"
    found = read_documents("---\n".join([HEAD + MODEL, pod, bad, HEAD.replace("llama", "other") + MODEL]))
    assert [document.name for document in found.valid] == ["llama", "other"]
    assert found.problems == (Problem(line=15, message="spec.gpuz: unknown field; did you mean gpus?"),)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param("  engine: {config: {a: null, b: [null]}}\n", id="null in free-form configuration"),
        pytest.param("  podMetadata: {annotations: {since: 2026-01-01}}\n", id="a date is text"),
        pytest.param("  resources: {limits: {cpu: 16}}\n", id="a quantity may be a number"),
        pytest.param("  gpus: &gpus {count: 4}\n  parallelism: {<<: {tensor: 2}, tensor: 4}\n", id="merge key"),
        pytest.param("status: {observedGeneration: 3, anything: null}\n", id="as kubectl get prints it"),
    ],
)
def test_accepted(fields: str) -> None:
    assert _problems(HEAD + MODEL + fields) == []


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_valid_and_says_what_it_shows(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert _problems(text) == []


def test_what_was_merged_in_is_overruled() -> None:
    (document,) = read_documents(HEAD + MODEL + "  parallelism: {<<: {tensor: 2, pipeline: 2}, tensor: 4}\n").valid
    assert document.spec.parallelism is not None
    assert (document.spec.parallelism.tensor, document.spec.parallelism.pipeline) == (4, 2)


def test_a_list_that_holds_itself_is_a_problem() -> None:
    assert _problems(HEAD + MODEL + "  tolerations: &loop [*loop]\n") == [(4, "spec: holds itself through an alias")]
