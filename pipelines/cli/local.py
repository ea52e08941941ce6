"""``waybill local``: Postgres, Kafka and Connect on this machine, without Docker."""

import json
import subprocess
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from connectors.local import state
from connectors.problems import BadInput

app = typer.Typer(help="The local stack: Postgres, Kafka and Kafka Connect with Debezium, without Docker.")

Home = Annotated[
    Path,
    typer.Option(
        "--home",
        envvar="WAYBILL_HOME",
        default_factory=state.default_home,
        show_default="./.waybill",
        help="Folder of the stack's data and state.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def up(home: Home) -> None:
    """Start the stack, unless it runs already, and wait until it is ready."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from connectors.local import control

    console = Console(stderr=True, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        jars = progress.add_task("Downloading Kafka, Connect and Debezium, once", total=None, visible=False)
        parts = progress.add_task("Starting", total=len(state.PARTS))

        def on_jars(done: int, total: int) -> None:
            if done == 0:
                console.print(f"Downloading Kafka, Connect and Debezium: {total} jars, once.", highlight=False)
            progress.update(jars, completed=done, total=total, visible=True)

        def on_state(stack: state.Stack) -> None:
            waiting = [name for name, part in stack.parts.items() if not part.ready]
            description = f"Starting {', '.join(waiting)}"
            progress.update(parts, description=description, completed=len(state.PARTS) - len(waiting))

        stack = control.up(home, on_jars, on_state)
    for warning in stack.warnings:
        console.print(f"[yellow]warning:[/] {warning}", highlight=False)
    console.print("The local stack is ready; end it with `waybill local down`.", highlight=False)
    for name in state.PARTS:
        typer.echo(f"{name:<9} {getattr(stack, name)}")


@app.command()
def status(home: Home, *, as_json: AsJson = False) -> None:
    """Show where each part listens, its process, and how often it died. Exit code 1: a part is not ready."""
    from connectors.local import control

    stack = state.read(home)
    if as_json:
        parts = {
            name: {"address": getattr(stack, name), "pid": part.pid, "ready": part.ready, "restarts": part.restarts}
            for name, part in stack.parts.items()
        }
        typer.echo(json.dumps({"ready": stack.ready, "pid": stack.pid, "parts": parts}))
    else:
        for name, part in stack.parts.items():
            ready = "ready" if part.ready else "not ready"
            pid = part.pid or "-"
            typer.echo(f"{name:<9} {ready:<10} pid {pid:<8} restarts {part.restarts:<3} {getattr(stack, name)}")
            if part.last_words:
                typer.echo(part.last_words, err=True)
    control.check_space(home, control.WORK_BYTES)
    raise typer.Exit(0 if stack.ready else 1)


@app.command()
def logs(
    home: Home,
    part: Annotated[str, typer.Argument(help="postgres, kafka, connect or supervisor.", show_default="all")] = "",
    lines: Annotated[int, typer.Option("--lines", "-n", help="Last lines of each log.")] = 20,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing what is written.")] = False,
) -> None:
    """Print the last lines of the parts' logs."""
    from connectors.local import control

    paths = control.log_paths(home)
    if not paths:
        raise BadInput(f"There are no logs in {home}; start the stack with `waybill local up`.")
    if part and part not in paths:
        raise BadInput(f"There is no log of {part!r}; there are those of {', '.join(paths)}.")
    chosen = [str(paths[part])] if part else [str(path) for path in paths.values()]
    going_on = ("--follow=name", "--retry") if follow else ()
    subprocess.run(("tail", f"--lines={lines}", *going_on, "--", *chosen), check=False)


@app.command()
def down(home: Home) -> None:
    """End the stack in good order; its data stays."""
    from connectors.local import control

    console = Console(stderr=True, soft_wrap=True)
    with console.status("Ending the local stack"):
        ended = control.down(home)
    text = (
        f"The local stack is down; its data stays in {state.folder(home)}." if ended else "No local stack is running."
    )
    console.print(text, highlight=False)
