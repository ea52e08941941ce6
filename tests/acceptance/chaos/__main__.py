"""Break a whole stack for some minutes and weigh what is left: ``make chaos MINUTES=n SEED=s``."""

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from chaos.run import Result, run
from connectors.local import control
from connectors.local.state import Stack


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--rate", type=float, default=50, help="events a second")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    parser.add_argument("--keep", action="store_true", help="keep the folder of a run that found nothing, too")
    told = parser.parse_args()
    return on_a_stack(
        "chaos",
        told.seed,
        lambda stack, folder: judged(run(stack, folder, told.seed, told.minutes * 60, told.rate, say)),
        brokers=told.brokers,
        keep=told.keep,
    )


def on_a_stack(
    name: str, seed: int, work: Callable[[Stack, Path], bool], *, brokers: int = 1, keep: bool = False
) -> int:
    """The exit code of ``work``, which says whether all is well; if not, its folder and its seed are told and kept."""
    folder = Path(tempfile.mkdtemp(prefix=f"waybill-{name}-"))
    say(f"seed {seed}, everything is in {folder}")
    well = False
    try:
        stack = control.up(folder / "home", lambda _done, _total: None, lambda _stack: None, brokers)
        well = work(stack, folder)
    finally:
        control.down(folder / "home")
        if not well:
            say(f"FAILED with seed {seed}; everything is in {folder}")
    if well and not keep:
        shutil.rmtree(folder)
    return 0 if well else 1


def judged(result: Result) -> bool:
    report(result)
    return not result.verdict.failures


def report(result: Result) -> None:
    verdict = result.verdict
    say(f"{result.saved:,} events saved, {verdict.accepted:,} deliveries, {result.replayed:,} of them replayed")
    say(f"settled after {result.settled_after:.0f} s")
    kinds = Counter(str(fault.kind) for fault in result.faults)
    say(f"faults: {', '.join(f'{times} x {kind}' for kind, times in kinds.items())}")
    share = 100 / max(1, verdict.accepted)
    say(f"duplicates: {len(verdict.duplicates)} ({len(verdict.duplicates) * share:.2f} %)")
    for cause, times in verdict.by_cause.most_common():
        say(f"  {times:6,} ({times * share:.2f} %) {cause}")
    say(f"processes that ended by themselves: {len(result.crashes)}")
    for crash in result.crashes:
        say(f"  {crash}")
    for failure in verdict.failures:
        say(f"BROKEN: {failure}")
    for text in result.histories:
        say(text)


if __name__ == "__main__":
    sys.exit(main())
