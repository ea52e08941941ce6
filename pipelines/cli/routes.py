"""``waybill routes``: who gets what."""

import json
from typing import Annotated

import typer

from connectors.problems import BadInput


def routes(
    topic: Annotated[str | None, typer.Argument(help="Only the events of this topic.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show which consumers and endpoints receive the events of a topic, or of every topic."""
    from connectors import schemas, settings
    from connectors.shapes import did_you_mean
    from pipelines import config, names, routing

    base = settings.load()
    catalog = schemas.load(base.descriptors)
    topics = [event.topic for event in catalog.events]
    if topic and topic not in topics:
        raise BadInput(f"no event type has the topic `{topic}`{did_you_mean(topic, topics)}")
    consumers = {consumer.name: consumer for consumer in config.load(base.consumers, catalog, base)}
    found = [
        {
            "topic": route.topic,
            "type": route.event_type.name,
            "consumer": route.consumer,
            "endpoint": endpoint.name,
            "address": consumers[route.consumer].address,
            "group": names.group_of(route.consumer, route.topic if route.dedicated else None),
        }
        for route in sorted(routing.routes(consumers.values(), catalog), key=lambda route: route.topic)
        for endpoint in route.endpoints
        if topic in (None, route.topic)
    ]
    if as_json:
        typer.echo(json.dumps(found))
        return
    widths = [max(map(len, column)) for column in zip(*(row.values() for row in found), strict=True)]
    for row in found:
        typer.echo("  ".join(value.ljust(width) for value, width in zip(row.values(), widths, strict=True)).rstrip())
    for unheard in [topic] if topic else topics:
        if unheard not in {row["topic"] for row in found}:
            typer.echo(f"nobody receives {unheard}", err=True)
