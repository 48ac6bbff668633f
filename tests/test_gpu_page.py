"""docs/gpus.md: prose by hand, tables from the data files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from support import ROOT, Golden
from trtllm_operator.api import Dtype
from trtllm_operator.hardware import CatalogueRow, catalogue_rows
from trtllm_operator.precision import Disputed, Supported, Unsupported, kv_cache_support, support

PAGE = ROOT / "docs" / "gpus.md"
MARKER = "rewrite it with `make update`. -->\n"
DATA = ROOT / "operator" / "trtllm_operator" / "data"

WEIGHTS = [
    ("16 bit", Dtype.BFLOAT16, False),
    ("fp8", Dtype.FP8, False),
    ("fp8, block scales", Dtype.FP8, True),
    ("nvfp4", Dtype.NVFP4, False),
    ("mxfp4", Dtype.MXFP4, False),
    ("int4 (AWQ, GPTQ)", Dtype.INT4, False),
    ("int8", Dtype.INT8, False),
]
KV_CACHE = [("fp8 KV cache", Dtype.FP8), ("nvfp4 KV cache", Dtype.NVFP4)]


def test_the_committed_page_is_the_generated_one(golden: Golden) -> None:
    prose, marker, _ = PAGE.read_text(encoding="utf-8").partition(MARKER)
    assert marker, f"{PAGE.name} has lost its marker"
    golden.check_file(PAGE, prose + marker + "\n" + _gpus() + "\n" + _precision())


def _gpus() -> str:
    intro = (
        "Memory is what nvidia-smi totals. Bandwidth and NVLink are GB/s, NVLink in both directions; TFLOPS are\n"
        "16-bit, without sparsity. A figure marked `?` rests on no vendor document and no reading from a node.\n\n"
    )
    head = [
        "GPU",
        "Memory MiB",
        "Compute",
        "Bandwidth",
        "TFLOPS",
        "NVLink",
        "Domain",
        "Per node",
        "Also typed",
        "Label",
    ]
    return intro + _table(head, map(_gpu_cells, catalogue_rows()))


def _gpu_cells(row: CatalogueRow) -> list[str]:
    gpu = row.gpu

    def cell(field: str, value: object) -> str:
        return f"{value} ?" if field in gpu.unverified else str(value)

    return [
        row.name,
        cell("memoryMiB", gpu.memory_mib),
        f"{gpu.compute_major}.{gpu.compute_minor}",
        cell("memoryBandwidthGBps", gpu.memory_bandwidth_gbps),
        cell("denseTflops", gpu.tflops),
        cell("nvlinkGBps", gpu.nvlink_gbps or "-"),
        cell("nvlinkDomain", gpu.nvlink_domain),
        str(gpu.gpus_per_node),
        ", ".join(row.aliases),
        cell("products", ", ".join(f"`{product}`" for product in row.products)),
    ]


def _precision() -> str:
    computes = [
        tuple(map(int, compute.split(".")))
        for row in json.loads((DATA / "precision.json").read_text(encoding="utf-8"))["rows"]
        for compute in row["compute"]
    ]
    notes: dict[str, int] = {}

    def cell(answer: Supported | Unsupported | Disputed) -> str:
        match answer:
            case Unsupported():
                return "-"
            case Supported(note=""):
                return "yes"
            case Supported(note=text) | Disputed(reason=text):
                number = notes.setdefault(text, len(notes) + 1)
                return f"{'yes' if isinstance(answer, Supported) else '?'} ({number})"

    rows = [
        [f"{major}.{minor}"]
        + [cell(support((major, minor), dtype, block=block)) for _, dtype, block in WEIGHTS]
        + [cell(kv_cache_support((major, minor), dtype)) for _, dtype in KV_CACHE]
        for major, minor in computes
    ]
    head = ["Compute", *(name for name, *_ in WEIGHTS), *(name for name, _ in KV_CACHE)]
    listed = "".join(f"{number}. {text}.\n" for text, number in notes.items())
    intro = (
        "## Number formats\n\nWeights come in the format of the checkpoint. `-` is refused; `?` is disputed or said\n"
        "nowhere, and is planned with a warning. Below 8.0 nothing runs; what is not listed is disputed.\n\n"
    )
    return f"{intro}{_table(head, rows)}\n{listed}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
