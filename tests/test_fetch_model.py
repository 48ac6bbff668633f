"""The program of the download Job, run with the real huggingface_hub against a Hub of our own."""

from __future__ import annotations

import errno
import http.server
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest

from support import ROOT
from trtllm_operator import download_job

PROGRAM = ROOT / "operator" / "trtllm_operator" / "data" / "fetch_model.py"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 1000, "original/mp/consolidated.pth": b"twice"}
READ_OFFLINE = (
    "import sys; from huggingface_hub import snapshot_download as s; "
    "print(s(sys.argv[1], revision=(sys.argv[2:] or [None])[0], local_files_only=True, "
    "ignore_patterns=['original/**/*']))"
)
"""What trtllm-serve does when HF_HUB_OFFLINE is 1: download_hf_model in tensorrt_llm/llmapi/utils.py."""


ERRORS: dict[str, tuple[int, dict[str, str]]] = {
    "acme/gated": (403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to acme/gated is restricted"}),
    "acme/nothing": (404, {"X-Error-Code": "RepoNotFound"}),
    "acme/busy": (500, {}),
    "/lost": (404, {"X-Error-Code": "RevisionNotFound"}),
}
"""The errors of the Hub, by a part of the path they answer."""


class Hub(http.server.BaseHTTPRequestHandler):
    """One repository, acme/llm; the others answer with errors."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        path = urlsplit(self.path).path
        code, content, headers = self._found(path)
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _found(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        for part, (code, headers) in ERRORS.items():
            if part in path:
                return code, b"{}", headers
        if path.startswith("/api/models/acme/llm/tree/"):
            tree = [{"type": "file", "path": name, "size": len(text), "oid": name} for name, text in FILES.items()]
            return 200, json.dumps(tree).encode(), {"Content-Type": "application/json"}
        if path.startswith("/api/models/acme/llm"):
            siblings = [{"rfilename": name} for name in FILES]
            told = {"id": "acme/llm", "sha": COMMIT, "siblings": siblings, "tags": [], "private": False, "downloads": 0}
            return 200, json.dumps(told).encode(), {"Content-Type": "application/json"}
        content = FILES[path.partition(f"/resolve/{COMMIT}/")[2]]
        return 200, content, {"ETag": f'"{hash(content):x}"', "X-Repo-Commit": COMMIT}


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def _run(*program: str, hub: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("proxy")}
    environment = {**inherited, "HF_ENDPOINT": hub, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **variables}
    return subprocess.run(
        [sys.executable, *program], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("revision", [[], ["v1"], [COMMIT]], ids=["the default", "a tag", "a commit"])
def test_what_was_fetched_is_found_without_the_hub(hub: str, tmp_path: Path, revision: list[str]) -> None:
    done = _run(str(PROGRAM), "acme/llm", *revision, hub=hub, home=tmp_path)
    assert done.returncode == 0, done.stderr
    found = _run("-c", READ_OFFLINE, "acme/llm", *revision, hub="http://127.0.0.1:9", home=tmp_path, HF_HUB_OFFLINE="1")
    assert found.returncode == 0, found.stderr
    snapshot = Path(found.stdout.strip())
    fetched = {str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file()}
    assert fetched == {"config.json", "model.safetensors"}


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        pytest.param(["acme/gated"], download_job.NO_ACCESS, "acme/gated is restricted", id="gated"),
        pytest.param(["acme/nothing"], download_job.NOT_FOUND, "RepositoryNotFoundError", id="no repository"),
        pytest.param(["acme/llm", "lost"], download_job.NOT_FOUND, "RevisionNotFoundError", id="no revision"),
        pytest.param(["acme/busy"], 1, "500", id="a Hub in trouble"),
    ],
)
def test_a_failure_ends_with_its_reason(hub: str, tmp_path: Path, arguments: list[str], code: int, told: str) -> None:
    done = _run(str(PROGRAM), *arguments, hub=hub, home=tmp_path)
    assert done.returncode == code, done.stderr
    assert told in done.stderr.strip().splitlines()[-1]


def test_a_part_of_a_model_is_not_taken_for_all_of_it_when_the_hub_is_away(hub: str, tmp_path: Path) -> None:
    assert _run(str(PROGRAM), "acme/llm", hub=hub, home=tmp_path).returncode == 0
    (weights,) = tmp_path.rglob("snapshots/*/model.safetensors")
    weights.unlink()
    done = _run(str(PROGRAM), "acme/llm", hub="http://127.0.0.1:9", home=tmp_path)
    assert done.returncode == 1


def test_a_user_who_forbids_the_hub_is_told_what_the_cache_lacks(tmp_path: Path) -> None:
    done = _run(str(PROGRAM), "acme/llm", hub="http://127.0.0.1:9", home=tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert "LocalEntryNotFoundError" in done.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch_model", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_snapshot_that_lacks_files_is_an_error(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before huggingface_hub 1.0 a snapshot that exists is returned without a look at its files."""
    (tmp_path / "config.json").touch()
    monkeypatch.setattr(program, "_files", lambda *_: list(FILES))
    monkeypatch.setattr(program, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"1 of 2 files are missing, the first is model\.safetensors"):
        program._fetch("acme/llm", None)


def _caused_by(cause: Exception) -> RuntimeError:
    error = RuntimeError("the file could not be fetched")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(OSError(errno.ENOSPC, "No space left on device"), download_job.NO_SPACE, id="a full volume"),
        pytest.param(OSError(errno.EDQUOT, "Disk quota exceeded"), download_job.NO_SPACE, id="a spent quota"),
        pytest.param(_caused_by(OSError(errno.ENOSPC, "full")), download_job.NO_SPACE, id="what led to it counts"),
        pytest.param(ConnectionResetError(errno.ECONNRESET, "reset"), 1, id="a lost connection"),
    ],
)
def test_exit_codes(program: ModuleType, error: Exception, code: int) -> None:
    assert program._exit_code(error) == code


def test_signatures_of_addresses_are_not_told(program: ModuleType) -> None:
    told = program._reason(RuntimeError("404 for https://cdn.example.com/a/b?X-Amz-Signature=abc&Key=1\nagain"))
    assert told == "RuntimeError: 404 for https://cdn.example.com/a/b?... again"


def test_what_is_on_disk_is_counted(program: ModuleType, tmp_path: Path) -> None:
    assert program._bytes_on_disk(tmp_path / "blobs") == 0
    (tmp_path / "blob").write_bytes(b"x" * 100_000)
    assert program._bytes_on_disk(tmp_path) >= 100_000
