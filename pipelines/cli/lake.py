"""``waybill lake``: questions to the Parquet lake."""

import base64
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

app = typer.Typer(help="The Parquet lake: every event, in columns.", no_args_is_help=True)

#: Characters a line may have where nobody looks at a terminal.
_UNLIMITED = 1_000_000

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON: a list of objects.")]


@app.callback()
def group() -> None:
    """Keep ``sql`` a command of its own while it is the only one."""


@app.command()
def sql(
    statement: Annotated[str, typer.Argument(help="DuckDB SQL.", metavar="SQL")],
    *,
    as_json: AsJson = False,
) -> None:
    """Run a statement over the lake's views: one per topic, and <topic>_latest with each event once."""
    from connectors import settings
    from lake.query import query

    result = query(settings.load().lake.root, statement)
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


def _cell(value: Any) -> str:
    """No control character reaches the terminal."""
    text = "" if value is None else str(value)
    return text if text.isprintable() else repr(text)[1:-1]
