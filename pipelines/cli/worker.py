"""``waybill worker``: the same process as ``faust worker``, by the consumer's name."""

import os
import sys
from typing import Annotated

import typer

from pipelines import names

LAKE = "lake"


def worker(
    name: Annotated[str, typer.Argument(help="A consumer, `replay` or `lake`.")],
    loglevel: Annotated[str, typer.Option(help="debug, info, warning or error.", envvar="WAYBILL_LOGLEVEL")] = "info",
) -> None:
    """Run the worker of a consumer, of replays or of the lake.  Several of one name share the work."""
    app = "lake.apps:sink" if name == LAKE else f"pipelines.apps:{names.app_name(name)}"
    command = [sys.executable, "-m", "faust", "-A", app, "worker", "-l", loglevel]
    os.execv(sys.executable, command)  # noqa: S606 - becomes the stock Faust worker, signals and all
