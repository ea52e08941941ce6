"""``waybill lake``: questions to the Parquet lake."""

import base64
import csv
import json
import sys
from datetime import date, time
from decimal import Decimal
from math import isfinite
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.cli import lake_compact, lake_export, lake_requarantine, lake_tables, lake_verify

app = typer.Typer(help="The Parquet lake: every event, in columns.", no_args_is_help=True)

#: Characters a line may have where nobody looks at a terminal.
_UNLIMITED = 1_000_000

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON: a list of objects.")]

app.command("compact")(lake_compact.compact)
app.command("export")(lake_export.export)
app.command("tables")(lake_tables.tables)
app.command("verify")(lake_verify.verify)
app.command("requarantine")(lake_requarantine.requarantine)
app.add_typer(lake_requarantine.app, name="quarantine")


@app.command()
def sql(
    statement: Annotated[str, typer.Argument(help="DuckDB SQL.", metavar="SQL")],
    *,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with names of columns in its first line.")] = False,
) -> None:
    """Run a statement over the lake's views: one per topic, and <topic>_latest with each event once.

    Times are in UTC; begin with "SET TimeZone = 'Europe/Berlin';" for others.
    """
    from connectors import settings
    from lake import storage
    from lake.reading.query import query

    with lake_export.percent("DuckDB") as progress:
        result = query(storage.of(settings.load().lake), statement, progress)
    if as_csv:
        out = csv.writer(sys.stdout, lineterminator="\n")
        out.writerow(result.columns)
        out.writerows(map(_csv_cell, row) for row in result.rows)
        return
    if as_json:
        rows = [dict(zip(result.columns, map(_plain, row), strict=True)) for row in result.rows]
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    table = Table()
    for name in result.columns:
        table.add_column(Text(_cell(name)), overflow="fold")
    for row in result.rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    Console(width=None if sys.stdout.isatty() else _UNLIMITED).print(table)


@app.command()
def skip(
    topic: Annotated[str, typer.Argument()],
    partition: Annotated[int, typer.Argument(min=0)],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only the gap is shown.")] = False,
) -> None:
    """Let the lake go on behind records that Kafka lost before the lake had them (a held partition)."""
    from connectors import schemas, settings
    from connectors.kafka.offsets import Groups
    from connectors.problems import BadInput
    from lake.hot import skip as gaps
    from lake.hot.chains import chains_of

    told = settings.load()
    event = schemas.load(told.descriptors).event(topic)
    if event is None:
        raise BadInput(f"no event has the topic {topic}; `waybill routes` shows those there are")
    chains, groups = chains_of(told, [event]), Groups(told.kafka.access)
    gap = gaps.find(chains, groups, topic, partition)
    missing = f"offsets {gap.start} to {gap.end - 1} of {topic}[{partition}]"
    if not yes:
        typer.echo(f"{missing} are in Kafka no more and not in the lake; with --yes it goes on behind them", err=True)
        return
    gaps.close(chains, gap)
    typer.echo(f"{missing} are given up; restart the lake's workers", err=True)


def _plain(value: Any) -> Any:
    """``value`` as JSON has it, down to the last element; keys are text there."""
    match value:
        case dict():
            return {str(_scalar(key)): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case _:
            return _scalar(value)


def _scalar(value: Any) -> Any:
    """Bytes as base64, times in ISO 8601, whole decimals as numbers, what JSON cannot say as text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float() if isfinite(value):
            return value
        case Decimal() if value == value.to_integral_value():
            return int(value)
        case bytes():
            return base64.b64encode(value).decode()
        case date() | time():
            return value.isoformat()
        case _:
            return str(value)


def _csv_cell(value: Any) -> Any:
    """What has an inside is JSON."""
    plain = _plain(value)
    return json.dumps(plain, ensure_ascii=False) if isinstance(plain, list | dict | bool) else plain


def _cell(value: Any) -> str:
    """No control character reaches the terminal."""
    text = "" if value is None else str(value)
    return text if text.isprintable() else repr(text)[1:-1]
