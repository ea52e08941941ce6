"""The ``waybill`` command: parse, call, print.

Data goes to stdout, prose to stderr.  Exit codes: 0 ok, 1 findings, 2 usage or configuration, 3 a dependency cannot be
reached, 4 done in part.
"""

import sys

import typer
from rich.console import Console
from rich.markup import escape

from connectors import logs
from connectors.problems import Problem
from pipelines.cli import check, connector, consumer, dlq, lake, local, replay, routes, topics, worker

app = typer.Typer(
    name="waybill",
    help="Carries events between services: saved with the data, delivered by gRPC, kept in a Parquet lake.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(local.app, name="local")
app.add_typer(connector.app, name="connector")
app.command()(check.check)
app.command()(routes.routes)
app.add_typer(topics.app, name="topics")
app.add_typer(consumer.app, name="consumer")
app.add_typer(dlq.app, name="dlq")
app.add_typer(replay.app, name="replay")
app.add_typer(lake.app, name="lake")
app.command()(worker.worker)


def main() -> None:
    """Run the command line; a Problem ends it with one clear message and its exit code."""
    logs.configure("WARNING")
    try:
        app()
    except Problem as problem:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {escape(str(problem))}", highlight=False)
        sys.exit(problem.exit_code)
