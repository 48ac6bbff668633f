"""The ``trtllm-operator`` command. Modules are imported by the command that needs them, so that each starts fast."""

from __future__ import annotations

import importlib
import secrets
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from trtllm_operator import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtllm_operator.documents import Document
    from trtllm_operator.lifecycle import Options

EXIT_INVALID = 2
EXIT_INFEASIBLE = 3
_PORT = click.IntRange(0, 65535)


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


_ALLOW_HOST_PATH = click.option(
    "--allow-host-path", is_flag=True, help="Let spec.modelCache.hostPath mount a directory of the node."
)


@main.command()
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Default: in-cluster, then $KUBECONFIG.",
)
@click.option("--context", help="Context of the kubeconfig. Default: the current one.")
@click.option("--namespace", "-n", "namespaces", multiple=True, help="Serve these namespaces only. Default: all.")
@click.option(
    "--read-nodes/--no-read-nodes",
    default=True,
    show_default=True,
    help="List the cluster's nodes; without, every LLMDeployment must name spec.gpus.product.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of the probes and the metrics.")
@click.option("--port", type=_PORT, default=0, show_default=True, help="Port of /healthz and /readyz; 0 for none.")
@click.option("--metrics-port", type=_PORT, default=0, show_default=True, help="Port of /metrics; 0 for none.")
@click.option("--leader-elect", is_flag=True, help="Work only while holding a Lease in the pod's namespace.")
@click.option("--pod-name", envvar="POD_NAME", show_envvar=True, help="Who holds the Lease.")
@click.option("--pod-namespace", envvar="POD_NAMESPACE", show_envvar=True, help="Namespace of the Lease.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@_ALLOW_HOST_PATH
@click.option("--verbose", "-v", is_flag=True, help="Log every pass.")
def run(
    kubeconfig: Path | None,
    context: str | None,
    log_format: str,
    *,
    allow_host_path: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Run the operator until it is told to stop."""
    import asyncio

    from trtllm_operator import logs
    from trtllm_operator.connection import Connection
    from trtllm_operator.errors import OperatorError
    from trtllm_operator.lifecycle import run as serve
    from trtllm_operator.settings import Settings

    chosen = _run_options(**options)
    logs.configure(log_format, verbose=verbose)

    settings = Settings(allow_host_path=allow_host_path)

    async def connect_and_serve() -> None:
        in_cluster = kubeconfig is None and context is None and Connection.is_in_cluster()
        connection = Connection.in_cluster() if in_cluster else Connection.from_kubeconfig(kubeconfig, context)
        await serve(connection, settings, chosen)

    try:
        asyncio.run(connect_and_serve())
    except (OperatorError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _run_options(
    *, namespaces: Sequence[str], leader_elect: bool, pod_name: str | None, pod_namespace: str | None, **others: Any
) -> Options:
    from trtllm_operator.lease import Election
    from trtllm_operator.lifecycle import Options

    election = None
    if leader_elect:
        if not pod_name or not pod_namespace:
            raise click.UsageError("--leader-elect needs --pod-name and --pod-namespace, or POD_NAME and POD_NAMESPACE")
        # A container that was restarted has the name of its predecessor, and must not take its lease for its own.
        election = Election(namespace=pod_namespace, identity=f"{pod_name}_{secrets.token_hex(4)}")
    listed = (name.strip() for text in namespaces for name in text.split(","))
    return Options(namespaces=tuple(dict.fromkeys(filter(None, listed))), election=election, **others)


@main.command()
@click.option(
    "-f",
    "--filename",
    required=True,
    type=click.File(encoding="utf-8"),
    help="An LLMDeployment as YAML, with the ConfigMap it names beside it; - reads standard input.",
)
@click.option("--nodes", multiple=True, metavar="NODESxGPUSxPRODUCT", help="GPU nodes to plan for; repeatable.")
@_ALLOW_HOST_PATH
@click.option("--namespace", "-n", help="Namespace, where the object names none. Default: default.")
def render(filename: IO[str], nodes: Sequence[str], namespace: str | None, *, allow_host_path: bool) -> None:
    """Print the manifests the operator would apply, without a cluster.

    Exit code 2 means that the input is invalid, 3 that no layout fits.
    """
    import yaml

    from trtllm_operator.engine_status import engine_status
    from trtllm_operator.gather import gather, offers_of
    from trtllm_operator.hardware import NodeGroup
    from trtllm_operator.model_files import read_model_files
    from trtllm_operator.plan import plan
    from trtllm_operator.planned import Infeasible, Plan
    from trtllm_operator.render import Owner
    from trtllm_operator.render import render as manifests
    from trtllm_operator.settings import Settings

    document, files = _read(filename.read())
    owner = Owner(name=document.name, namespace=namespace or document.namespace or "default")
    spec = document.spec
    try:
        offers = offers_of(NodeGroup.parse(group) for group in nodes)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    read = read_model_files(spec.model, files)
    verdict = read if isinstance(read, Infeasible) else plan(spec, gather(spec, offers, read))
    settings = Settings(allow_host_path=allow_host_path)
    rendered = verdict if isinstance(verdict, Infeasible) else manifests(owner, spec, verdict, settings)
    if isinstance(rendered, Infeasible):
        click.echo(f"{rendered.reason}: {rendered.message}", err=True)
        sys.exit(EXIT_INFEASIBLE)
    if isinstance(verdict, Plan):
        notes = (verdict.summary, *engine_status(owner.name, spec, verdict, settings).warnings)
        click.echo("".join(f"# {note}\n" for note in notes), nl=False, err=True)
    click.echo(yaml.safe_dump_all(rendered, sort_keys=False), nl=False)


def _read(text: str) -> tuple[Document, Mapping[str, str] | None]:
    """Return the LLMDeployment of a text, and what the ConfigMap beside it that it names holds."""
    from trtllm_operator.documents import read_documents
    from trtllm_operator.naming import KIND

    documents = read_documents(text)
    if documents.problems:
        raise click.UsageError("\n".join(f"line {each.line}: {each.message}" for each in documents.problems))
    if len(documents.valid) > 1:
        raise click.UsageError(f"expected one {KIND}; found {len(documents.valid)}")
    (document,) = documents.valid
    reference = document.spec.model.config_map_ref
    return document, None if reference is None else documents.config_maps.get(reference.name)


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
