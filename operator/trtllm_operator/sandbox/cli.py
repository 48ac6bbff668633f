"""``trtllm-operator sandbox``: build, up, down, status, kubeconfig, list."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from trtllm_operator.hardware import NodeGroup, feature_labels
from trtllm_operator.sandbox import binaries
from trtllm_operator.sandbox.addons import ADDONS, checked_addons
from trtllm_operator.sandbox.errors import SandboxError
from trtllm_operator.sandbox.handle import DEFAULT_NODES, Sandbox
from trtllm_operator.sandbox.toolsets import KUBERNETES_VERSION

_DEFAULT_NAME = "default"
_INTERRUPTED = 130


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn an expected failure into one line on standard error and exit code 1."""
    try:
        yield
    except SandboxError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"error: {error.filename or ''}: {error.strerror or error}".replace(" : ", " "), err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(_INTERRUPTED)


def _checked_nodes(_: click.Context, __: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    for value in values:
        try:
            feature_labels(NodeGroup.parse(value))
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
    return tuple(values)


def _checked_addons(_: click.Context, __: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    try:
        return checked_addons(name for value in values for name in value.split(","))
    except SandboxError as error:
        raise click.BadParameter(str(error)) from error


_addons = click.option(
    "--with",
    "addons",
    multiple=True,
    callback=_checked_addons,
    metavar="ADDON[,ADDON...]",
    help=f"Third-party APIs: {', '.join(ADDONS)}. lws runs its controller too; repeatable.",
)
_name = click.option(
    "--name", default=_DEFAULT_NAME, show_default=True, help="Name of the sandbox; several can coexist."
)


@click.group()
def sandbox() -> None:
    """Run a real control plane on this computer, with simulated GPU nodes.

    It proves logic, admission, scheduling, quota and status; it proves nothing about GPU performance.
    """


@sandbox.command()
@_name
@click.option(
    "--nodes",
    multiple=True,
    default=DEFAULT_NODES,
    show_default=True,
    callback=_checked_nodes,
    metavar="NxGxPRODUCT",
    help="Nodes x GPUs per node x GPU product; repeatable.",
)
@_addons
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the API server.  [default: a free one]")
@click.option("--kubernetes-version", default=KUBERNETES_VERSION, show_default=True, metavar="X.Y.Z")
@click.option("--audit", is_flag=True, help="Write an audit log of every request.")
@click.option("--operator", is_flag=True, help="Run the operator too, with its own service account.")
def up(name: str, **options: Any) -> None:
    """Start a sandbox."""
    _show_progress()
    started = time.monotonic()
    with _one_line_errors():
        new = Sandbox.start(name=name, detach=True, **options)
    click.echo(f"sandbox {name!r} is up after {time.monotonic() - started:.1f} s. Next:", err=True)
    click.echo(f'export KUBECONFIG="{new.kubeconfig}"\nexport PATH="{new.bin}:$PATH"\nkubectl get nodes')


@sandbox.command()
@click.option("--kubernetes-version", default=KUBERNETES_VERSION, show_default=True, metavar="X.Y.Z")
@_addons
def build(kubernetes_version: str, addons: tuple[str, ...]) -> None:
    """Find or build every binary, without starting anything, and print where each is."""
    _show_progress()
    with _one_line_errors():
        found = binaries.resolve(binaries.checked_kubernetes_version(kubernetes_version), addons)
    for tool, path in found.items():
        click.echo(f"{tool}\t{path}".expandtabs(26))


@sandbox.command()
@_name
def down(name: str) -> None:
    """End a sandbox: every process and every file."""
    with _one_line_errors():
        Sandbox.find(name).down()
    click.echo(f"sandbox {name!r} is down", err=True)


@sandbox.command()
@_name
@click.argument("addon", type=click.Choice(list(ADDONS)))
def install(name: str, addon: str) -> None:
    """Install an add-on into a sandbox that runs."""
    _show_progress()
    with _one_line_errors():
        Sandbox.find(name).install(addon)
    click.echo(f"{addon} is installed in sandbox {name!r}", err=True)


@sandbox.command()
@_name
def status(name: str) -> None:
    """Show each component; exit with 0 only when all are up."""
    with _one_line_errors():
        found = Sandbox.find(name)
        components = found.status()
    rows = [
        (component.name, str(component.pid), _state(component.state, healthy=component.healthy), component.endpoint)
        for component in components
    ]
    _table(("COMPONENT", "PID", "STATE", "ENDPOINT"), rows)
    for component in components:
        for line in component.log:
            click.echo(f"{component.name}: {line}", err=True)
    if not found.alive:
        click.echo(f"error: the supervisor of sandbox {name!r} is gone; 'down' clears the rest", err=True)
    sys.exit(0 if components and all(component.healthy for component in components) else 1)


@sandbox.command()
@_name
@click.option("--path", "show", flag_value="path", help="Print the path of the file instead.")
@click.option("--bin", "show", flag_value="bin", help="Print the directory of kubectl and the other binaries.")
@click.option("--service-account", metavar="NAMESPACE/NAME", help="Print one for this service account.")
def kubeconfig(name: str, show: str | None, service_account: str | None) -> None:
    """Print the administrator's kubeconfig."""
    with _one_line_errors():
        found = Sandbox.find(name)
        if service_account is not None:
            namespace, slash, account = service_account.partition("/")
            if not (namespace and slash and account):
                raise click.BadParameter("expected NAMESPACE/NAME", param_hint="--service-account")
            text = found.service_account_kubeconfig(namespace, account)
        elif show == "path":
            text = str(found.kubeconfig)
        elif show == "bin":
            text = str(found.bin)
        else:
            text = found.kubeconfig.read_text(encoding="utf-8")
    click.echo(text.rstrip("\n"))


@sandbox.command("list")
def list_() -> None:
    """Show every sandbox."""
    rows = []
    for found in Sandbox.list():
        facts = found.facts()
        state = "up" if found.alive else "dead"
        rows.append((found.name, state, found.server, facts.get("kubernetes", ""), " ".join(facts.get("nodes", []))))
    _table(("NAME", "STATE", "SERVER", "KUBERNETES", "NODES"), rows)


@sandbox.command()
def helm() -> None:
    """Find or build Helm, which the sandbox itself does not need, and print where it is."""
    _show_progress()
    with _one_line_errors():
        click.echo(binaries.helm())


def _state(state: str, *, healthy: bool) -> str:
    return "not ready" if state == "running" and not healthy else state


def _show_progress() -> None:
    logger = logging.getLogger("trtllm_operator.sandbox")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    table = [header, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
