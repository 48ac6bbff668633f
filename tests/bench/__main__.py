"""``python -m bench``: see docs/performance.md for what is measured and how."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from bench.client import Client
from bench.phases import Figures, Run, percentile
from control_plane import Kubectl
from faults.operator_process import OperatorProcess
from faults.stand import ACCOUNT, OPERATOR_NAMESPACE
from trtllm_operator.connection import Connection
from trtllm_operator.sandbox import Sandbox

IDLE = ("kube-controller-manager", "kube-scheduler", "kwok", "operator")
"""Stopped during the measurement: no ReplicaSets, no pods, nobody but the two that are compared writes."""


@click.command()
@click.option("--objects", multiple=True, type=click.IntRange(10), default=(100, 500, 1000), show_default=True)
@click.option("--profile", type=click.Path(path_type=Path), help="Run the operator under cProfile; write here.")
def main(objects: Sequence[int], profile: Path | None) -> None:
    """Compare the operator with a bare client that applies the same manifests."""
    with tempfile.TemporaryDirectory() as directory, Sandbox.start(operator=True) as sandbox:
        for component in IDLE:
            sandbox.stop_component(component)
        click.echo(
            f"Kubernetes {sandbox.facts()['kubernetes']}, Python {platform.python_version()}, "
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
            err=True,
        )
        runs = [_run(sandbox, Path(directory), count, profile) for count in objects]
    click.echo(_table(runs))


def _as_installed(directory: Path) -> Path:
    """Return a directory that hides the client library: kopf imports it where it is, and an installation has none."""
    modules = directory / "installed"
    modules.mkdir(exist_ok=True)
    (modules / "kubernetes.py").write_text('raise ImportError("no part of an installation")\n', encoding="utf-8")
    return modules


def _run(sandbox: Sandbox, directory: Path, count: int, profile: Path | None) -> Figures:
    kubectl = Kubectl(sandbox, sandbox.kubeconfig)
    namespaces = bare, ours, bare_after = f"bare-{count}", f"operator-{count}", f"bare-after-{count}"
    for namespace in namespaces:
        kubectl("create", "namespace", namespace)
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(sandbox.service_account_kubeconfig(OPERATOR_NAMESPACE, ACCOUNT), encoding="utf-8")
    prefix = (sys.executable, "-m", "cProfile", "-o", str(profile)) if profile else (sys.executable,)
    log, sources = directory / f"{count}.log", (_as_installed(directory),)
    operator = OperatorProcess(kubeconfig, ours, log, python=prefix, sources=sources)

    async def play() -> Figures:
        client, bare_client = (Client(Connection.from_kubeconfig(path)) for path in (sandbox.kubeconfig, kubeconfig))
        components = sandbox.facts()["components"]
        pids = tuple(components[name]["pid"] for name in ("etcd", "kube-apiserver"))
        try:
            run = Run(client, bare_client, operator, pids, bare, ours, bare_after, count, profiled=profile is not None)
            return await run.play()
        finally:
            await client.close()
            await bare_client.close()

    try:
        return asyncio.run(play())
    finally:
        operator.terminate()


def _table(runs: Sequence[Figures]) -> str:
    rows: list[tuple[str, list[str]]] = [
        ("objects", [str(run.objects) for run in runs]),
        ("create: bare client, before and after", [_both(run.bare_creates) for run in runs]),
        ("create: operator, all children there", [f"{run.create:.2f} s" for run in runs]),
        ("create: operator / bare", [f"{run.create / run.bare_create:.2f}" for run in runs]),
        (
            "create: processor time of all, operator / bare",
            [f"{run.create_total_cpu / run.bare_create_total_cpu:.2f}" for run in runs],
        ),
        ("create: last status written", [f"{run.create_settled:.2f} s" for run in runs]),
        ("create: writes per object", [_per_object(run.create_writes, run.objects) for run in runs]),
        ("create: operator CPU per object", [f"{run.create_cpu * 1000:.1f} ms" for run in runs]),
        ("edit of all: bare client", [f"{run.bare_edit:.2f} s" for run in runs]),
        ("edit of all: operator", [f"{run.edit:.2f} s" for run in runs]),
        ("edit of all: writes per object", [_per_object(run.edit_writes, run.objects) for run in runs]),
        ("edit of all: operator CPU per object", [f"{run.edit_cpu * 1000:.1f} ms" for run in runs]),
        ("one edit to child, P50", [f"{percentile(run.single_edits, 50) * 1000:.0f} ms" for run in runs]),
        ("one edit to child, P95", [f"{percentile(run.single_edits, 95) * 1000:.0f} ms" for run in runs]),
        ("100 Services deleted, P50 until back", [f"{percentile(run.recreated, 50):.2f} s" for run in runs]),
        ("100 Services deleted, last one back", [f"{max(run.recreated):.2f} s" for run in runs]),
        ("writes at rest, 5 s", [str(run.rest_writes.total()) for run in runs]),
        ("restart until idle", [f"{run.restart:.1f} s" for run in runs]),
        ("restart: writes", [str(run.restart_writes.total()) for run in runs]),
        ("operator RSS", [f"{run.rss / 2**20:.0f} MiB" for run in runs]),
    ]
    lines = [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows]
    lines.insert(1, "|---" * (len(runs) + 1) + "|")
    return "\n".join(lines)


def _both(seconds: tuple[float, float]) -> str:
    return " and ".join(f"{each:.2f} s" for each in seconds)


def _per_object(writes: Counter[str], objects: int) -> str:
    parts = ", ".join(f"{name} {count / objects:.2f}" for name, count in sorted(writes.items()))
    return f"{writes.total() / objects:.2f} ({parts})"


if __name__ == "__main__":
    main()
