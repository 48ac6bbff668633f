"""docs/models.md: prose by hand, the table from the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from support import ROOT, Golden
from test_model_config import PUBLISHED
from test_models import NOT_BY_SHAPE
from trtllm_operator.models import CatalogueRow, catalogue_rows

PAGE = ROOT / "docs" / "models.md"
MARKER = "rewrite it with `make update`. -->\n"
HEAD = "| Model | Parameters | Layers | Heads / KV | Experts | Longest sequence | Checkpoints | Shape | Notes |\n"


def test_the_committed_page_is_the_generated_one(golden: Golden) -> None:
    prose, marker, _ = PAGE.read_text(encoding="utf-8").partition(MARKER)
    assert marker, f"{PAGE.name} has lost its marker"
    table = HEAD + "|---|---|---|---|---|---|---|---|---|\n" + "".join(_lines())
    golden.check_file(PAGE, prose + marker + "\n" + table)


def _lines() -> Iterator[str]:
    for row in catalogue_rows():
        facts = row.checkpoints[0]
        heads = "MLA" if facts.latent_attention else f"{facts.attention_heads} / {facts.kv_heads or '?'}"
        experts = "" if facts.experts is None else f"{facts.experts.count}, {facts.experts.active} active"
        dtypes = ", ".join(dict.fromkeys(str(checkpoint.checkpoint_dtype) for checkpoint in row.checkpoints))
        cells = [
            row.name,
            f"{(facts.parameters or 0) / 1e9:.1f}B",
            str(facts.layers),
            heads,
            experts,
            str(facts.max_position_embeddings),
            dtypes,
            _checked(row),
            "; ".join(facts.notes),
        ]
        yield f"| {' | '.join(cells)} |\n"


def _checked(row: CatalogueRow) -> str:
    if any(facts.name in _read() for facts in row.checkpoints):
        return "config"
    return "?" if row.name in NOT_BY_SHAPE else "parameters"


@cache
def _read() -> frozenset[str]:
    return frozenset(path.stem.replace("--", "/") for path in PUBLISHED)
