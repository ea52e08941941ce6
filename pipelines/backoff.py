"""How long to wait before another try: exponential, with jitter, capped."""

from random import Random

#: Doublings beyond this one cannot matter and would overflow a float some day.
_DOUBLINGS = 64


def full_jitter(retry: int, initial: float, longest: float, rng: Random) -> float:
    """Seconds before the ``retry``-th (from 1) try again: anything up to its ceiling."""
    return rng.uniform(0.0, ceiling(retry, initial, longest))


def equal_jitter(retry: int, initial: float, longest: float, rng: Random) -> float:
    """Seconds before the ``retry``-th (from 1) try again: half its ceiling to all of it."""
    top = ceiling(retry, initial, longest)
    return rng.uniform(top / 2, top)


def ceiling(retry: int, initial: float, longest: float) -> float:
    return min(longest, initial * 2.0 ** min(max(retry, 1) - 1, _DOUBLINGS))
