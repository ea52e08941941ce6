"""Break two lakes, one in a folder and one in an object store, and count: ``make lake-chaos SECONDS=n SEED=s``."""

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from connectors.local import control
from lake_chaos.run import Result, run


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    told = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="waybill-lake-chaos-"))
    say(f"seed {told.seed}, everything is in {folder}")
    try:
        stack = control.up(folder / "home", lambda _done, _total: None, lambda _stack: None)
        result = run(stack, folder, told.seed, told.seconds, say)
    except BaseException:
        say(f"FAILED with seed {told.seed}; everything is in {folder}")
        raise
    finally:
        control.down(folder / "home")
    report(result)
    if result.failures:
        say(f"FAILED with seed {told.seed}; everything is in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def report(result: Result) -> None:
    say(f"{result.events:,} events, {result.quarantined} of them in quarantine; readers looked {result.looks} times")
    say(f"faults: {', '.join(f'{times} x {fault}' for fault, times in result.met.items())}")
    for what in result.ended:
        say(what)
    for failure in result.failures:
        say(f"BROKEN: {failure}")


if __name__ == "__main__":
    sys.exit(main())
