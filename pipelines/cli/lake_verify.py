"""``waybill lake verify``: proof that every record is in the lake, once."""

import json
import sys
from collections import defaultdict
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli import dead_letters

if TYPE_CHECKING:
    from lake.proof.findings import Finding
    from lake.proof.verify import Report

#: Findings of one kind and topic that are listed; all are counted.
LISTED = 20


def verify(
    topics: Annotated[list[str] | None, typer.Argument(metavar="TOPIC", help="All of the lake, unless named.")] = None,
    *,
    no_kafka: Annotated[bool, typer.Option("--no-kafka", help="Look at the lake alone.")] = False,
    values: Annotated[
        bool, typer.Option("--values", help="Compare payloads too; takes several times as long.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: a list of objects.")] = False,
) -> None:
    """Prove that the lake is whole: every record once, in its place, and all that Kafka shows.

    Changes nothing; sinks and compactors may go on meanwhile.  Exit code 1 if there are findings.
    """
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    from connectors import settings
    from lake import storage
    from lake.proof import verify as proof

    told = settings.load()
    store = storage.of(told.lake)
    access = None if no_kafka else told.kafka.access
    reports: list[Report] = []
    columns = TextColumn("{task.description}"), TextColumn("{task.completed:,.0f} rows"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        for topic in proof.topics(store, topics or []):
            advance = partial(bar.advance, bar.add_task(topic, total=None))
            reports.append(proof.verify(store, topic, access, values=values, progress=advance))
    if as_json:
        typer.echo(json.dumps([_facts(report) for report in reports]))
    else:
        _print(reports)
    if any(report.findings for report in reports):
        sys.exit(1)


def _facts(report: "Report") -> dict[str, object]:
    found = [{**asdict(one), "what": str(one)} for one in report.findings]
    return {**asdict(report), "ok": not report.findings, "findings": found}


def _print(reports: "list[Report]") -> None:
    from lake.proof.findings import REMEDIES

    head = ["TOPIC", "ROWS", "FILES", "OFFSETS", "QUARANTINED", "DECODED AGAIN", "LAG", "OK"]
    for line in dead_letters.columns([head, *map(_row, reports)]):
        typer.echo(line)
    by_kind: dict[str, list[Finding]] = defaultdict(list)
    for report in reports:
        for note in report.notes:
            typer.echo(f"{report.topic}: {note}", err=True)
        for one in report.findings:
            by_kind[one.kind].append(one)
    for kind, found in by_kind.items():
        typer.echo(f"\n{kind}: {REMEDIES[kind]}")
        for one in found[:LISTED]:
            typer.echo(f"  {dead_letters.visible(str(one))}")
        if len(found) > LISTED:
            typer.echo(f"  and {len(found) - LISTED:,} more")


def _row(report: "Report") -> list[str]:
    counts = report.rows, report.files, report.offsets, report.quarantined, report.requarantined
    lag = "-" if report.lag is None else f"{report.lag:,}"
    ok = "no" if report.findings else "yes"
    return [report.topic, *(f"{count:,}" for count in counts), lag, ok]
