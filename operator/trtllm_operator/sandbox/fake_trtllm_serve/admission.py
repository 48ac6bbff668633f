"""Everything that is decided before anything is loaded: whether this command can start at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtllm_operator.sandbox.fake_trtllm_serve import configuration, topology
from trtllm_operator.sandbox.fake_trtllm_serve.command_line import parse
from trtllm_operator.sandbox.fake_trtllm_serve.environment import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A command the real server would start with: the options in force, the model's id and where to listen."""

    model_id: str
    host: str
    port: int
    config: dict[str, Any]


def admit(arguments: Sequence[str], environment: Environment) -> Admitted:
    """Return what a command means.

    Raises click.UsageError for the command line, OSError or yaml.YAMLError for the file, pydantic.ValidationError for
    its keys, and ValueError, AssertionError or RuntimeError for values and sizes that cannot be served.
    """
    command = parse(arguments, environment.release)
    config = configuration.effective(command.given, environment.release)
    topology.check(command.model, config, gpus=environment.gpus, ranks=environment.ranks)
    return Admitted(
        model_id=command.given.get("served_model_name") or _model_id(command.model),
        host=command.given.get("host", "localhost"),
        port=command.given.get("port", 8000),
        config=config,
    )


def _model_id(model: str) -> str:
    """Return a local path's last part, else the model's name."""
    return Path(model).name if Path(model).is_dir() else model
