from __future__ import annotations

import pytest

from trtllm_operator.api import Dtype
from trtllm_operator.hardware import CatalogueRow, catalogue_rows
from trtllm_operator.precision import Disputed, Supported, Unsupported, kv_cache_support, support

AMPERE, ADA, HOPPER, B200, B300, RTX_PRO, SPARK = (8, 0), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0), (12, 1)
SIXTEEN_BIT = {AMPERE, (8, 6), ADA, HOPPER, B200, B300, RTX_PRO, SPARK}


@pytest.mark.parametrize(
    ("dtype", "block", "runs", "disputed"),
    [
        pytest.param(Dtype.BFLOAT16, False, SIXTEEN_BIT, set(), id="bfloat16"),
        pytest.param(Dtype.FLOAT16, False, SIXTEEN_BIT, set(), id="float16"),
        pytest.param(Dtype.FP8, False, {ADA, HOPPER, B200, B300, RTX_PRO}, {SPARK}, id="fp8"),
        pytest.param(Dtype.FP8, True, {HOPPER, B200, B300}, {SPARK}, id="fp8 block"),
        pytest.param(Dtype.NVFP4, False, {B200, B300, RTX_PRO}, {SPARK}, id="nvfp4"),
        pytest.param(Dtype.MXFP4, False, {HOPPER, B200, B300, RTX_PRO}, {SPARK}, id="mxfp4"),
        pytest.param(Dtype.INT4, False, {AMPERE, (8, 6), ADA, HOPPER}, {B200, B300, SPARK}, id="int4"),
        pytest.param(Dtype.INT8, False, set(), SIXTEEN_BIT, id="int8"),
    ],
)
def test_weights(dtype: Dtype, block: bool, runs: set[tuple[int, int]], disputed: set[tuple[int, int]]) -> None:
    answers = {compute: support(compute, dtype, block=block) for compute in SIXTEEN_BIT}
    assert {compute for compute, answer in answers.items() if isinstance(answer, Supported)} == runs
    assert {compute for compute, answer in answers.items() if isinstance(answer, Disputed)} == disputed


@pytest.mark.parametrize(
    ("dtype", "runs", "disputed"),
    [
        pytest.param(Dtype.BFLOAT16, SIXTEEN_BIT, set(), id="bfloat16"),
        pytest.param(Dtype.FP8, SIXTEEN_BIT - {SPARK}, {SPARK}, id="fp8"),
        pytest.param(Dtype.NVFP4, {B200, B300}, {SPARK}, id="nvfp4"),
        pytest.param(Dtype.INT8, set(), set(), id="int8"),
    ],
)
def test_kv_cache(dtype: Dtype, runs: set[tuple[int, int]], disputed: set[tuple[int, int]]) -> None:
    answers = {compute: kv_cache_support(compute, dtype) for compute in SIXTEEN_BIT}
    assert {compute for compute, answer in answers.items() if isinstance(answer, Supported)} == runs
    assert {compute for compute, answer in answers.items() if isinstance(answer, Disputed)} == disputed


@pytest.mark.parametrize("dtype", [dtype for dtype in Dtype if dtype != Dtype.AUTO])
@pytest.mark.parametrize("block", [False, True])
def test_nothing_runs_below_the_minimum_and_newer_gpus_are_disputed(dtype: Dtype, block: bool) -> None:
    assert support((7, 5), dtype, block=block) == Unsupported(
        "TensorRT-LLM needs compute capability 8.0 or newer, not 7.5"
    )
    assert isinstance(support((13, 0), dtype, block=block), Disputed)


@pytest.mark.parametrize("block", [False, True])
def test_block_scales_matter_to_fp8_alone(block: bool) -> None:
    assert support(ADA, Dtype.BFLOAT16, block=block) == Supported()
    assert support(RTX_PRO, Dtype.NVFP4, block=block) == Supported()


def test_a_refusal_says_where_it_would_run() -> None:
    assert support(ADA, Dtype.FP8, block=True) == Unsupported(
        "TensorRT-LLM has no kernels for fp8-block weights on compute capability 8.9, only on 9.0, 10.0, 10.3"
    )
    assert kv_cache_support(HOPPER, Dtype.INT8) == Unsupported("TensorRT-LLM has no int8 KV cache")


def test_a_condition_comes_with_the_answer() -> None:
    answer = support(HOPPER, Dtype.MXFP4)
    assert isinstance(answer, Supported)
    assert "TRITON" in answer.note


@pytest.mark.parametrize("ask", [support, kv_cache_support])
def test_auto_is_no_format(ask: object) -> None:
    assert callable(ask)
    with pytest.raises(ValueError, match="auto names no"):
        ask(HOPPER, Dtype.AUTO)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in catalogue_rows()])
def test_every_gpu_of_the_catalogue_is_in_the_matrix_or_too_old(row: CatalogueRow) -> None:
    answer = support(row.gpu.compute, Dtype.BFLOAT16)
    assert isinstance(answer, Unsupported if row.gpu.compute < (8, 0) else Supported)
