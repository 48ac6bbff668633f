from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from trtllm_operator.api import Dtype, Interconnect, ParallelismMode, ParallelismPolicy, Shape
from trtllm_operator.checkpoints import Checkpoint, described, named, of_size, shape_of
from trtllm_operator.desk import Flags, Misuse, manifest, node_groups, object_name, parameters_of
from trtllm_operator.documents import document
from trtllm_operator.facts import Experts, LatentAttention, ModelFacts, StateSpace
from trtllm_operator.gather import gather
from trtllm_operator.memory import weight_bytes
from trtllm_operator.models import CatalogueRow, at_dtype, catalogue_rows
from trtllm_operator.shorthand import GpuGroup, Misread, parse_gpus

H100 = "NVIDIA-H100-80GB-HBM3"
RTX_4090 = "NVIDIA-GeForce-RTX-4090"
RTX_3090 = "NVIDIA-GeForce-RTX-3090"
LLAMA = Checkpoint(name="meta-llama/Llama-3.1-70B", uri="hf://meta-llama/Llama-3.1-70B")
NOT_STATED = {"name", "source", "provenance", "siblings", "notes"}
ON_8_H100 = {"product": H100, "maxCount": 8}


def _gpus(text: str) -> tuple[GpuGroup, ...]:
    groups = parse_gpus(text)
    assert not isinstance(groups, Misread), groups
    return groups


def _manifest(checkpoint: Checkpoint, gpus: str = "8xH100", **flags: Any) -> dict[str, Any]:
    made = manifest(checkpoint, Flags(gpus=_gpus(gpus), **flags))
    assert not isinstance(made, Misuse), made
    return made


def _spec(gpus: str = "8xH100", checkpoint: Checkpoint = LLAMA, **flags: Any) -> dict[str, Any]:
    made = _manifest(checkpoint, gpus, **flags)
    document(made)
    spec: dict[str, Any] = made["spec"]
    return spec


@pytest.mark.parametrize(
    ("gpus", "flags", "expected"),
    [
        pytest.param("8xH100", {}, ON_8_H100, id="a budget"),
        pytest.param("2x8xH100", {}, {"product": H100, "maxCount": 16, "perNode": 8}, id="nodes"),
        pytest.param("8xH100", {"gpus_per_node": 4}, {**ON_8_H100, "perNode": 4}, id="GPUs per node"),
        pytest.param(
            "2x8xH100", {"gpus_per_node": 8}, {"product": H100, "maxCount": 16, "perNode": 8}, id="said twice"
        ),
        pytest.param("8xH100", {"count": 4}, {"product": H100, "count": 4}, id="exactly four"),
        pytest.param("8xH100", {"all_gpus": True}, {"product": H100, "count": 8}, id="all of them"),
        pytest.param(
            "999x8xH100", {}, {"product": H100, "maxCount": 1024, "perNode": 8}, id="more than one replica may use"
        ),
        pytest.param(
            "8xH100", {"interconnect": Interconnect.PCIE}, {**ON_8_H100, "interconnect": "PCIe"}, id="interconnect"
        ),
        pytest.param(
            "2x4090,1x3090",
            {"mode": ParallelismMode.PIPELINE},
            {
                "pools": [{"product": RTX_4090, "count": 2}, {"product": RTX_3090, "count": 1}],
                "allowHeterogeneous": True,
            },
            id="one pipeline over two products",
        ),
        pytest.param("2x4090,1x3090", {"count": 1}, {"count": 1}, id="a choice of pools names none"),
    ],
)
def test_gpus(gpus: str, flags: dict[str, Any], expected: dict[str, Any]) -> None:
    assert _spec(gpus, **flags)["gpus"] == expected


@pytest.mark.parametrize(
    ("flags", "section", "expected"),
    [
        pytest.param({"tensor": 4, "pipeline": 2}, "parallelism", {"tensor": 4, "pipeline": 2}, id="pinned"),
        pytest.param({"expert": 2, "context": 2}, "parallelism", {"expert": 2, "context": 2}, id="expert and context"),
        pytest.param(
            {"policy": ParallelismPolicy.MINIMAL, "mode": ParallelismMode.TENSOR},
            "parallelism",
            {"policy": "Minimal", "mode": "Tensor"},
            id="policy and mode",
        ),
        pytest.param(
            {"max_seq_len": 8192, "max_batch_size": 64, "max_num_tokens": 4096, "kv_cache_dtype": Dtype.FP8},
            "engine",
            {"maxSeqLen": 8192, "maxBatchSize": 64, "maxNumTokens": 4096, "kvCacheDtype": "fp8"},
            id="engine",
        ),
        pytest.param(
            {"input_tokens": 4000, "output_tokens": 1000, "concurrency": 16},
            "workload",
            {"inputTokens": 4000, "outputTokens": 1000, "concurrency": 16},
            id="workload",
        ),
    ],
)
def test_sections(flags: dict[str, Any], section: str, expected: dict[str, Any]) -> None:
    assert _spec(**flags) == {"model": {"uri": LLAMA.uri}, "gpus": ON_8_H100, section: expected}


