"""The CRDs of Flux are copies, and of the releases whose controllers are built."""

from __future__ import annotations

import hashlib
import json
import lzma
from typing import Any

import pytest

from flux import CRD_FILES
from trtllm_operator.sandbox.toolsets import flux

PINS: dict[str, dict[str, Any]] = json.loads((CRD_FILES / "pins.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PINS)
def test_crds_are_those_of_the_pin(name: str) -> None:
    content = lzma.decompress((CRD_FILES / f"{name}.yaml.xz").read_bytes())
    assert hashlib.sha256(content).hexdigest() == PINS[name]["sha256"]


@pytest.mark.parametrize("controller", flux().packages)
def test_a_controller_is_built_from_the_module_its_crds_come_from(controller: str) -> None:
    pin = PINS[controller]
    assert f"{pin['module']} {pin['version']} {pin['sum']}\n" in flux().go_sum()
