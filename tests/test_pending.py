"""No field of the spec is silently ignored: something reads it, or a spec that sets it is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast, get_args

import pytest

from builders import LLAMA_70B, a_refusal, a_spec
from fakes import FakeCluster, FakeMemory
from support import inputs
from trtllm_operator.api import ApiModel, LLMDeploymentSpec
from trtllm_operator.cluster import Cluster
from trtllm_operator.constraints import Reason
from trtllm_operator.pending import PendingField, pending, refusals
from trtllm_operator.reconcile import Reconciler
from trtllm_operator.settings import Settings
from trtllm_operator.workqueue import Key

Leaf = tuple[type[ApiModel], str]

NOT_READ_YET: tuple[str, ...] = ()
"""Neither acted on nor refused; nothing else may be so."""

NOT_READERS = {("trtllm_operator.pending", "refusals")}
"""Takes every field there is, and acts on none."""

SPECS: list[dict[str, Any]] = [
    {
        "model": {"uri": LLAMA_70B, "secretRef": {"name": "hf"}},
        "engine": {"image": {"repository": "r/x", "tag": "1", "pullPolicy": "Always", "pullSecrets": ["ngc"]}},
        "replicas": 2,
        "podMetadata": {"labels": {"a": "b"}, "annotations": {"a": "b"}},
        "workload": {"inputTokens": 1000, "outputTokens": 100},
        "rollout": {"strategy": "RollingUpdate", "maxSurge": 0, "maxUnavailable": 1},
    },
    {"model": {"uri": LLAMA_70B}, "modelCache": {"hostPath": "/mnt/models"}},
    {"model": {"uri": LLAMA_70B}, "gpus": {"product": "A-New-GPU", "memory": "192Gi"}},
]
"""Beside the examples and tests/data/specs: together they set every field that is acted on."""


def _models(annotation: Any) -> Iterator[type[ApiModel]]:
    if isinstance(annotation, type) and issubclass(annotation, ApiModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _leaves(model: type[ApiModel], path: str = "") -> Iterator[tuple[str, Leaf]]:
    for name, field in model.model_fields.items():
        below = [leaf for part in _models(field.annotation) for leaf in _leaves(part, f"{path}{field.alias}.")]
        yield from below or [(f"{path}{field.alias}", (model, name))]


LEAVES = dict(_leaves(LLMDeploymentSpec))


def _is_under(path: str, field: str) -> bool:
    return path == field or path.startswith(f"{field}.")


def _caller() -> tuple[str, str]:
    frame = sys._getframe(2)
    return frame.f_globals["__name__"], frame.f_code.co_name


async def _pass(spec: dict[str, Any]) -> None:
    metadata = {"namespace": "team-a", "name": "llama", "uid": "u1", "generation": 1, "resourceVersion": "7"}
    memory = FakeMemory({"metadata": metadata, "spec": spec, "status": {"observedGeneration": -1}})
    cluster = cast("Cluster", FakeCluster())
    reconciler = Reconciler(
        cluster=cluster, memory=memory, settings=Settings(), now=lambda: datetime(2026, 1, 1, tzinfo=UTC)
    )
    await reconciler(Key("team-a", "llama"))


@pytest.fixture
async def read(monkeypatch: pytest.MonkeyPatch) -> set[Leaf]:
    """The leaves that the operator looked at in one pass over each input and each of SPECS."""
    seen: set[Leaf] = set()
    plain, dump = ApiModel.__getattribute__, ApiModel.model_dump

    def recording(self: ApiModel, name: str) -> Any:
        module, function = _caller()
        if (
            name in type(self).model_fields
            and module.startswith("trtllm_operator.")
            and ((module, function) not in NOT_READERS)
        ):
            seen.add((type(self), name))
        return plain(self, name)

    def dumping(self: ApiModel, **options: Any) -> dict[str, Any]:
        if _caller() not in NOT_READERS:
            included = options.get("include")
            seen.update(leaf for _, leaf in _leaves(type(self)) if included is None or leaf[1] in included)
        return dump(self, **options)

    monkeypatch.setattr(ApiModel, "__getattribute__", recording)
    monkeypatch.setattr(ApiModel, "model_dump", dumping)
    for spec in [*(parameter.values[0]["spec"] for parameter in inputs()), *SPECS]:
        await _pass(spec)
    monkeypatch.undo()
    return seen


def test_every_field_is_read_or_refused(read: set[Leaf]) -> None:
    excused = (*NOT_READ_YET, *(row.field for row in pending()))
    silent = [
        path
        for path, leaf in LEAVES.items()
        if leaf not in read and not any(_is_under(path, field) for field in excused)
    ]
    assert not silent


def test_no_field_is_both_read_and_refused(read: set[Leaf]) -> None:
    refused = [row.field for row in pending() if row.value == "*"]
    both = [path for path, leaf in LEAVES.items() if leaf in read and any(_is_under(path, field) for field in refused)]
    assert not both, "delete their lines from data/pending.yaml"


@pytest.mark.parametrize("row", pending(), ids=lambda row: f"{row.field}={row.value}")
def test_a_pending_field_is_a_field(row: PendingField) -> None:
    assert any(_is_under(path, row.field) for path in LEAVES)


FIELDS = (
    PendingField(field="expose.gateway", instead="create an HTTPRoute"),
    PendingField(field="model.uri", value="pvc://*", instead="use a hf:// source"),
    PendingField(field="scaling.metric", value="TimeToFirstToken", instead="use QueueDepth"),
    PendingField(field="drainTimeoutSeconds", instead="remove it"),
    PendingField(field="modelCache", instead="remove it"),
    PendingField(field="tolerations", instead="remove it"),
    PendingField(field="expose.service", instead="remove it"),
    PendingField(field="paused", instead="remove it"),
)
"""A table of its own, so that a feature that lands changes no expectation here."""


@pytest.mark.parametrize(
    ("spec", "messages"),
    [
        pytest.param(
            {"expose": {"gateway": {"name": "inference"}}},
            ["spec.expose.gateway is not supported by this release; create an HTTPRoute"],
            id="group",
        ),
        pytest.param(
            {"model": {"uri": "pvc://models/llama"}},
            ["spec.model.uri: pvc://models/llama is not supported by this release; use a hf:// source"],
            id="value by its beginning",
        ),
        pytest.param(
            {"scaling": {"maxReplicas": 2, "metric": "TimeToFirstToken"}},
            ["spec.scaling.metric: TimeToFirstToken is not supported by this release; use QueueDepth"],
            id="one value",
        ),
        pytest.param(
            {"drainTimeoutSeconds": 0},
            ["spec.drainTimeoutSeconds is not supported by this release; remove it"],
            id="zero",
        ),
        pytest.param(
            {"modelCache": {"emptyDir": {}}},
            ["spec.modelCache is not supported by this release; remove it"],
            id="empty choice",
        ),
        pytest.param(
            {"paused": True, "tolerations": [{"operator": "Exists"}]},
            [
                "spec.tolerations is not supported by this release; remove it",
                "spec.paused is not supported by this release; remove it",
            ],
            id="two",
        ),
    ],
)
def test_refused(spec: dict[str, Any], messages: list[str]) -> None:
    assert [message for _, message in refusals(_spec(**spec), FIELDS)] == messages


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"paused": False, "expose": {}, "tolerations": []}, id="empty"),
        pytest.param({"expose": {"service": {"type": "ClusterIP", "port": 8000}}}, id="schema defaults"),
        pytest.param({"scaling": {"maxReplicas": 2, "metric": "RunningRequests"}}, id="another value"),
        pytest.param({"replicas": 2}, id="another field"),
    ],
)
def test_what_asks_for_nothing_new_is_not_refused(spec: dict[str, Any]) -> None:
    assert refusals(_spec(**spec), FIELDS) == ()


def test_a_pending_field_is_refused_before_planning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trtllm_operator.pending.pending", lambda: FIELDS)
    refusal = a_refusal(a_spec("pvc://models/llama", paused=True))
    assert refusal.reason == Reason.FIELD_NOT_SUPPORTED
    assert "spec.model.uri" in refusal.message
    assert "spec.paused" in refusal.message


def _spec(**fields: Any) -> LLMDeploymentSpec:
    return LLMDeploymentSpec.model_validate({"model": {"uri": LLAMA_70B}, **fields}, extra="forbid")
