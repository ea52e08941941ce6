"""How fast spent deliveries may become dead letters: as fast as others of their endpoint succeed.

So an outage fills no DLQ.
"""

#: Seconds after which one may enter although nothing succeeded.
PATIENCE = 60.0


class DlqTokens:
    """A success earns one, up to ``capacity``; a dead letter takes one.  Without any, one a minute may enter."""

    __slots__ = ("_capacity", "_last", "_tokens")

    def __init__(self, capacity: int = 10) -> None:
        self._capacity = capacity
        self._tokens = 0
        self._last = float("-inf")

    def succeeded(self) -> None:
        if self._tokens < self._capacity:
            self._tokens += 1

    def take(self, now: float) -> bool:
        """Whether one dead letter may enter now (seconds of a clock that does not jump); it counts as entered."""
        if self._tokens:
            self._tokens -= 1
        elif now - self._last < PATIENCE:
            return False
        self._last = now
        return True
