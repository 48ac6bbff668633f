"""Where the command line finds a model: a directory with its files, the Hub when asked to, else the catalogue."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from trtllm_operator.api import Dtype
from trtllm_operator.checkpoints import Checkpoint, from_files, is_repository, named
from trtllm_operator.facts import Source
from trtllm_operator.model_config import CONFIG, INDEX, QUANTIZATION, Unreadable, read_model
from trtllm_operator.models import find_model
from trtllm_operator.shorthand import Misread

_MOST_CHARACTERS = 50_000_001
"""One more than model_config reads of the largest file."""


class SourceError(Exception):
    """A directory or the Hub tells nothing of the model; the text says why."""


def find_checkpoint(name: str, dtype: Dtype | None, *, ask_hub: bool) -> Checkpoint | Misread:
    """Return the checkpoint behind a directory, a repository or a short name.

    Raises SourceError where the directory's files cannot be read or the Hub does not answer. The Hub is that of
    $HF_ENDPOINT, asked with $HF_TOKEN.
    """
    directory = Path(name)
    if name and directory.is_dir():
        return _of_directory(directory, dtype)
    if not ask_hub:
        return named(name, dtype)
    known = find_model(name)
    repository = known.name if known is not None else name
    if not is_repository(repository):
        return Misread(text=name, expected="ORGANISATION/NAME, which the Hub knows models by")
    return _of_hub(repository, dtype)


def _of_directory(directory: Path, dtype: Dtype | None) -> Checkpoint:
    present = [file for file in (CONFIG, INDEX, QUANTIZATION) if (directory / file).is_file()]
    try:
        files = {file: _text(directory / file) for file in present}
    except (OSError, ValueError) as error:
        raise SourceError(f"{directory}: {error}") from error
    return _from_files(directory.resolve().name, files, dtype, repository=None)


def _text(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(_MOST_CHARACTERS)


def _of_hub(repository: str, dtype: Dtype | None) -> Checkpoint:
    # Only --hub pays for these imports.
    import asyncio  # noqa: PLC0415

    from trtllm_operator.hub import HubError, hub_fetch  # noqa: PLC0415

    async def fetch() -> Mapping[str, str]:
        ask = hub_fetch(token=os.environ.get("HF_TOKEN"), endpoint=os.environ.get("HF_ENDPOINT"))
        return await ask(repository, None)

    try:
        files = asyncio.run(fetch())
    except HubError as error:
        raise SourceError(f"--hub: {error}") from error
    return _from_files(repository, files, dtype, repository=repository)


def _from_files(name: str, files: Mapping[str, str], dtype: Dtype | None, repository: str | None) -> Checkpoint:
    facts = read_model(name, files, Source.HUB)
    if isinstance(facts, Unreadable):
        raise SourceError(f"{name}: {facts}")
    return from_files(facts, dtype, repository)
