"""``waybill lake export``: events of a topic as one file."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lake.reading.query import Progress


def export(
    topic: Annotated[str, typer.Argument()],
    file: Annotated[Path, typer.Argument(help="What to make; its ending says the format.")],
    *,
    latest: Annotated[bool, typer.Option("--latest", help="Each event once.")] = False,
    since: Annotated[
        datetime | None, typer.Option(help="Events of this date (UTC) and later.", formats=["%Y-%m-%d"], metavar="DATE")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(help="Events before this date.", formats=["%Y-%m-%d"], metavar="DATE")
    ] = None,
    where: Annotated[str, typer.Option(help="Only rows of which this is true.", metavar="SQL")] = "",
    kind: Annotated[
        str | None, typer.Option("--format", help="parquet, csv, or json: one object a line.", metavar="FORMAT")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
) -> None:
    """Write events of a topic to one file, for pandas, Polars or a spreadsheet.

    The file is there whole, or not at all.
    """
    from connectors import settings
    from lake import storage
    from lake.reading import export as exports

    wanted = exports.Wanted(topic, latest, since and since.date(), until and until.date(), where)
    found = exports.format_of(file, kind)
    with percent(file.name) as progress:
        rows = exports.export(storage.of(settings.load().lake), wanted, file, found, force=force, progress=progress)
    typer.echo(f"{rows:,} rows in {file} ({file.stat().st_size:,} bytes)", err=True)


@contextmanager
def percent(what: str) -> "Iterator[Progress]":
    """How much of a statement is done, where somebody looks."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def tell(done: float) -> None:
            if done >= 0:
                bar.update(task, completed=done, total=100)

        yield tell
