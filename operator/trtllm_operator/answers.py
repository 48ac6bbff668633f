"""What the offline commands answer for one LLMDeployment. The planner is asked here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.documents import Document
from trtllm_operator.engine import EngineCommand, command
from trtllm_operator.engine_versions import find_release
from trtllm_operator.facts import Facts
from trtllm_operator.gather import gather
from trtllm_operator.plan import plan, survey
from trtllm_operator.planned import Infeasible, Plan, Rejection
from trtllm_operator.pod import image_tag
from trtllm_operator.pools import Offer
from trtllm_operator.replica import worker_refusal
from trtllm_operator.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A plan or a refusal. ``notes`` are what to know about the question, such as a checkpoint that need not exist."""

    document: Document
    facts: Facts
    verdict: Plan | Infeasible
    notes: tuple[str, ...] = ()

    @property
    def manifest(self) -> dict[str, Any]:
        """The object that gives this plan wherever there are such GPUs: the product chosen between is written down."""
        manifest = self.document.manifest
        gpus = self.document.spec.gpus
        if isinstance(self.verdict, Plan) and not (gpus and (gpus.product or gpus.pools)):
            stated = manifest["spec"].get("gpus", {})
            manifest["spec"]["gpus"] = {**stated, "product": self.verdict.pool.gpu.product}
        return manifest


def answer(document: Document, offers: Sequence[Offer], notes: tuple[str, ...] = ()) -> Answer:
    """Plan one LLMDeployment on nodes that offer this; without any, on the GPUs its spec names."""
    facts = gather(document.spec, offers)
    verdict = plan(document.spec, facts)
    return Answer(document=document, facts=facts, verdict=verdict, notes=(*notes, *_about_serving(document, verdict)))


def _about_serving(document: Document, verdict: Plan | Infeasible) -> tuple[str, ...]:
    """Say why the operator would not serve a plan, or what to know of the release that would."""
    if isinstance(verdict, Infeasible):
        return ()
    refused = worker_refusal(verdict)
    if refused is not None:
        return (f"{refused.reason}: {refused.message}",)
    run = command(document.name, document.spec, verdict, find_release(image_tag(document.spec, Settings())))
    return run.warnings if isinstance(run, EngineCommand) else (f"{run.reason}: {run.message}",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Every layout looked at on one GPU product, in order of preference, and what was decided there.

    ``candidates`` is empty where the product, or the whole spec, was refused before any layout was looked at.
    """

    product: str
    verdict: Plan | Infeasible
    candidates: tuple[Plan | Rejection, ...]


def surveys(answered: Answer) -> tuple[Survey, ...]:
    """Look at every candidate on every pool, whether an earlier one fits or not."""
    spec, facts = answered.document.spec, answered.facts
    if spec.gpus is not None and spec.gpus.pools:
        products = " + ".join(f"{pool.count} x {pool.product}" for pool in spec.gpus.pools)
        looked_at = (answered.verdict,) if isinstance(answered.verdict, Plan) else answered.verdict.rejected
        return (Survey(product=products, verdict=answered.verdict, candidates=looked_at),)
    return tuple(_survey(spec, replace(facts, pools=(pool,)), pool.gpu.product) for pool in facts.pools)


def _survey(spec: LLMDeploymentSpec, facts: Facts, product: str) -> Survey:
    verdict = plan(spec, facts)
    refused_whole = isinstance(verdict, Infeasible) and not verdict.rejected
    return Survey(product=product, verdict=verdict, candidates=() if refused_whole else survey(spec, facts))


def is_chosen(candidate: Plan | Rejection, verdict: Plan | Infeasible) -> bool:
    """Whether this candidate is the plan."""
    if not isinstance(candidate, Plan) or not isinstance(verdict, Plan):
        return False
    return (candidate.pool, candidate.layout) == (verdict.pool, verdict.layout)
