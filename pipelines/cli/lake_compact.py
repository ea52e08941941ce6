"""``waybill lake compact``: small segments to files by date."""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.dead_letters import columns

if TYPE_CHECKING:
    from lake.main.compact import Begun, Report
    from lake.main.compaction import Intent


def compact(
    topics: Annotated[
        list[str] | None, typer.Argument(help="Topics; without, all of the lake.", metavar="TOPIC")
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Also what is neither much nor old.")] = False,
    every: Annotated[float | None, typer.Option(help="Seconds after which to do it again, for ever.", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: a list of objects, in one line.")] = False,
) -> None:
    """Write segments that are due again as larger files, sorted and by event date; remove segments long written so.

    Several may do it at once, and each may be killed at any moment.  Exit code 1 if a topic has a problem.
    """
    import pyarrow as pa

    from connectors import settings
    from lake import storage
    from lake.main import compact
    from lake.reading import snapshot

    pa.set_memory_pool(pa.system_memory_pool())  # gives back what is free: a third less at the peak
    told = settings.load().lake
    lake, policy = storage.of(told), compact.policy_of(told)

    def once(begun: "Begun") -> "list[Report]":
        found = snapshot.chosen(lake, topics or [])
        return compact.run(lake, found, policy, everything=everything, begun=begun)

    if every is None:
        with _bar() as begun:
            reports = once(begun)
        _show(reports, as_json=as_json)
        for problem in (problem for report in reports for problem in report.problems):
            typer.echo(problem, err=True)
        raise typer.Exit(int(any(report.problems for report in reports)))
    _again_and_again(once, every, as_json=as_json)


def _again_and_again(once: "Callable[[Begun], list[Report]]", seconds: float, *, as_json: bool) -> None:
    """Until SIGTERM.  What is unreachable or wrong with a topic may be mended meanwhile."""
    import structlog

    from connectors import logs
    from connectors.problems import BadInput, Problem
    from lake.main.compact import unwatched

    logs.configure()
    log = structlog.get_logger()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # a step that is cut off goes on next time
    while True:
        try:
            reports = once(unwatched)
        except BadInput:
            raise
        except Problem as problem:
            log.warning("The lake is not compacted.", error=str(problem), again_in=seconds)
        else:
            for report in reports:
                for text in report.problems:
                    log.error("A topic cannot be compacted.", topic=report.topic, error=text)
            _show(reports, as_json=as_json)
        time.sleep(seconds)


@contextmanager
def _bar() -> "Iterator[Begun]":
    """How far each step is, where somebody looks."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:

        def begun(intent: "Intent") -> Callable[[int], None]:
            rows = 2 * sum(one.rows for one in intent.inputs)
            task = bar.add_task(f"{intent.topic}, step {intent.seq}", total=rows)
            return lambda done: bar.advance(task, done)

        yield begun


def _show(reports: "list[Report]", *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([asdict(report) for report in reports]))
        return
    head = ["TOPIC", "STEPS", "SEGMENTS", "ROWS", "FILES", "BYTES", "REMOVED", "WAITING"]
    for line in columns([head, *([str(getattr(each, name.lower())) for name in head] for each in reports)]):
        typer.echo(line)
