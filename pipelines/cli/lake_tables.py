"""``waybill lake tables``: what the lake has."""

import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.dead_letters import columns

if TYPE_CHECKING:
    from lake.reading.tables import Table

_HEAD = ["TOPIC", "ROWS", "FILES", "BYTES", "IN MAIN", "IN HOT", "FIRST EVENT", "LAST EVENT", "FRESH UNTIL"]
_QUARANTINE = ["QUARANTINED", "OF THOSE DECODED SINCE"]


def tables(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: a list of objects.")] = False,
) -> None:
    """Show what the lake has of each topic, and until when.

    No row is read. Rows and bytes: commits of the compactor for main/, footers for the rest. First and last event:
    statistics of _time, and of _timestamp in files with events that have no _time. Fresh until: when Kafka got the
    newest record of the newest segments. Quarantined: files in quarantine/.
    """
    from connectors import settings
    from lake import storage
    from lake.reading import tables as lake_tables

    found = list(lake_tables.tables(storage.of(settings.load().lake)))
    if as_json:
        typer.echo(json.dumps([_facts(table) for table in found]))
        return
    for line in columns([[*_HEAD, *_QUARANTINE], *map(_cells, found)]):
        typer.echo(line)


def _facts(table: "Table") -> dict[str, object]:
    plain = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(table).items()}
    return {**plain, "rows": table.rows, "files": table.files, "bytes": table.bytes}


def _cells(table: "Table") -> list[str]:
    numbers = [table.rows, table.files, table.bytes, table.main.rows, table.hot.rows]
    times = [table.first, table.last, table.fresh_until]
    return [
        table.topic,
        *(f"{number:,}" for number in numbers),
        *(_time(time) if time else "-" for time in times),
        str(table.quarantined),
        str(table.requarantined.rows),
    ]


def _time(time: datetime) -> str:
    return time.isoformat(sep=" ", timespec="seconds")