def test_tensor_mode_over_several_products_is_one_tensor_parallel_group() -> None:
    assert _spec("2x4090,1x3090", mode=ParallelismMode.TENSOR)["parallelism"] == {"mode": "Tensor", "tensor": 3}


@pytest.mark.parametrize(
    ("gpus", "flags", "named_flags"),
    [
        pytest.param("2x8xH100", {"gpus_per_node": 4}, ["--gpus", "8", "--gpus-per-node", "4"], id="two node sizes"),
        pytest.param("8xH100", {"all_gpus": True, "count": 4}, ["--all-gpus", "8", "--count", "4"], id="two counts"),
        pytest.param("8xH100", {"count": 16}, ["--count", "16", "8"], id="more than there are"),
        pytest.param("2x4090,1x3090", {"all_gpus": True}, ["--mode pipeline"], id="one replica over two products"),
        pytest.param("8xH100", {"concurrency": 4}, ["--input-tokens"], id="concurrency alone"),
        pytest.param("8xH100", {"input_tokens": 4}, ["--output-tokens"], id="prompts alone"),
        pytest.param(
            "8xH100",
            {"input_tokens": 8000, "output_tokens": 1000, "max_seq_len": 8192},
            ["9000", "8192"],
            id="longer than the longest sequence",
        ),
    ],
)
def test_contradictions_name_the_flags(gpus: str, flags: dict[str, Any], named_flags: list[str]) -> None:
    misuse = manifest(LLAMA, Flags(gpus=_gpus(gpus), **flags))
    assert isinstance(misuse, Misuse)
    for flag in named_flags:
        assert flag in misuse.sentence


@pytest.mark.parametrize(
    ("gpus", "per_node", "expected"),
    [
        pytest.param("8xH100", None, [f"1x8x{H100}"], id="one node"),
        pytest.param("3xH100", None, [f"1x3x{H100}"], id="a node that is not full"),
        pytest.param("16xH100", None, [f"2x8x{H100}"], id="full nodes"),
        pytest.param("16xH100", 4, [f"4x4x{H100}"], id="nodes of four"),
        pytest.param("2x4xH100", None, [f"2x4x{H100}"], id="as said"),
        pytest.param("2x4090,1x3090", None, [f"1x2x{RTX_4090}", f"1x1x{RTX_3090}"], id="two products"),
    ],
)
def test_nodes(gpus: str, per_node: int | None, expected: list[str]) -> None:
    groups = node_groups(_gpus(gpus), per_node)
    assert not isinstance(groups, Misuse)
    assert [str(group) for group in groups] == expected


def test_gpus_that_fill_no_nodes_are_refused() -> None:
    misuse = node_groups(_gpus("12xH100"), None)
    assert isinstance(misuse, Misuse)
    assert "12 GPUs do not fill nodes of 8" in misuse.sentence


@pytest.mark.parametrize(
    ("billions", "parameters"),
    [pytest.param(405, 405_000_000_000, id="whole"), pytest.param(0.5, 500_000_000, id="half a billion")],
)
def test_parameters(billions: float, parameters: int) -> None:
    assert parameters_of(billions) == parameters


@pytest.mark.parametrize("billions", [0, -1, float("nan"), float("inf"), 1e305])
def test_what_is_no_number_of_parameters(billions: float) -> None:
    assert isinstance(parameters_of(billions), Misuse)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        pytest.param("meta-llama/Llama-3.1-70B", "llama-3-1-70b", id="repository"),
        pytest.param("405b", "model-405b", id="starts with a digit"),
        pytest.param("x" * 80, "x" * 40, id="too long"),
        pytest.param("a" * 39 + "-b", "a" * 39, id="cut at a dash"),
        pytest.param("Modèle/été", "t", id="letters outside ASCII"),
        pytest.param("org/___", "model", id="nothing left"),
    ],
)
def test_object_names(model: str, name: str) -> None:
    assert object_name(model) == name


@pytest.mark.parametrize(
    ("name", "dtype", "uri"),
    [
        pytest.param("Llama-3.1-70B", None, "hf://meta-llama/Llama-3.1-70B", id="short name"),
        pytest.param("META-LLAMA/llama-3.1-70b", None, "hf://meta-llama/Llama-3.1-70B", id="any case"),
        pytest.param("Llama-3.1-70B", Dtype.FLOAT16, "hf://meta-llama/Llama-3.1-70B", id="16 bit is 16 bit"),
        pytest.param("Llama-3.1-70B", Dtype.FP8, "hf://nvidia/Llama-3.1-70B-Instruct-FP8", id="a known checkpoint"),
        pytest.param("someone/model", Dtype.FP8, "hf://someone/model", id="unknown repository"),
    ],
)
def test_checkpoints_that_need_no_shape(name: str, dtype: Dtype | None, uri: str) -> None:
    found = named(name, dtype)
    assert isinstance(found, Checkpoint)
    assert (found.uri, found.dtype, dict(found.shape)) == (uri, dtype, {})


