from __future__ import annotations

import json
import logging
import sys

from trtllm_operator.logs import JsonFormatter


def _line(record: logging.LogRecord) -> dict[str, object]:
    line: dict[str, object] = json.loads(JsonFormatter().format(record))
    return line


def _record(**more: object) -> logging.LogRecord:
    record = logging.LogRecord("trtllm_operator.workqueue", logging.WARNING, "x.py", 1, "%s failed", ("a/b",), None)
    record.created = 1767225600.25
    for name, value in more.items():
        setattr(record, name, value)
    return record


def test_a_line_is_one_json_object() -> None:
    assert _line(_record(key="a/b", failures=3)) == {
        "time": "2026-01-01T00:00:00.250+00:00",
        "level": "warning",
        "logger": "trtllm_operator.workqueue",
        "message": "a/b failed",
        "key": "a/b",
        "failures": 3,
    }


def test_a_traceback_stays_on_its_line() -> None:
    try:
        {}["x"]  # type: ignore[typeddict-item]
    except KeyError:
        record = _record(exc_info=sys.exc_info())
    assert "\n" not in JsonFormatter().format(record)
    assert "KeyError: 'x'" in str(_line(record)["exception"])
