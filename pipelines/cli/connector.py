"""``waybill connector``: Debezium, which carries the rows of each outbox to Kafka."""

import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

import typer

from connectors.problems import BadInput

if TYPE_CHECKING:
    from connectors import kafka_connect

app = typer.Typer(help="The connectors that carry outboxes to Kafka.", no_args_is_help=True)

Names = Annotated[list[str] | None, typer.Argument(metavar="[OUTBOX]...", help="Default: all in the settings.")]


@app.command()
def apply(names: Names = None) -> None:
    """Create the connectors, or change what differs, and wait until they run."""
    from connectors import debezium, kafka_connect, settings

    base = settings.load()
    for name in _chosen(names, base.outboxes):
        outbox = base.outboxes[name]
        config = debezium.render(name, outbox.database, outbox.password.reveal() if outbox.password else None)
        _tell(kafka_connect.apply(base.connect.rest, debezium.connector_name(name), config))


@app.command()
def status(
    names: Names = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the state of each connector and its last error. Exit code 1: one does not run."""
    from connectors import debezium, kafka_connect, settings

    base = settings.load()
    chosen = [debezium.connector_name(name) for name in _chosen(names, base.outboxes)]
    found = [kafka_connect.status(base.connect.rest, name) for name in chosen]
    if as_json:
        typer.echo(json.dumps([{"name": each.name, "state": each.state, "cause": each.cause} for each in found]))
    else:
        for each in found:
            _tell(each)
    raise typer.Exit(0 if all(each.state == "RUNNING" for each in found) else 1)


def _chosen(names: list[str] | None, known: Collection[str]) -> Collection[str]:
    if not known:
        raise BadInput("The settings name no outbox; add one below `outboxes:`, as in config/waybill.yaml.")
    if unknown := sorted(set(names or ()) - set(known)):
        raise BadInput(f"There is no outbox {', '.join(unknown)} in the settings; there are: {', '.join(known)}.")
    return names or known


def _tell(status: "kafka_connect.Status") -> None:
    typer.echo(f"{status.state:<10} {status.name}{f'  {status.cause}' if status.cause else ''}")
