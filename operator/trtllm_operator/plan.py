"""From a spec and facts to tensor, pipeline and expert parallelism, or to a refusal that names the number that failed.

The order of preference is the guide's decision tree over the weights at the serving dtype (decimal GB, made for GPUs of
80 GB); every candidate is then checked against the hard constraints of TensorRT-LLM and the memory estimate. The guide
is never a reason to fail: when its layout does not fit, wider tensor parallelism is tried, then more stages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from trtllm_operator.api import Dtype, LLMDeploymentSpec, ParallelismPolicy
from trtllm_operator.api_status import PlanStatus
from trtllm_operator.candidates import Candidate, Origin, candidates, rung
from trtllm_operator.examine import Subject, examine
from trtllm_operator.facts import Facts, GpuPool, ModelFacts, UnknownModel
from trtllm_operator.feasibility import budget, mismatched_dtype, too_long, unsupported_by
from trtllm_operator.heterogeneous import listed_pools, pipeline_refusal, plan_pipeline
from trtllm_operator.identity import plan_id
from trtllm_operator.notices import notices
from trtllm_operator.parallel import Layout
from trtllm_operator.pending import pending_fields
from trtllm_operator.planned import Fit, Infeasible, Plan, Rejection
from trtllm_operator.refusals import Reason, Refusal
from trtllm_operator.remedies import fitting_dtypes, fitting_layout
from trtllm_operator.request import Request, request
from trtllm_operator.sticky import keep

_VERDICTS: tuple[Fit, ...] = ("Fits", "Tight")
_SHOWN = 8


def plan(spec: LLMDeploymentSpec, facts: Facts, current: PlanStatus | None = None) -> Plan | Infeasible:
    """Choose the layout of one replica.

    ``current`` is the plan in force: it is kept while it is still valid for the spec, so that a node that reboots or a
    new planner never re-shards a healthy model.
    """
    if asked := pending_fields(spec):
        return Infeasible(reason=Reason.FIELD_NOT_SUPPORTED, message="; ".join(message for _, message in asked))
    model = _model(spec, facts)
    return model if isinstance(model, Infeasible) else _placed(spec, model, facts, current)


def _placed(spec: LLMDeploymentSpec, model: ModelFacts, facts: Facts, current: PlanStatus | None) -> Plan | Infeasible:
    wanted = request(spec, model)
    refusal = mismatched_dtype(wanted, model) or too_long(wanted, model)
    if refusal is not None:
        return _infeasible(refusal, model)
    if current is not None and (kept := keep(wanted, model, facts, current)) is not None:
        return kept
    if wanted.pools:
        return _over_pools(wanted, model, facts)
    return _over_every_pool(wanted, model, facts)


def _over_every_pool(wanted: Request, model: ModelFacts, facts: Facts) -> Plan | Infeasible:
    if not facts.pools:
        return _no_pool(facts, model)
    outcomes = [_on_pool(wanted, model, pool) for pool in facts.pools]
    plans = [outcome for outcome in outcomes if isinstance(outcome, Plan)]
    if plans:
        return min(plans, key=lambda found: (found.verdict == "Tight", found.gpus, found.pool.gpu.product))
    refusals = [outcome for outcome in outcomes if isinstance(outcome, Infeasible)]
    return max(refusals, key=lambda refused: refused.reason == Reason.INSUFFICIENT_MEMORY)


def survey(spec: LLMDeploymentSpec, facts: Facts) -> tuple[Plan | Rejection, ...]:
    """Examine every candidate on every pool, in order of preference, whether an earlier one fits or not."""
    model = _model(spec, facts)
    if isinstance(model, Infeasible):
        return ()
    wanted = request(spec, model)
    return tuple(
        outcome
        for pool in facts.pools
        for subject in (_subject(wanted, model, pool),)
        for candidate in candidates(wanted, model, pool)
        for outcome in (_best_verdict(subject, candidate.layout),)
    )


def _best_verdict(subject: Subject, layout: Layout) -> Plan | Rejection:
    fits = examine(subject, layout, "Fits")
    if isinstance(fits, Plan):
        return fits
    tight = examine(subject, layout, "Tight")
    return tight if isinstance(tight, Plan) else fits


def _model(spec: LLMDeploymentSpec, facts: Facts) -> ModelFacts | Infeasible:
    model = facts.model
    if not isinstance(model, UnknownModel):
        return model
    parallelism = spec.parallelism
    if parallelism is not None and parallelism.tensor is not None and parallelism.pipeline is not None:
        stated = Dtype.BFLOAT16 if spec.dtype in (None, Dtype.AUTO) else spec.dtype
        return ModelFacts(name=model.name, parameters=None, checkpoint_dtype=stated)
    near = f"; names like it in the catalogue: {', '.join(model.near)}" if model.near else ""
    return Infeasible(
        reason=Reason.MODEL_SIZE_UNKNOWN,
        message=f"the size of {model.name} is unknown: it is not in the catalogue and spec.model.shape.parameters is "
        f"not set; set it, or spec.model.configMapRef, or both spec.parallelism.tensor and pipeline{near}",
    )


def _infeasible(refusal: Refusal, model: ModelFacts) -> Infeasible:
    return Infeasible(reason=refusal.reason, message=refusal.sentence, model=model)


def _no_pool(facts: Facts, model: ModelFacts) -> Infeasible:
    if facts.unknown_gpus:
        unknown = facts.unknown_gpus[0]
        near = f"; near names: {', '.join(unknown.near)}" if unknown.near else ""
        return Infeasible(
            reason=Reason.GPU_UNKNOWN,
            message=f"the memory of GPU product {unknown.product} is unknown{near}; "
            "correct spec.gpus.product or set spec.gpus.memory",
            model=model,
        )
    return Infeasible(
        reason=Reason.NO_GPUS,
        message="0 nodes carry the label nvidia.com/gpu.product and nvidia.com/gpu capacity; "
        "install GPU feature discovery or set spec.gpus.product",
        model=model,
    )


def _subject(wanted: Request, model: ModelFacts, pool: GpuPool) -> Subject:
    return Subject(
        plan_id=plan_id(wanted, model, pool.gpu.product),
        request=wanted,
        model=model,
        pool=pool,
        budget=budget(wanted, pool),
    )


def _on_pool(wanted: Request, model: ModelFacts, pool: GpuPool) -> Plan | Infeasible:
    subject = _subject(wanted, model, pool)
    options = tuple(candidates(wanted, model, pool))
    refusal = _not_whole(subject, options) or unsupported_by(pool.gpu, wanted, model)
    if refusal is not None:
        return _infeasible(refusal, model)
    rejected: list[Rejection] = []
    for verdict in _VERDICTS:
        rejected = []
        for candidate in options:
            outcome = examine(subject, candidate.layout, verdict)
            if isinstance(outcome, Plan):
                return _explained(subject, outcome, candidate, rejected)
            rejected.append(outcome)
    return _refused(subject, tuple(rejected))


def _not_whole(subject: Subject, options: tuple[Candidate, ...]) -> Refusal | None:
    """Refuse a slice or a share of a GPU, when more than one is wanted of it, before its precision is looked at."""
    if not subject.request.pinned and subject.request.count is None:
        return None
    outcome = examine(subject, options[0].layout, "Fits")
    if isinstance(outcome, Rejection) and outcome.reason in (Reason.PARTITIONED_GPU, Reason.SHARED_GPU):
        return Refusal(Reason(outcome.reason), outcome.detail)
    return None


def _over_pools(wanted: Request, model: ModelFacts, facts: Facts) -> Plan | Infeasible:
    refusal = pipeline_refusal(wanted)
    if refusal is not None:
        return _infeasible(refusal, model)
    pools = listed_pools(wanted, facts)
    return _no_pool(facts, model) if pools is None else plan_pipeline(_subject(wanted, model, pools[0]), pools)


def _explained(subject: Subject, made: Plan, chosen: Candidate, rejected: list[Rejection]) -> Plan:
    return replace(
        made,
        because=tuple(_because(subject, chosen, rejected)),
        rejected=tuple(rejected[:_SHOWN]),
        notices=notices(subject.request, made, chosen, _smaller(subject, made, chosen)),
    )


def _because(subject: Subject, chosen: Candidate, rejected: list[Rejection]) -> Iterator[str]:
    wanted, model = subject.request, subject.model
    if model.parameters is not None:
        yield f"guide: {rung(model).rule}"
    if wanted.stated_seq_len is None:
        limit = model.max_position_embeddings
        of = f" of the {limit} the model was made for" if limit else ""
        yield f"spec.engine.maxSeqLen is not set: {wanted.max_seq_len} tokens{of}"
    for no in rejected[:_SHOWN]:
        yield f"{no.layout} rejected: {no.detail}"
    yield f"{chosen.layout} chosen ({chosen.origin})"


def _smaller(subject: Subject, made: Plan, chosen: Candidate) -> Plan | None:
    """Return a plan with fewer GPUs that fits too, where the guide and not the user chose more."""
    if chosen.origin in (Origin.PINNED, Origin.COUNT) or made.gpus == 1 or made.verdict == "Tight":
        return None
    frugal = replace(subject.request, policy=ParallelismPolicy.MINIMAL)
    for candidate in candidates(frugal, subject.model, subject.pool):
        if candidate.layout.gpus >= made.gpus:
            return None
        outcome = examine(subject, candidate.layout, "Fits")
        if isinstance(outcome, Plan):
            return outcome
    return None


def _refused(subject: Subject, rejected: tuple[Rejection, ...]) -> Infeasible:
    model, pool = subject.model, subject.pool
    short = [no for no in rejected if no.reason == Reason.INSUFFICIENT_MEMORY]
    worst = max(short, key=lambda no: no.layout.gpus) if short else rejected[0]
    reason = Reason(worst.reason)
    suggestion = fitting_layout(subject)
    dtypes = fitting_dtypes(subject) if reason is Reason.INSUFFICIENT_MEMORY else ()
    remedies = [_suggested(subject, suggestion.layout)] if suggestion else []
    remedies += [_as_dtypes(model, dtypes)] if dtypes else []
    remedies = remedies or ["use GPUs with more memory (spec.gpus.product)"]
    return Infeasible(
        reason=reason,
        message=f"{model.name} in {model.checkpoint_dtype} on {pool.gpu.product}, {worst.layout}: {worst.detail}; "
        + "; or ".join(remedies),
        model=model,
        rejected=rejected[:_SHOWN],
        suggestion=suggestion,
        dtypes=dtypes,
    )


def _suggested(subject: Subject, layout: Layout) -> str:
    pinned = subject.request.pinned
    first = f"spec.parallelism.tensor to {layout.tensor}, pipeline to {layout.pipeline} and " if pinned else ""
    bounded = subject.request.max_count is not None and subject.request.count is None
    field = "spec.gpus.maxCount" if bounded else "spec.gpus.count"
    return f"{layout} would fit: set {first}{field} to {layout.gpus}"


def _as_dtypes(model: ModelFacts, dtypes: tuple[Dtype, ...]) -> str:
    known = [f"hf://{name}" for name, dtype in model.siblings if dtype in dtypes]
    such = f" such as {known[0]}" if known else ""
    return f"serve a checkpoint in {' or '.join(dtypes)}{such}"
