"""How many generated inputs a test looks at."""

import os
from collections.abc import Callable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

FACTOR = int(os.environ.get("WAYBILL_EXAMPLES_FACTOR", "1"))
_INPUTS_A_SEED = 10


def examples(count: int) -> int:
    """``count`` in `make test`, $WAYBILL_EXAMPLES_FACTOR times as many in `make soak`."""
    return count * FACTOR


def fuzz(count: int) -> Callable[[Callable[[Random], None]], Callable[[], None]]:
    """Run a test ``examples(count)`` times, each with another Random to make its input from.

    Hypothesis picks and reports the seeds.  Inputs drawn by its strategies would be a tenth as many a second.
    """

    def decorate(test: Callable[[Random], None]) -> Callable[[], None]:
        @settings(max_examples=examples(count) // _INPUTS_A_SEED, deadline=None)
        @given(seed=st.integers(0, 2**64 - 1))
        def run(seed: int) -> None:
            for number in range(_INPUTS_A_SEED):
                try:
                    test(Random(f"{seed}/{number}"))
                except Exception as error:
                    error.add_note(f"with Random({f'{seed}/{number}'!r})")
                    raise

        return run

    return decorate
