"""``waybill lake requarantine`` and ``waybill lake quarantine``: records that could not be rows of the lake."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli import dead_letters

if TYPE_CHECKING:
    from lake.proof.inventory import Quarantined
    from lake.proof.requarantine import Outcome, Progress
    from lake.storage import Storage

app = typer.Typer(help="What lies in the lake's quarantine.", no_args_is_help=True)

#: Bytes of a payload that are shown.
HEX_BYTES = 256

Topics = Annotated[list[str] | None, typer.Argument(metavar="TOPIC", help="All of the lake, unless named.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def requarantine(
    topics: Topics = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only what would come of it is shown.")] = False,
    as_json: AsJson = False,
) -> None:
    """Decode quarantined records again, with the descriptors as they are now: those that can become rows.

    They stay in quarantine too.  It can be run again, and by two at a time.
    """
    from connectors import schemas, settings
    from lake import storage
    from lake.proof import requarantine as again
    from lake.proof import verify as proof

    told = settings.load()
    catalog, store = schemas.load(told.descriptors), storage.of(told.lake)
    work = again.requarantine if yes else again.plan
    outcomes: list[Outcome] = []
    for topic in proof.topics(store, topics or []):
        event = catalog.event(topic)
        if event is None:
            typer.echo(f"{topic}: no event has this topic any more; its quarantine stays as it is", err=True)
            continue
        with _bar(topic) as progress:
            outcomes.append(work(store, event, progress))
    if as_json:
        typer.echo(json.dumps([_outcome(one) for one in outcomes]))
    else:
        for one in outcomes:
            _print(one, done=yes)
    if not yes and any(one.decoded for one in outcomes):
        typer.echo("nothing was written; run it again with --yes to make these rows", err=True)


@app.command()
def ls(topics: Topics = None, *, as_json: AsJson = False) -> None:
    """List the causes for which records are in quarantine."""
    from connectors import settings
    from lake import storage
    from lake.proof import verify as proof

    store = storage.of(settings.load().lake)
    groups: list[_Group] = []
    for topic in proof.topics(store, topics or []):
        with _bar(topic) as progress:
            groups += _groups(store, topic, progress)
    if as_json:
        typer.echo(json.dumps([vars(one) for one in groups]))
    elif groups:
        head = ["TOPIC", "RECORDS", "DECODED AGAIN", "FIRST", "LAST", "CAUSE"]
        for line in dead_letters.columns([head, *(one.row() for one in groups)]):
            typer.echo(line)
    typer.echo(f"{sum(one.records for one in groups):,} records in quarantine", err=True)


@app.command()
def show(
    topic: Annotated[str, typer.Argument()],
    partition: Annotated[int, typer.Argument(min=0)],
    offset: Annotated[int, typer.Argument(min=0)],
    *,
    as_json: AsJson = False,
) -> None:
    """Show a quarantined record whole, of each life of its topic that has one there."""
    from connectors import settings
    from connectors.problems import Problem
    from lake import storage
    from lake.proof import inventory

    store = storage.of(settings.load().lake)
    kept = inventory.containers(store, topic)
    found = [
        inventory.read(store, chain, offset)
        for chain, offsets in kept.items()
        if chain.partition == partition and offset in offsets
    ]
    if not found:
        raise Problem(
            f"offset {offset} of {topic}[{partition}] is not in quarantine; `waybill lake quarantine ls` tells"
        )
    details = [_detail(one) for one in found]
    if as_json:
        typer.echo(json.dumps(details))
        return
    for detail in details:
        headers = detail.pop("headers")
        for name, value in detail.items():
            typer.echo(f"{name.replace('_', ' '):<18}{dead_letters.visible('-' if value is None else str(value))}")
        for name, value in headers:
            typer.echo(f"    {dead_letters.visible(name):<26}{dead_letters.visible(value or '-')}")
        typer.echo("")


@dataclass
class _Group:
    """Records of one topic that are in quarantine for one cause; ``first`` and ``last`` as `PARTITION/OFFSET`."""

    topic: str
    cause: str
    records: int = 0
    decoded_again: int = 0
    first: str = ""
    last: str = ""

    def row(self) -> list[str]:
        cause = " ".join(dead_letters.visible(self.cause).split())[: dead_letters.ERROR_WIDTH]
        return [self.topic, f"{self.records:,}", f"{self.decoded_again:,}", self.first, self.last, cause]


def _groups(store: "Storage", topic: str, progress: "Progress") -> "Iterable[_Group]":
    from lake.proof import inventory
    from lake.proof.requarantine import MISSING

    again = inventory.requarantined(store, topic)
    groups: dict[str, _Group] = {}
    for chain, offsets in inventory.quarantined(store, topic).items():
        for offset in offsets:
            progress(1)
            try:
                cause = inventory.read(store, chain, offset).error
            except (FileNotFoundError, inventory.Damaged):
                cause = MISSING
            group = groups.setdefault(cause, _Group(topic, cause))
            group.records += 1
            group.decoded_again += (chain.epoch, chain.partition, offset) in again
            group.last = f"{chain.partition}/{offset}"
            group.first = group.first or group.last
    return groups.values()


def _detail(found: "Quarantined") -> dict[str, Any]:
    record = found.record
    payload = record.value
    return {
        "topic": record.topic,
        "epoch": found.chain.epoch,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": datetime.fromtimestamp(record.timestamp / 1000, UTC).isoformat(),
        "expected_type": found.event_type,
        "error": found.error,
        "key": _text(record.key),
        "size": None if payload is None else len(payload),
        "first_bytes": None if payload is None else payload[:HEX_BYTES].hex(" "),
        "headers": [[name, _text(value)] for name, value in record.headers],
    }


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode(errors="backslashreplace")


def _outcome(one: "Outcome") -> dict[str, Any]:
    return {
        "topic": one.topic,
        "quarantined": one.quarantined,
        "done_before": one.done,
        "decoded": one.decoded,
        "types": dict(one.types),
        "causes": dict(one.causes),
        "sample": [_detail(each) for each in one.samples],
        "files": one.files,
    }


def _print(one: "Outcome", *, done: bool) -> None:
    counts = f"{one.quarantined:,} in quarantine, {one.done:,} decoded again before"
    typer.echo(f"{one.topic}: {counts}, {one.decoded:,} {'decoded now' if done else 'would decode now'}")
    for event_type, count in one.types.most_common():
        typer.echo(f"  {count:,} rejected as {dead_letters.visible(event_type)}")
    for sample in () if done else one.samples:
        was = dead_letters.visible(" ".join(sample.error.split()))[: dead_letters.ERROR_WIDTH]
        typer.echo(f"    such as {sample.chain.partition}/{sample.record.offset}: {was}")
    for cause, count in one.causes.most_common():
        typer.echo(f"  {count:,} stay: {dead_letters.visible(' '.join(cause.split()))[: dead_letters.ERROR_WIDTH]}")
    for key, rows in one.files.items():
        typer.echo(f"  {rows:,} rows written to {key}")


@contextmanager
def _bar(topic: str) -> "Iterator[Progress]":
    """Counts records on stderr."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), TextColumn("{task.completed:,.0f} records"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(topic, total=None)
        yield lambda count: bar.advance(task, count)
