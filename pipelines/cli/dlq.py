"""``waybill dlq``: deliveries that were given up, why, and how to try them again."""

import json
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from connectors.problems import Problem
from pipelines.cli import dead_letters, replay
from pipelines.cli.dead_letters import ConsumerName, EndpointName, ErrorPart, Json, Since, TypeName

if TYPE_CHECKING:
    from connectors.schemas import Catalog
    from pipelines.dlq import DeadLetter

app = typer.Typer(help="Dead letters: deliveries that were given up.", no_args_is_help=True)

#: Bytes of an undecodable payload that are shown.
HEX_BYTES = 64


@app.command()
def ls(
    consumer: ConsumerName,
    *,
    error: ErrorPart = "",
    type_: TypeName = "",
    endpoint: EndpointName = "",
    since: Since = "",
    replayed: Annotated[bool, typer.Option("--all", help="Also those that were replayed.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many to list, newest first; all are counted.")] = 50,
    as_json: Json = False,
) -> None:
    """List the open dead letters of a consumer, newest first."""
    from pipelines import dlq, replay_client

    access, _, found = dead_letters.open_consumer(consumer)
    meant = dead_letters.filter_of(error, type_, endpoint, since)
    state = replay_client.read_state(access)
    matching = (
        dead_letter
        for dead_letter in replay_client.dead_letters(access, found.dlq_topic)
        if meant.matches(dead_letter) and (replayed or state.moved_by(dead_letter) is None)
    )
    summary = dlq.summarize(matching, keep=limit)
    newest = summary.newest
    if as_json:
        typer.echo(json.dumps([dead_letters.facts(d, state.moved_by(d)) for d in newest]))
    elif newest:
        head = ["WHERE", "EVENT", "TYPE", "ENDPOINT", "ATTEMPTS", "LAST FAILED", "STATUS", "ERROR"]
        rows = [dead_letters.row(dead_letter) for dead_letter in newest]
        if replayed:
            head.append("REPLAYED BY")
            rows = [[*row, state.moved_by(moved) or "-"] for row, moved in zip(rows, newest, strict=True)]
        for line in dead_letters.columns([head, *rows]):
            typer.echo(line)
    by_error = f": {dead_letters.counts(summary.by_error)}" if newest else ""
    more = f"; the newest {limit} are listed" if summary.total > limit else ""
    typer.echo(f"{summary.total:,} {'' if replayed else 'open '}dead letters of {consumer}{by_error}{more}", err=True)


@app.command()
def show(
    consumer: ConsumerName,
    which: Annotated[str, typer.Argument(metavar="EVENT_ID|PARTITION/OFFSET", help="As `waybill dlq ls` tells it.")],
    as_json: Json = False,
) -> None:
    """Show dead letters whole: what happened, headers, payload."""
    from pipelines import replay_client

    access, catalog, found = dead_letters.open_consumer(consumer)
    place = re.fullmatch(r"(\d{1,9})/(\d{1,18})", which)
    ranges = {int(place[1]): (int(place[2]), int(place[2]) + 1)} if place else None
    shown = [
        dead_letter
        for dead_letter in replay_client.dead_letters(access, found.dlq_topic, ranges)
        if place or dead_letter.event.id == which
    ]
    if not shown:
        raise Problem(f"{found.dlq_topic} has no dead letter {which}; `waybill dlq ls {consumer} --all` lists them")
    state = replay_client.read_state(access)
    details = [
        {**dead_letters.facts(d, state.moved_by(d)), "headers": _headers(d), "payload": _payload(d, catalog)}
        for d in shown
    ]
    if as_json:
        typer.echo(json.dumps(details))
        return
    for detail in details:
        del detail["delivery"]  # the headers tell it
        for name, value in detail.items():
            typer.echo(f"{name.replace('_', ' '):<18}{_text(value)}")
        typer.echo("")


app.command()(replay.replay)


def _headers(dead_letter: "DeadLetter") -> list[list[str | None]]:
    return [
        [name, value.decode(errors="backslashreplace") if value is not None else None]
        for name, value in dead_letter.event.headers
    ]


def _payload(dead_letter: "DeadLetter", catalog: "Catalog") -> Any:
    """JSON of the payload; where it cannot be decoded, why, and how it begins."""
    from pipelines import payload

    event = dead_letter.event
    value = event.value or b""
    described = next((known for known in catalog.events if known.name == event.type), catalog.event(event.topic))
    reason = f"no event type is called {event.type!r} or has the topic {event.topic}"
    if described:
        try:
            return payload.to_json(described.descriptor, value)
        except payload.Undecodable as error:
            reason = str(error)
    return {"undecodable": reason, "first_bytes": value[:HEX_BYTES].hex(" ")}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "\n" + "\n".join(f"    {line}" for line in json.dumps(value, indent=2, ensure_ascii=False).split("\n"))
    if isinstance(value, list):
        return "".join(f"\n    {name:<26}{dead_letters.visible(text or '-')}" for name, text in value)
    return "-" if value is None else dead_letters.visible(str(value))
