"""The plan in force outlives everything but the user's own edit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import H100, a_mixture, a_model, a_spec, some_facts
from trtllm_operator.api_status import PlanStatus
from trtllm_operator.facts import GpuPool, ModelFacts, Source
from trtllm_operator.identity import plan_id
from trtllm_operator.plan import plan
from trtllm_operator.plan_status import plan_status
from trtllm_operator.planned import Plan
from trtllm_operator.request import request

H200, RTX_4090, RTX_3090 = "NVIDIA-H200", "NVIDIA-GeForce-RTX-4090", "NVIDIA-GeForce-RTX-3090"
POOLS = {"pools": [{"product": RTX_4090, "count": 2}, {"product": RTX_3090, "count": 1}], "allowHeterogeneous": True}


def made_and_remade(
    model: ModelFacts,
    fields: dict[str, Any],
    *groups: str,
    later: tuple[str, ...] = (),
    edits: dict[str, Any] | None = None,
    told: dict[str, Any] | None = None,
    later_model: ModelFacts | None = None,
) -> tuple[Plan, Plan]:
    """Plan twice, the second time with the first plan in force and what has changed since."""
    spec = a_spec(f"hf://{model.name}", **fields)
    first = plan(spec, replace(some_facts(spec, *groups), model=model))
    assert isinstance(first, Plan), first
    edited = a_spec(f"hf://{model.name}", **{**fields, **(edits or {})})
    facts = replace(some_facts(edited, *(later or groups)), model=later_model or model)
    in_force = PlanStatus.model_validate_json(plan_status(first).model_copy(update=told or {}).model_dump_json())
    second = plan(edited, facts, current=in_force)
    assert isinstance(second, Plan), second
    return first, second


@pytest.mark.parametrize(
    ("model", "fields", "groups", "later"),
    [
        pytest.param(a_model(), {}, (f"1x8x{H100}",), (f"1x8x{H200}",), id="its nodes are gone"),
        pytest.param(a_model(), {}, (f"1x8x{H100}",), (f"1x8x{H100}", f"4x8x{H200}"), id="better nodes came"),
        pytest.param(a_model(), {"gpus": {"count": 16}}, (f"2x8x{H100}",), (f"1x8x{H100}",), id="a node is down"),
        pytest.param(a_mixture(), {}, (f"1x8x{H100}",), (f"2x4x{H100}",), id="nodes became smaller"),
        pytest.param(
            a_model(checkpoint_dtype="int4"), {"gpus": POOLS}, (f"1x2x{RTX_4090}", f"1x1x{RTX_3090}"), (), id="pools"
        ),
        pytest.param(
            a_mixture(),
            {"parallelism": {"tensor": 8, "attentionDataParallel": True}},
            (f"1x8x{H100}",),
            (),
            id="attention DP",
        ),
    ],
)
def test_a_plan_is_kept_as_it_was_told(
    model: ModelFacts, fields: dict[str, Any], groups: tuple[str, ...], later: tuple[str, ...]
) -> None:
    first, second = made_and_remade(model, fields, *groups, later=later)
    assert plan_status(second) == plan_status(first)


def test_corrected_facts_do_not_end_it() -> None:
    model = a_model()
    corrected = replace(model, parameters=72_000_000_000, weight_bytes=144_100_000_000)
    first, second = made_and_remade(model, {}, f"1x8x{H100}", later_model=corrected)
    assert (second.id, second.layout) == (first.id, first.layout)


def test_a_field_nobody_has_said_anything_in_is_not_part_of_the_id() -> None:
    typed = replace(a_model(), source=Source.SPEC)
    spec = a_spec(f"hf://{typed.name}")
    asked = request(spec, typed)
    assert plan_id(asked, typed, H100) == plan_id(asked, replace(typed, tied_embeddings=False, experts=None), H100)
    assert plan_id(asked, typed, H100) != plan_id(asked, replace(typed, tied_embeddings=True), H100)


def test_a_newer_planner_does_not_end_it() -> None:
    told = {"planner_version": "0", "tensor": 8, "gpus": 8, "gpus_per_pod": 8}
    _, second = made_and_remade(a_model(), {}, f"1x8x{H100}", told=told)
    assert (second.layout.tensor, second.planner_version) == (8, "0")


def test_what_an_older_release_did_not_tell_is_filled_in() -> None:
    told = {"max_batch_size": None, "max_num_tokens": None, "warnings": ("AncientWarning: of old",)}
    first, second = made_and_remade(a_model(), {}, f"1x8x{H100}", told=told)
    assert (second.max_batch_size, second.max_num_tokens) == (first.max_batch_size, first.max_num_tokens)
    assert [str(notice) for notice in second.notices] == ["AncientWarning: of old"]


@pytest.mark.parametrize(
    ("edits", "tensor"),
    [
        pytest.param({"gpus": {"count": 8}}, 8, id="a count"),
        pytest.param({"gpus": {"product": H200}}, 4, id="another product"),
        pytest.param({"parallelism": {"tensor": 2, "pipeline": 2}}, 2, id="pinned sizes"),
        pytest.param({"parallelism": {"policy": "Minimal"}}, 2, id="a policy"),
        pytest.param(
            {"workload": {"inputTokens": 6000, "outputTokens": 1000, "concurrency": 80}}, 8, id="a larger workload"
        ),
    ],
)
def test_an_edit_of_the_spec_ends_it(edits: dict[str, Any], tensor: int) -> None:
    first, second = made_and_remade(a_model(), {}, f"1x8x{H100}", edits=edits)
    assert second.layout.tensor == tensor
    assert second.id != first.id


@pytest.mark.parametrize(
    ("groups", "product"),
    [
        pytest.param((f"2x8x{H100}", f"1x8x{H200}"), H200, id="nodes have it"),
        pytest.param((f"2x8x{H100}",), H100, id="no node has it"),
    ],
)
def test_a_product_that_is_named_no_more_stays_where_nodes_have_it(groups: tuple[str, ...], product: str) -> None:
    named, spec = a_spec(gpus={"product": H200}), a_spec()
    in_force = plan(named, some_facts(named, *groups))
    assert isinstance(in_force, Plan)
    again = plan(spec, some_facts(spec, *groups), current=plan_status(in_force))
    assert isinstance(again, Plan)
    assert again.pool.gpu.product == product
    assert (again.id == in_force.id) == (product == H200)


def test_a_product_that_is_named_no_more_stays_where_nothing_is_known_of_nodes() -> None:
    named, spec = a_spec(gpus={"product": H200}), a_spec()
    in_force = plan(named, some_facts(named))
    assert isinstance(in_force, Plan)
    again = plan(spec, replace(some_facts(spec), pools=()), current=plan_status(in_force))
    assert isinstance(again, Plan)
    assert again.id == in_force.id


def test_facts_the_user_corrects_end_it() -> None:
    typed = replace(a_model(), source=Source.SPEC)
    larger = replace(typed, parameters=140_000_000_000)
    first, second = made_and_remade(typed, {}, f"1x8x{H100}", later_model=larger)
    assert second.id != first.id


@pytest.mark.parametrize(
    "told",
    [
        pytest.param({"tensor": 1, "gpus": 1, "gpus_per_pod": 1}, id="131 GiB on one GPU"),
        pytest.param({"tensor": 3, "gpus": 3, "gpus_per_pod": 3}, id="64 heads over 3"),
        pytest.param({"gpu_product": "NVIDIA-H100-9GB"}, id="no such GPU"),
    ],
)
def test_a_plan_that_cannot_be_is_not_kept(told: dict[str, Any]) -> None:
    first, second = made_and_remade(a_model(), {}, f"1x8x{H100}", told=told)
    assert second.layout == first.layout


def test_a_gpu_only_labels_tell_of_is_remembered_while_its_nodes_are_there() -> None:
    spec = a_spec()
    pool = some_facts(spec).pools[0]
    unlisted = replace(some_facts(spec), pools=(GpuPool(gpu=replace(pool.gpu, product="ACME-X1"), gpus_per_node=8),))
    first = plan(spec, unlisted)
    assert isinstance(first, Plan)
    assert plan(spec, unlisted, current=plan_status(first)) == first