def test_a_dtype_nobody_published_is_stated_by_shape() -> None:
    found = named("Mixtral-8x22B", Dtype.FP8)
    assert isinstance(found, Checkpoint)
    assert found.uri == "hf://placeholder/Mixtral-8x22B-v0.1-fp8"
    assert (found.shape["layers"], found.shape["experts"]) == (56, 8)
    assert "no checkpoint of mistralai/Mixtral-8x22B-v0.1 in fp8 is known" in found.notes[0]
    assert "set spec.model.uri" in found.notes[1]


@pytest.mark.parametrize("dtype", [Dtype.FP8, Dtype.INT4, Dtype.NVFP4])
@pytest.mark.parametrize("row", catalogue_rows(), ids=lambda row: row.name)
def test_the_object_of_any_model_in_any_dtype_states_what_is_known_of_it(row: CatalogueRow, dtype: Dtype) -> None:
    checkpoint = named(row.name, dtype)
    assert isinstance(checkpoint, Checkpoint)
    stated = gather(document(_manifest(checkpoint)).spec, ()).model
    assert isinstance(stated, ModelFacts)
    known = at_dtype(row.checkpoints[0], dtype)
    # A shape has a head width even where none is known, and a note says what it has no field for.
    unsaid = {"state_space", "experts", "dense_layers", "gated"} | ({"head_dim"} if known.head_dim is None else set())
    apart = unsaid if checkpoint.shape else set()
    for field in {each.name for each in fields(ModelFacts)} - NOT_STATED - apart:
        assert getattr(stated, field) == getattr(known, field), field
    if not any("spec.model.shape has no field" in note for note in checkpoint.notes):
        assert weight_bytes(stated) == weight_bytes(known)


def test_a_size_alone_names_models_of_that_size() -> None:
    found = of_size(70_000_000_000, Dtype.INT4)
    assert dict(found.shape) == {"parameters": 70_000_000_000}
    assert found.name == "70b"
    assert "Llama-3.1-70B" in found.notes[0]


@pytest.mark.parametrize("name", ["Llama-3.1-7B", "../etc", "a/b/c", "[red]x[/red]", "", "a b/c"])
def test_names_that_are_no_model(name: str) -> None:
    assert isinstance(named(name, None), Misread)


EVERYTHING = ModelFacts(
    name="org/everything",
    architecture="EverythingForCausalLM",
    parameters=1_000_000_001,
    weight_bytes=1_000_000_002,
    checkpoint_dtype=Dtype.FP8,
    quantization_block=128,
    kv_cache_dtype=Dtype.FP8,
    layers=3,
    hidden_size=4,
    intermediate_size=5,
    attention_heads=6,
    kv_heads=7,
    head_dim=8,
    vocab_size=9,
    tied_embeddings=True,
    max_position_embeddings=10,
    experts=Experts(count=11, intermediate_size=12, layers=13),
    latent_attention=LatentAttention(kv_lora_rank=14, q_lora_rank=15, rope_head_dim=16),
    attention_layers=17,
    sliding_window=18,
    sliding_layers=19,
)


def test_the_shape_states_every_fact_there_is_a_field_for() -> None:
    shape = Shape.model_validate(shape_of(EVERYTHING), extra="forbid")
    assert shape.model_dump(exclude_none=True).keys() == Shape.model_fields.keys()
    for field in Shape.model_fields.keys() & {each.name for each in fields(ModelFacts)} - {"experts"}:
        assert getattr(shape, field) == getattr(EVERYTHING, field), field
    assert (shape.experts, shape.expert_intermediate_size, shape.expert_layers) == (11, 12, 13)
    assert (shape.kv_lora_rank, shape.q_lora_rank, shape.rope_head_dim) == (14, 15, 16)


def test_the_format_of_the_kv_cache_goes_along() -> None:
    spec = _spec(checkpoint=described(EVERYTHING, "everything"))
    assert spec["engine"] == {"kvCacheDtype": "fp8"}
    assert _spec(checkpoint=described(EVERYTHING, "everything"), kv_cache_dtype=Dtype.BFLOAT16)["engine"] == {
        "kvCacheDtype": "bfloat16"
    }


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        pytest.param(
            {"state_space": StateSpace(layers=1, heads=1, head_dim=1, state_dim=1, conv_dim=1, conv_kernel=1)},
            "recurrent state",
            id="hybrid",
        ),
        pytest.param({"experts": Experts(count=8, matrices=2)}, "not gated", id="experts that are not gated"),
        pytest.param({"head_dim": None, "latent_attention": None}, "hiddenSize / attentionHeads", id="head width"),
        pytest.param({"notes": ("a guess",)}, "a guess", id="what is unverified"),
        pytest.param({"only_experts_quantized": True, "weight_bytes": None}, "16 bit", id="only experts quantised"),
    ],
)
def test_what_a_shape_cannot_state_is_said(facts: dict[str, Any], said: str) -> None:
    notes = described(replace(EVERYTHING, **facts), "everything").notes
    assert any(said in note for note in notes)
    assert not any(said in note for note in described(EVERYTHING, "everything").notes)
