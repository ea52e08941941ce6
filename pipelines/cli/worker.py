"""``waybill worker``: the same process as ``faust worker``, by the consumer's name."""

import os
import sys
from typing import Annotated

import typer

from pipelines import names

LAKE = "lake"


def worker(
    name: Annotated[str, typer.Argument(help="A consumer, `replay` or `lake`.")],
    topic: Annotated[str | None, typer.Argument(help="A dedicated topic of the consumer.")] = None,
    loglevel: Annotated[str, typer.Option(help="debug, info, warning or error.", envvar="WAYBILL_LOGLEVEL")] = "info",
) -> None:
    """Run the worker of a consumer, of a dedicated topic of it, of replays or of the lake.

    Several of one name share the work.
    """
    app = "lake.apps:sink" if (name, topic) == (LAKE, None) else f"pipelines.apps:{names.app_name(name, topic)}"
    command = [sys.executable, "-m", "faust", "-A", app, "worker", "-l", loglevel]
    os.execv(sys.executable, command)  # noqa: S606 - becomes the stock Faust worker, signals and all
