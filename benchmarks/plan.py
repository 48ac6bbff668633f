"""How long the planner takes: in process over the whole catalogue, and as a process from start to exit.

Plans are timed by the CPU they use, so that a busy machine changes them little; processes also by the clock.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import statistics
import subprocess
import sys
import time

from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.facts import Facts
from trtllm_operator.gather import gather
from trtllm_operator.hardware import catalogue_rows
from trtllm_operator.models import catalogue
from trtllm_operator.plan import plan
from trtllm_operator.planned import Plan

PROCESS = [sys.executable, "-m", "trtllm_operator", "plan", "--model", "Llama-3.1-70B", "--gpus", "8xH100"]


def cases() -> list[tuple[LLMDeploymentSpec, Facts]]:
    """Return every checkpoint of the catalogue on every GPU of the catalogue, 16 of them."""
    products = [row.gpu.product for row in catalogue_rows()]
    specs = [
        LLMDeploymentSpec.model_validate(
            {"model": {"uri": f"hf://{model.name}"}, "gpus": {"product": product, "maxCount": 16}}
        )
        for model, product in itertools.product(catalogue().values(), products)
    ]
    return [(spec, gather(spec, ())) for spec in specs]


def microseconds_per_plan(count: int) -> tuple[list[float], int]:
    """Plan ``count`` times, case after case; return the durations and how many of them were plans, not refusals."""
    durations, fitting = [], 0
    for spec, facts in itertools.islice(itertools.cycle(cases()), count):
        start = time.thread_time()
        verdict = plan(spec, facts)
        durations.append((time.thread_time() - start) * 1e6)
        fitting += isinstance(verdict, Plan)
    return durations, fitting


def seconds_per_process(count: int) -> tuple[list[float], list[float]]:
    """Start ``trtllm-operator plan`` this often, one after the other; return seconds by the clock and of CPU."""
    durations, used = [], []
    for _ in range(count):
        start, before = time.perf_counter(), _children_cpu()
        subprocess.run(PROCESS, check=True, stdout=subprocess.DEVNULL)
        durations.append(time.perf_counter() - start)
        used.append(_children_cpu() - before)
    return durations, used


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plans", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=20)
    arguments = parser.parse_args()
    plans, fitting = microseconds_per_plan(arguments.plans)
    quantiles = statistics.quantiles(plans, n=100)
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(
        f"{len(plans)} plans of {len(cases())} cases ({fitting} fit): median {statistics.median(plans):.0f} us of CPU, "
        f"P99 {quantiles[98]:.0f} us, slowest {max(plans):.0f} us"
    )
    processes, used = seconds_per_process(arguments.processes)
    print(
        f"{len(processes)} processes of `plan`: median {statistics.median(processes):.2f} s, "
        f"fastest {min(processes):.2f} s, CPU {statistics.median(used):.2f} s"
    )


if __name__ == "__main__":
    main()
