"""Fetch one repository of the Hub into its cache: ``REPOSITORY [REVISION]``. The program of the download Job.

It runs in the engine's image and makes the call that trtllm-serve makes (download_hf_model in
tensorrt_llm/llmapi/utils.py), so that trtllm-serve finds the files without the Hub. A library call, since the command
was renamed from huggingface-cli to hf between the releases of huggingface_hub that engine images hold.
"""

import errno
import fnmatch
import os
import re
import sys
import threading
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download

RETRY, NO_ACCESS, NOT_FOUND, NO_SPACE = 1, 10, 11, 12
"""Exit codes; only the first is worth another attempt."""

_LEFT_OUT = "original/**/*"
"""trtllm-serve's own pattern: huggingface_hub refuses a snapshot, offline, that lacks what the pattern lets through."""

_SECONDS_BETWEEN_REPORTS = 30
_LONGEST_REASON = 1000


def main(repository: str, revision: str | None = None) -> int:
    """Fetch, and return an exit code; the last line on standard error says why it is not 0."""
    done = threading.Event()
    threading.Thread(target=_report, args=(repository, done), daemon=True).start()
    try:
        _fetch(repository, revision)
    except Exception as error:  # noqa: BLE001 - whatever it is, the last line tells
        done.set()
        print(_reason(error), file=sys.stderr, flush=True)
        return _exit_code(error)
    return 0


def _fetch(repository: str, revision: str | None) -> None:
    """Fetch what is missing. Raises what huggingface_hub raises, and FileNotFoundError for an incomplete snapshot.

    Without an answer of the Hub snapshot_download returns what an earlier attempt left, however little that is.
    """
    files = [] if constants.HF_HUB_OFFLINE else _files(repository, revision)
    snapshot = Path(snapshot_download(repository, revision=revision, ignore_patterns=[_LEFT_OUT]))
    wanted = [file for file in files if not fnmatch.fnmatchcase(file, _LEFT_OUT)]
    missing = [file for file in wanted if not (snapshot / file).exists()]
    if missing:
        raise FileNotFoundError(f"{len(missing)} of {len(wanted)} files are missing, the first is {missing[0]}")


def _files(repository: str, revision: str | None) -> list[str]:
    return [sibling.rfilename for sibling in HfApi().model_info(repository, revision=revision).siblings or ()]


def _report(repository: str, done: threading.Event) -> None:
    blobs = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "blobs"
    while not done.wait(_SECONDS_BETWEEN_REPORTS):
        print(f"{_bytes_on_disk(blobs) / 2**30:.1f} GiB of {repository} are on the volume", flush=True)


def _bytes_on_disk(directory: Path) -> int:
    try:
        return sum(entry.stat().st_blocks * 512 for entry in os.scandir(directory))
    except FileNotFoundError:  # not begun yet, or a file was finished meanwhile
        return 0


def _reason(error: Exception) -> str:
    """Return the error as one line, without the signatures that the URLs of a content network carry."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return re.sub(r"\?\S+", "?...", text)[:_LONGEST_REASON]


def _exit_code(error: BaseException | None) -> int:
    """Tell from the error, or from what led to it, whether somebody has to change something."""
    if error is None:
        return RETRY
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return NO_SPACE
    answered = getattr(getattr(error, "response", None), "status_code", RETRY)
    return {401: NO_ACCESS, 403: NO_ACCESS, 404: NOT_FOUND}.get(answered) or _exit_code(error.__cause__)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
