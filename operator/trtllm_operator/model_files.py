"""What the files in the ConfigMap of ``spec.model.configMapRef`` tell of a model."""

from __future__ import annotations

from collections.abc import Mapping

from trtllm_operator.api_model import Model
from trtllm_operator.facts import ModelFacts, Source
from trtllm_operator.model_config import CONFIG, INDEX, QUANTIZATION, Unreadable, read_model
from trtllm_operator.models import repository
from trtllm_operator.planned import Infeasible
from trtllm_operator.refusals import Reason

FILES_NOT_READ = frozenset({Reason.MODEL_FILES_MISSING, Reason.MODEL_FILES_UNREADABLE})
"""Reasons that go away when somebody writes the ConfigMap, of which the operator hears nothing."""


def read_model_files(model: Model, files: Mapping[str, str] | None) -> ModelFacts | Infeasible | None:
    """Return the facts, why there are none, or None where the spec names no ConfigMap.

    ``files`` is the ConfigMap's data, None where there is no such ConfigMap.
    """
    if model.config_map_ref is None:
        return None
    name = model.config_map_ref.name
    if files is None:
        return Infeasible(
            reason=Reason.MODEL_FILES_MISSING,
            message=f"spec.model.configMapRef names the ConfigMap {name}, which does not exist in this namespace; "
            f"create it with the key {CONFIG}, or remove the field",
        )
    known = {file: files[file] for file in (CONFIG, INDEX, QUANTIZATION) if file in files}
    facts = read_model(repository(model.uri), known or files, Source.CONFIG_MAP)
    if isinstance(facts, Unreadable):
        return Infeasible(
            reason=Reason.MODEL_FILES_UNREADABLE,
            message=f"the ConfigMap {name} of spec.model.configMapRef tells nothing of the model: {facts}",
        )
    return facts
