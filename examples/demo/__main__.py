"""``python -m examples.demo``: run the demo; ``--keep`` leaves all running, ``--stop`` ends what was kept.

Exit codes: 0 the ledger balances, 1 it does not or something failed, 130 interrupted.
"""

import argparse
import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.markup import escape

from connectors.local import control, state
from connectors.problems import Problem
from examples.demo import ledger, place, view
from examples.demo.look import Watch
from examples.demo.processes import Processes, stop_recorded
from examples.demo.story import Story

#: A supervisor of the local stack that was only just started can be told to end after this many seconds.
UNBORN_SECONDS = 2.0

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description="Waybill on one machine, at work.")
    parser.add_argument("--keep", action="store_true", help="leave everything running in the end")
    parser.add_argument("--stop", action="store_true", help="end what --keep left running")
    told = parser.parse_args()
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    place.enter()
    console = view.console()
    try:
        with _alone():
            stopped = _stop_kept()
            if not told.stop:
                return _demo(console, keep=told.keep)
            console.print("The demo that was kept is ended." if stopped else "No demo was kept.")
            return 0
    except Problem as problem:
        console.print(f"[bold red]error:[/] {escape(str(problem))}")
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted.")
        return INTERRUPTED


def _demo(console: Console, *, keep: bool) -> int:
    began = time.monotonic()
    place.make_anew()
    processes = Processes(place.LOGS, keep=keep)
    kept = False
    try:
        _up()
        addresses, metrics = place.configure()
        with closing(Watch(state.read().postgres, metrics)) as watch, view.View(console, began) as shown:
            facts, wrong = Story(processes, shown, watch, addresses).run(metrics)
        console.print("", view.ledger(ledger.lines(facts)), "")
        _judge(console, wrong, time.monotonic() - began)
        if keep:
            processes.record(place.KEPT)
            kept = True
            _what_next(console, metrics)
    finally:
        if not kept:
            _end(console, processes)
    return 1 if wrong else 0


def _up() -> None:
    """Start the local stack; a download shows its progress."""
    if subprocess.run((place.WAYBILL, "local", "up"), stdout=subprocess.DEVNULL, check=False).returncode:
        raise Problem("The local stack did not start; its message is above.")


def _judge(console: Console, wrong: tuple[str, ...], seconds: float) -> None:
    if wrong:
        console.print(f"[bold red]The ledger does not balance[/] after {seconds:.0f} s:")
        for sentence in wrong:
            console.print(f"  - {escape(sentence)}")
        return
    console.print(
        f"[bold green]The ledger balances[/] after {seconds:.0f} s: every saved event was delivered to each subscriber "
        "and is in the lake exactly once; no event that was rolled back appeared anywhere."
    )


def _what_next(console: Console, metrics: Mapping[str, int]) -> None:
    home = place.HOME.relative_to(place.ROOT)
    database = state.read().postgres
    served = ", ".join(f"{worker} 127.0.0.1:{port}/metrics" for worker, port in metrics.items())
    console.print(
        f"""
Everything goes on running. Try, in {place.ROOT}:

  export PATH="$PWD/.venv/bin:$PATH" WAYBILL_HOME={home} WAYBILL_CONFIG={place.CONFIG.relative_to(place.ROOT)}
  waybill local status
  waybill routes
  waybill dlq ls notifications --all
  waybill lake sql "SELECT package.destination.country_code AS country, count(*) FROM package_delivered GROUP BY 1"
  DATABASE_URL={database} python -m examples.producer work --tours 10

Prometheus metrics: {served}.
Logs: {home}/logs and `waybill local logs`. End it all with `make demo-stop`.""",
        markup=False,
        soft_wrap=True,
    )


def _end(console: Console, processes: Processes) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):  # the terminal may be gone
        console.print("Ending everything that was started.")
    processes.stop_all()
    _end_stack()
    console.print(f"Everything is ended. Logs: {place.LOGS} and {state.folder(place.HOME) / 'logs'}.", soft_wrap=True)


def _end_stack() -> bool:
    deadline = time.monotonic() + UNBORN_SECONDS
    while state.supervisor_pid(place.HOME) is None and time.monotonic() < deadline:
        time.sleep(state.POLL_SECONDS)
    return control.down(place.HOME)


def _stop_kept() -> bool:
    """End what an earlier demo left running; False if there is nothing."""
    return any([stop_recorded(place.KEPT), control.down(place.HOME)])


@contextmanager
def _alone() -> Iterator[None]:
    """Problem if another demo runs in this folder."""
    try:
        place.LOCK.parent.mkdir(exist_ok=True)
        with place.LOCK.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError:
        raise Problem("A demo runs in this folder already; wait for its end, or interrupt it.") from None


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
