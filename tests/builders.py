"""Test data in few words."""

from __future__ import annotations

from typing import Any

from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.facts import Facts
from trtllm_operator.gather import gather, labels_of
from trtllm_operator.hardware import NodeGroup
from trtllm_operator.plan import Infeasible, Plan, plan

H100 = "NVIDIA-H100-80GB-HBM3"
LLAMA_70B = "hf://meta-llama/Llama-3.3-70B-Instruct"


def a_spec(uri: str = LLAMA_70B, **fields: Any) -> LLMDeploymentSpec:
    return LLMDeploymentSpec.model_validate({"model": {"uri": uri}, **fields}, extra="forbid")


def some_facts(spec: LLMDeploymentSpec, *groups: str) -> Facts:
    return gather(spec, list(labels_of(NodeGroup.parse(group) for group in groups or (f"2x8x{H100}",))))


def a_verdict(spec: LLMDeploymentSpec, *groups: str) -> Plan | Infeasible:
    return plan(spec, some_facts(spec, *groups))


def a_plan(spec: LLMDeploymentSpec | None = None, *groups: str) -> Plan:
    verdict = a_verdict(spec or a_spec(), *groups)
    assert isinstance(verdict, Plan), verdict
    return verdict


def a_refusal(spec: LLMDeploymentSpec, *groups: str) -> Infeasible:
    verdict = a_verdict(spec, *groups)
    assert isinstance(verdict, Infeasible), verdict
    return verdict
