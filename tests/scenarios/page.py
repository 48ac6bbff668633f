"""docs/reliability.md: made from the registry and from what was recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from scenarios.registry import GROUPS, SCENARIOS, Scenario, Waiting, group_of, waiting

HEADER = """# Reliability

Made from `tests/scenarios` by `make update`; what was recorded comes from `make scenarios`.

The operator runs as a process of its own. Between it and a real etcd, kube-apiserver, controller manager and scheduler
(nodes and pods are simulated) stands a proxy that can kill the operator before, during or after any request, refuse,
delay, cut or spoil an answer, and hold, drop, repeat or break what a watch tells (`tests/faults/rules.py`). Enumeration
in place of luck: to kill it at each write of an edit means one run for each write. Where several operators run, each
has a proxy of its own, which names it in the audit log: that log says who wrote when.

After every scenario the same oracles judge (`tests/faults/oracles.py`):

| | |
|---|---|
| O1 end state | children and status equal those of a fresh create of the same spec, its history apart |
| O2 creates and deletes | each child created once for each time it was missing; none deleted but on purpose |
| O3 rest | nothing changes any more and the operator asks nothing |
| O4 no orphans | everything the operator made has an owner that exists |
| O5 clean log | no traceback, no error, memory under 150 MiB |
| O6 truthful status | never ahead of its generation, never Ready while the workload is not, dated when it changes |
| O7 strangers | objects of others as they were; of the LLMDeployment itself, nothing but the status is written |
| O8 budget | no more writes than the scenario allows |
| O9 availability | never fewer replicas than promised |
| O10 time | at rest within a minute after the fault |
| O11 restart | a restart writes nothing |
| O12 rights | no request was forbidden |

`gate` marks what every change must pass (`make test`); `make scenarios` plays all.
"""


def page(outcomes: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the whole page."""
    lines = [HEADER]
    for letter, title, _ in GROUPS:
        played = sorted((one for one in SCENARIOS if group_of(one.number) == letter), key=lambda one: one.number)
        lines += [f"## {letter}. {title}", ""]
        if played:
            lines += ["| # | Scenario | Done to it | Must hold | Last played |", "|---|---|---|---|---|"]
            lines += [_row(one, outcomes) for one in played]
            lines.append("")
        lines += _not_played([one for one in waiting() if group_of(one.number) == letter])
    return "\n".join(lines).rstrip() + "\n"


def _row(one: Scenario, outcomes: Mapping[str, Mapping[str, Any]]) -> str:
    gate = " (gate)" if one.gate else ""
    return f"| {one.number} | {one.title}{gate} | {one.injected} | {one.asserted} | {_outcome(one, outcomes)} |"


def _outcome(one: Scenario, outcomes: Mapping[str, Mapping[str, Any]]) -> str:
    told = {variant: outcomes.get(f"{one.number}/{variant}" if variant else str(one.number)) for variant in _all(one)}
    failed = [variant or "it" for variant, outcome in told.items() if outcome and not outcome["passed"]]
    missing = [variant or "it" for variant, outcome in told.items() if not outcome]
    dates: defaultdict[str, int] = defaultdict(int)
    for outcome in told.values():
        if outcome and outcome["passed"]:
            dates[f"{outcome['date']}, {outcome['version']}"] += 1
    of = f" {sum(dates.values())} of {len(told)}" if len(told) > 1 else ""
    parts = [f"passed{of}, {max(dates)}"] if dates else []
    parts += [f"FAILED: {', '.join(failed)}"] if failed else []
    parts += [f"not recorded: {', '.join(missing)}"] if missing else []
    return "; ".join(parts)


def _all(one: Scenario) -> Iterator[str]:
    yield from one.variants or ("",)


def _not_played(ones: list[Waiting]) -> list[str]:
    if not ones:
        return []
    return ["Not played:", "", *(f"* {one.number}, {one.title}: {one.reason}." for one in ones), ""]
