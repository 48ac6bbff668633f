"""The ``trtllm-operator`` command. Modules are imported by the command that needs them, so that each starts fast."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

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

    _elsewhere = {  # noqa: RUF012 - fixed table
        "explain": ("trtllm_operator.cli_plan", "explain"),
        "plan": ("trtllm_operator.cli_plan", "plan"),
        "sandbox": ("trtllm_operator.sandbox.cli", "sandbox"),
    }

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
@click.option(
    "--read-nodes/--no-read-nodes",
    default=True,
    show_default=True,
    help="List the cluster's nodes; without, every LLMDeployment must name spec.gpus.product.",
)
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
    read_nodes: bool,
    verbose: bool,
) -> None:
    """Run the operator until it is told to stop."""
    import asyncio
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
        await serve(connection, Settings(), Options(namespace=namespace, read_nodes=read_nodes, host=host, port=port))

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
def render(filename: IO[str], nodes: Sequence[str], namespace: str | None) -> None:
    """Print the manifests the operator would apply, without a cluster.

    Exit code 2 means that the input is invalid, 3 that no layout fits.
    """
    import yaml

    from trtllm_operator.gather import gather, labels_of
    from trtllm_operator.hardware import NodeGroup
    from trtllm_operator.plan import plan
    from trtllm_operator.planned import Infeasible
    from trtllm_operator.render import render as manifests
    from trtllm_operator.servable import servable
    from trtllm_operator.settings import Settings

    owner, spec = _read(filename.read(), namespace)
    try:
        labels = list(labels_of(NodeGroup.parse(group) for group in nodes))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    verdict = servable(plan(spec, gather(spec, labels)))
    if isinstance(verdict, Infeasible):
        click.echo(f"{verdict.reason}: {verdict.message}", err=True)
        sys.exit(EXIT_INFEASIBLE)
    click.echo(f"# {verdict.summary}", err=True)
    click.echo(yaml.safe_dump_all(manifests(owner, spec, verdict, Settings()), sort_keys=False), nl=False)


def _read(text: str, namespace: str | None) -> tuple[Owner, LLMDeploymentSpec]:
    from trtllm_operator.documents import read_documents
    from trtllm_operator.naming import KIND
    from trtllm_operator.render import Owner

    documents = read_documents(text)
    if documents.problems:
        raise click.UsageError("\n".join(f"line {each.line}: {each.message}" for each in documents.problems))
    if len(documents.valid) > 1:
        raise click.UsageError(f"expected one {KIND}; found {len(documents.valid)}")
    document = documents.valid[0]
    return Owner(name=document.name, namespace=namespace or document.namespace or "default"), document.spec


@main.command()
@click.option(
    "-f",
    "--filename",
    "files",
    required=True,
    multiple=True,
    type=click.File(encoding="utf-8"),
    help="YAML with LLMDeployments; repeatable; - reads standard input.",
)
def validate(files: Sequence[IO[str]]) -> None:
    """Check LLMDeployments without a cluster: fields, types, bounds.

    Prints every problem with its line; exit code 2 means that there is one. Rules over several fields are the API
    server's: kubectl apply --dry-run=server.
    """
    from trtllm_operator.documents import read_documents

    results = [(file.name, read_documents(file.read())) for file in files]
    for name, documents in results:
        for each in documents.valid:
            click.echo(f"{name}: {each.name} is valid")
        for problem in documents.problems:
            click.echo(f"{name}:{problem.line}: {problem.message}", err=True)
    if any(documents.problems for _, documents in results):
        sys.exit(EXIT_INVALID)


@main.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["crd", "reference", "schema"]),
    default="crd",
    show_default=True,
    help="The CRD, the field reference as Markdown, or a JSON schema for editors.",
)
def crd(form: str) -> None:
    """Print the CustomResourceDefinition, or what is made from it."""
    from trtllm_operator.crd import crd_yaml
    from trtllm_operator.reference import editor_schema_json, reference

    text = {"crd": crd_yaml, "reference": reference, "schema": editor_schema_json}[form]
    click.echo(text(), nl=False)
