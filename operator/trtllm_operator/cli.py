"""The ``trtllm-operator`` command. Modules are imported by the command that needs them, so that each starts fast."""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trtllm_operator import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtllm_operator.api import LLMDeploymentSpec
    from trtllm_operator.render import Owner

EXIT_INVALID = 2
EXIT_INFEASIBLE = 3


class _LazyGroup(click.Group):
    """Imports a command group of another module only when it is asked for."""

    _elsewhere = {"sandbox": ("trtllm_operator.sandbox.cli", "sandbox")}  # noqa: RUF012 - fixed table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self._elsewhere])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._elsewhere:
            return super().get_command(ctx, cmd_name)
        module, attribute = self._elsewhere[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="trtllm-operator")
def main() -> None:
    """Serve large language models with TensorRT-LLM on Kubernetes."""


@main.command()
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Default: in-cluster, then $KUBECONFIG.",
)
@click.option("--context", help="Context of the kubeconfig. Default: the current one.")
@click.option("--namespace", "-n", help="Serve one namespace only. Default: all.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of /healthz and /readyz.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="Port of the probes; 0 for none.",
)
@click.option("--verbose", "-v", is_flag=True, help="Log every pass.")
def run(
    kubeconfig: Path | None,
    context: str | None,
    namespace: str | None,
    host: str,
    port: int,
    *,
    verbose: bool,
) -> None:
    """Run the operator until it is told to stop."""
    import logging

    from trtllm_operator.connection import Connection
    from trtllm_operator.errors import OperatorError
    from trtllm_operator.handlers import Options
    from trtllm_operator.handlers import run as serve
    from trtllm_operator.settings import Settings

    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
    logging.getLogger("kopf").setLevel(logging.WARNING)

    async def connect_and_serve() -> None:
        in_cluster = kubeconfig is None and context is None and Connection.is_in_cluster()
        connection = Connection.in_cluster() if in_cluster else Connection.from_kubeconfig(kubeconfig, context)
        await serve(connection, Settings(), Options(namespace=namespace, host=host, port=port))

    try:
        asyncio.run(connect_and_serve())
    except (OperatorError, OSError) as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.option(
    "-f",
    "--filename",
    required=True,
    type=click.File(encoding="utf-8"),
    help="An LLMDeployment as YAML; - reads standard input.",
)
@click.option("--nodes", multiple=True, metavar="NODESxGPUSxPRODUCT", help="GPU nodes to plan for; repeatable.")
@click.option("--namespace", "-n", help="Namespace, where the object names none. Default: default.")
def render(filename: Any, nodes: Sequence[str], namespace: str | None) -> None:
    """Print the manifests the operator would apply, without a cluster.

    Exit code 2 means that the input is invalid, 3 that no layout fits.
    """
    import yaml

    from trtllm_operator.gather import gather, labels_of
    from trtllm_operator.hardware import NodeGroup
    from trtllm_operator.plan import Infeasible, plan
    from trtllm_operator.render import render as manifests
    from trtllm_operator.settings import Settings

    owner, spec = _read(filename.read(), namespace)
    try:
        labels = list(labels_of(NodeGroup.parse(group) for group in nodes))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    verdict = plan(spec, gather(spec, labels))
    if isinstance(verdict, Infeasible):
        click.echo(f"{verdict.reason}: {verdict.message}", err=True)
        sys.exit(EXIT_INFEASIBLE)
    click.echo(f"# {verdict.summary}", err=True)
    click.echo(yaml.safe_dump_all(manifests(owner, spec, verdict, Settings()), sort_keys=False), nl=False)


def _read(text: str, namespace: str | None) -> tuple[Owner, LLMDeploymentSpec]:
    """Parse one LLMDeployment strictly: an unknown field is an error here, where somebody can read it."""
    import yaml
    from pydantic import ValidationError

    from trtllm_operator.api import LLMDeploymentSpec
    from trtllm_operator.naming import API_VERSION, KIND
    from trtllm_operator.render import Owner

    try:
        stored = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise click.UsageError(f"not YAML: {error}") from error
    if not isinstance(stored, dict) or (stored.get("apiVersion"), stored.get("kind")) != (API_VERSION, KIND):
        raise click.UsageError(f"expected one {KIND} of {API_VERSION}")
    metadata = stored.get("metadata") or {}
    if not isinstance(metadata.get("name"), str):
        raise click.UsageError("metadata.name is missing")
    try:
        spec = LLMDeploymentSpec.model_validate(stored.get("spec") or {}, extra="forbid")
    except ValidationError as error:
        problems = "; ".join(f"spec.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise click.UsageError(problems) from error
    return Owner(name=metadata["name"], namespace=namespace or metadata.get("namespace") or "default"), spec


@main.command()
def crd() -> None:
    """Print the CustomResourceDefinition."""
    from trtllm_operator.crd import crd_yaml

    click.echo(crd_yaml(), nl=False)


@main.command()
@click.option(
    "--namespace",
    "-n",
    default="trtllm-operator-system",
    show_default=True,
    help="Namespace of the operator.",
)
def manifests(namespace: str) -> None:
    """Print what a cluster needs before the operator runs in it: namespace, CRD, account, role, binding."""
    import yaml

    from trtllm_operator.install import manifests as install

    click.echo(yaml.safe_dump_all(install(namespace), sort_keys=False), nl=False)
