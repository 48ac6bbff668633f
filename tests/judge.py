"""What becomes of any LLMDeployment at all: refused by the API server, refused by the operator, or rendered.

There is no fourth. Whatever is rendered is taken by the API server, and so is the status that is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from builders import H100
from cel_files import rule_files
from control_plane import Cluster, Manifest, as_yaml
from schemas import problems
from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.api_status import LLMDeploymentStatus
from trtllm_operator.documents import read_documents
from trtllm_operator.gather import gather, offers_of
from trtllm_operator.hardware import NodeGroup
from trtllm_operator.plan import plan
from trtllm_operator.planned import Infeasible, Plan
from trtllm_operator.render import Owner, render
from trtllm_operator.settings import Settings
from trtllm_operator.status import Outcome, status

NODES = offers_of(NodeGroup.parse(group) for group in (f"2x8x{H100}", "2x4xNVIDIA-L40S"))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RULES = list(rule_files().values())


class Fate(StrEnum):
    REJECTED = "rejected by the API server"
    REFUSED = "refused by the operator"
    RENDERED = "rendered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Who decided, and what was said."""

    fate: Fate
    message: str = ""


def judge(cluster: Cluster, manifest: Manifest) -> Judgement:
    """Take an object all the way the operator takes it; fail where something breaks on it."""
    code, stored = cluster.dry_run(manifest)
    if code not in {200, 201}:
        assert code in {400, 422, 500}, stored  # 500: a typed patch that cannot be made, told as such
        return Judgement(fate=Fate.REJECTED, message=stored["message"])
    spec = LLMDeploymentSpec.model_validate(stored["spec"])
    verdict = plan(spec, gather(spec, NODES))
    _assert_tellable({**manifest, "spec": stored["spec"]}, verdict)
    owner = Owner(name=manifest["metadata"]["name"], namespace="default")
    children = verdict if isinstance(verdict, Infeasible) else render(owner, spec, verdict, Settings())
    if isinstance(children, Infeasible):
        return Judgement(fate=Fate.REFUSED, message=f"{children.reason}: {children.message}")
    assert isinstance(verdict, Plan)
    refusals = [refusal for child in children if (refusal := cluster.refusal(child)) is not None]
    assert not refusals, refusals
    return Judgement(fate=Fate.RENDERED, message=verdict.summary)


def _assert_tellable(manifest: Manifest, verdict: Plan | Infeasible) -> None:
    told = status(LLMDeploymentStatus(), "llama", 1, Outcome(verdict=verdict), NOW)
    written = told.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    assert problems({**manifest, "status": written}) == []


def desk_disagrees(manifest: Manifest, judgement: Judgement) -> Sequence[str]:
    """Return what the command line says of an object when the API server says otherwise.

    Only the API server knows the rules over several fields, and it takes a null where it has a default: neither is a
    disagreement.
    """
    said = [problem.message for problem in read_documents(as_yaml(manifest)).problems]
    rejected = judgement.fate == Fate.REJECTED
    if not rejected:
        said = [message for message in said if not message.endswith(": has no value; give it one or remove it")]
    if rejected == bool(said) or (rejected and any(rule.speaks_in(judgement.message) for rule in RULES)):
        return ()
    return said or [f"valid, but: {judgement.message}"]
