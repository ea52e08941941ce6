"""``waybill topics``: the topics in Kafka that Waybill needs."""

from typing import Annotated

import typer

app = typer.Typer(help="The Kafka topics that Waybill needs.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `apply` a command of its own."""


@app.command()
def apply(
    local: Annotated[bool, typer.Option("--local", help="One replica, for a Kafka of a single broker.")] = False,
    grow: Annotated[bool, typer.Option("--grow", help="Add partitions to source topics that have too few.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Create the topics that are missing and set what differs.

    Partitions are added with --grow only, and never to a retry topic; nothing is made smaller or shorter-lived.
    Exit codes: 0 done, 4 done in part.
    """
    from connectors import schemas, settings
    from connectors.kafka import admin, topics
    from pipelines import config, topology

    base = settings.load()
    catalog = schemas.load(base.descriptors)
    consumers = config.load(base.consumers, catalog, base)
    wanted = topology.wanted(consumers, catalog, base.max_message_bytes)
    cluster = admin.Topics(base.kafka.access)
    existing = cluster.existing(topic.name for topic in wanted)
    steps = topics.plan(wanted, existing, replicas=1 if local else topics.REPLICAS, grow=grow)
    failures = {} if dry_run else cluster.carry_out(steps)
    for step in steps:
        failure = failures.get(step.topic.name)
        what, detail = ("failed", failure) if failure else topics.tell(step)
        typer.echo(f"{what:<9}  {step.topic.name}{f'  {detail}' if detail else ''}")
    if dry_run:
        typer.echo("nothing was done; leave out --dry-run to do it", err=True)
    raise typer.Exit(4 if failures else 0)
