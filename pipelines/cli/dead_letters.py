"""What the commands about dead letters share: options, and how a dead letter looks."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from connectors.problems import BadInput

if TYPE_CHECKING:
    from connectors.access import Access
    from connectors.schemas import Catalog
    from pipelines.config import Consumer
    from pipelines.dlq import DeadLetter, Filter

#: Characters of an error that a line of a list shows.
ERROR_WIDTH = 80
NOTHING_DONE = "nothing was done; leave out --dry-run to do it"

ConsumerName = Annotated[str, typer.Argument(metavar="CONSUMER", help="Name of the consumer.")]
ErrorPart = Annotated[str, typer.Option("--error", help="Part of the status or of the error text, in any case.")]
TypeName = Annotated[str, typer.Option("--type", help="Event type: full name, its last part, or the topic.")]
EndpointName = Annotated[str, typer.Option("--endpoint", help="Endpoint: full name or its last part.")]
Since = Annotated[
    str, typer.Option(help="Dead-lettered in the last 30m, 2h, 7d, or since a time such as 2026-07-14T09:30Z.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def open_consumer(name: str) -> "tuple[Access, Catalog, Consumer]":
    """How Kafka is reached, the catalog and the consumer called ``name``."""
    from connectors import schemas, settings
    from pipelines import config

    told = settings.load()
    catalog = schemas.load(told.descriptors)
    return told.kafka.access, catalog, config.load_consumer(name, told, catalog)


def filter_of(error: str, type_: str, endpoint: str, since: str) -> "Filter":
    from pipelines import dlq

    try:
        return dlq.Filter(error, type_, endpoint, dlq.parse_since(since, datetime.now(UTC)) if since else None)
    except (ValueError, OverflowError) as problem:
        raise BadInput(f"--since: {problem}") from None


def facts(dead_letter: "DeadLetter", moved_by: str | None) -> dict[str, Any]:
    """A dead letter in JSON, without its headers and payload."""
    event, delivery = dead_letter.event, dead_letter.delivery
    return {
        "partition": dead_letter.partition,
        "offset": dead_letter.offset,
        "event_id": event.id,
        "type": event.type,
        "dead_lettered_at": dead_letter.at.isoformat(),
        "status": dead_letter.status,
        "error": dead_letter.error,
        "delivery": asdict(delivery) if delivery else None,
        "replayed_by": moved_by,
        "key": event.key.decode(errors="backslashreplace") if event.key is not None else None,
        "size": len(event.value or b""),
    }


def row(dead_letter: "DeadLetter") -> list[str]:
    """A dead letter in one line of a list."""
    event, delivery = dead_letter.event, dead_letter.delivery
    cells = (
        f"{dead_letter.partition}/{dead_letter.offset}",
        event.id,
        event.type.rpartition(".")[2] or event.topic,
        dead_letter.endpoint.rpartition("/")[2] or "-",
        str(delivery.attempts) if delivery else "-",
        (delivery.last_failed_at if delivery else dead_letter.at.isoformat(timespec="seconds"))[:19],
        dead_letter.status,
        " ".join(dead_letter.error.split())[:ERROR_WIDTH],
    )
    return [visible(cell) for cell in cells]


def visible(text: str) -> str:
    """Text from a record, without what could steer a terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def columns(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def counts(counted: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counted)
