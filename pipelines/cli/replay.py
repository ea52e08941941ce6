"""Replays: a plan first; the replay worker runs it."""

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from connectors.problems import BadInput
from pipelines.cli import dead_letters
from pipelines.cli.dead_letters import ConsumerName, EndpointName, ErrorPart, Json, Since, TypeName

if TYPE_CHECKING:
    from connectors.access import Access
    from pipelines.dlq import Summary
    from pipelines.plan import Plan

app = typer.Typer(help="Replays of dead letters.", no_args_is_help=True)

#: Dead letters a plan shows.
SAMPLE = 5


@app.callback()
def _group() -> None:
    """Keep `status` a command of its own."""


def replay(
    consumer: ConsumerName,
    *,
    error: ErrorPart = "",
    type_: TypeName = "",
    endpoint: EndpointName = "",
    since: Since = "",
    rate: Annotated[str, typer.Option(help="Deliveries a second, as 50 or 50/s.")] = "100",
    yes: Annotated[bool, typer.Option("--yes", help="Start it; without this only the plan is shown.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow it to its end.")] = True,
    as_json: Json = False,
) -> None:
    """Give open dead letters another try, each at the endpoint that failed.

    Shows the plan alone unless told --yes.  The plan runs in the replay worker and goes on without this command.
    Exit codes: 0 planned or ended, 4 submitted but not seen to end.
    """
    from pipelines import dlq, replay_client

    access, _, found = dead_letters.open_consumer(consumer)
    now = datetime.now(UTC)
    plan = replay_client.make_plan(
        access, found, dead_letters.filter_of(error, type_, endpoint, since), _rate(rate), now
    )
    summary = dlq.summarize(replay_client.covered(access, plan, replay_client.read_state(access)), keep=SAMPLE)
    if not (yes and as_json):
        _print_plan(plan, summary, as_json=as_json)
    if not yes:
        typer.echo("nothing was sent; run it again with --yes to start it in the replay worker", err=True)
    elif not summary.movable:
        typer.echo("there is nothing to replay", err=True)
        if as_json:
            typer.echo(json.dumps({"plan": None, "moved": 0, "skipped": 0}))
    else:
        replay_client.submit(access, plan)
        typer.echo(f"plan {plan.id} is submitted; Ctrl-C here does not stop it", err=True)
        if wait:
            _follow(access, plan, summary.movable, as_json=as_json)
        elif as_json:
            typer.echo(json.dumps({"plan": plan.id}))


def _follow(access: "Access", plan: "Plan", expected: int, *, as_json: bool) -> None:
    from rich.console import Console
    from rich.progress import Progress as Bar

    from pipelines import replay_client

    progress = None
    try:
        with Bar(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("replay", total=expected)
            for progress in replay_client.watch(access, plan):
                bar.update(task, completed=progress.moved if progress else 0)
    except KeyboardInterrupt:
        typer.echo(f"plan {plan.id} goes on in the worker; see `waybill replay status`", err=True)
        raise typer.Exit(4) from None
    assert progress, "watch ends with the plan"
    if as_json:
        typer.echo(json.dumps({"plan": plan.id, "moved": progress.moved, "skipped": progress.skipped}))
    else:
        typer.echo(
            f"moved {progress.moved:,} dead letters to {plan.retry_topic}, skipped {progress.skipped:,} malformed"
        )


def _print_plan(plan: "Plan", summary: "Summary", *, as_json: bool) -> None:
    counts = {"type": summary.by_type, "endpoint": summary.by_endpoint, "error": summary.by_error}
    seconds = summary.movable / plan.rate
    if as_json:
        told = {
            "consumer": plan.consumer,
            "deliveries": summary.movable,
            "malformed": summary.malformed,
            **{f"by_{name}": dict(counted) for name, counted in counts.items()},
            "sample": [dead_letters.facts(dead_letter, None) for dead_letter in summary.newest],
            "target": plan.retry_topic,
            "cut_off": plan.made_at.isoformat(),
            "ranges": plan.ranges,
            "rate": plan.rate,
            "estimated_seconds": seconds,
        }
        typer.echo(json.dumps(told))
        return
    typer.echo(f"Plan: {summary.movable:,} deliveries to {plan.consumer} alone, by {plan.retry_topic}")
    for name, counted in counts.items():
        typer.echo(f"  {name:<10}{dead_letters.counts(counted) or '-'}")
    for index, line in enumerate(
        dead_letters.columns([dead_letters.row(dead_letter) for dead_letter in summary.newest])
    ):
        typer.echo(f"  {'' if index else 'sample':<10}{line}")
    if summary.malformed:
        typer.echo(f"  skipped   {summary.malformed:,} malformed; `waybill dlq ls {plan.consumer} --error MALFORMED`")
    typer.echo(f"  cut-off   {plan.made_at:%Y-%m-%d %H:%M:%SZ}, what comes later is not touched")
    typer.echo(f"  estimate  {max(1, seconds):,.0f} s at {plan.rate:g}/s")


def _rate(text: str) -> float:
    match = re.fullmatch(r"(\d{1,6}(\.\d{1,3})?)(/s)?", text)
    if not match or not float(match[1]):
        raise BadInput(f"--rate: {text!r} is no number of deliveries a second, such as 50 or 0.5")
    return float(match[1])


@app.command()
def status(as_json: Json = False) -> None:
    """Show every replay plan and how far it has come."""
    from connectors import settings
    from pipelines import replay_client

    access = settings.load().kafka.access
    state = replay_client.read_state(access)
    found = [
        {
            "plan": plan.id,
            "consumer": plan.consumer,
            "state": progress.state.value if progress else "waiting",
            "moved": progress.moved if progress else 0,
            "skipped": progress.skipped if progress else 0,
            "made_at": plan.made_at.isoformat(timespec="seconds"),
            "updated_at": progress.updated_at if progress else None,
        }
        for plan in sorted(replay_client.submitted(access), key=lambda plan: plan.id)
        for progress in [state.progress(plan.id)]
    ]
    if as_json:
        typer.echo(json.dumps(found))
        return
    head = ["PLAN", "CONSUMER", "STATE", "MOVED", "SKIPPED"]
    for line in dead_letters.columns([head, *([str(each[name.lower()]) for name in head] for each in found)]):
        typer.echo(line)
