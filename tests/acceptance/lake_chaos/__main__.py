"""Break two lakes, one in a folder and one in an object store, and count: ``make lake-chaos SECONDS=n SEED=s``."""

import argparse
import random
import sys

from chaos.__main__ import on_a_stack, say

from lake_chaos.run import Result, run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    told = parser.parse_args()
    return on_a_stack(
        "lake-chaos", told.seed, lambda stack, folder: judged(run(stack, folder, told.seed, told.seconds, say))
    )


def judged(result: Result) -> bool:
    report(result)
    return not result.failures


def report(result: Result) -> None:
    say(f"{result.events:,} events, {result.quarantined} of them in quarantine; readers looked {result.looks} times")
    say(f"faults: {', '.join(f'{times} x {fault}' for fault, times in result.met.items())}")
    for what in result.ended:
        say(what)
    for failure in result.failures:
        say(f"BROKEN: {failure}")


if __name__ == "__main__":
    sys.exit(main())
