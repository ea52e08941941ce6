"""What waits for its time, or for a turn that others wait for too.  Nothing here knows a clock or Kafka.

What is due is given out, earliest first.  What is turned away - by a breaker, by a DLQ that takes no spent ones - is
parked with all that would be turned away for the same reason, its ``lot``: a hundred thousand of them are not tried
every second.  One of each lot knocks now and then; each that gets through lets others out, so that a lot empties as
fast as a limit grows.
"""

from collections import deque
from collections.abc import Hashable
from heapq import heappop, heappush
from itertools import count
from typing import Generic, Protocol, TypeVar


class Waiter(Protocol):
    @property
    def lot(self) -> Hashable: ...


W = TypeVar("W", bound=Waiter)


class Waiting(Generic[W]):
    """Times are seconds of any one clock."""

    def __init__(self) -> None:
        self._timed: list[tuple[float, int, W]] = []
        self._order = count()
        self._parked: dict[Hashable, deque[W]] = {}
        self._free: deque[W] = deque()
        self._parked_count = 0

    def __len__(self) -> int:
        return len(self._timed) + len(self._free) + self._parked_count

    def add(self, waiter: W, due: float) -> None:
        heappush(self._timed, (due, next(self._order), waiter))

    def park(self, waiter: W) -> None:
        """Somebody was turned away: those of its lot wait with it until one gets through."""
        self._parked.setdefault(waiter.lot, deque()).append(waiter)
        self._parked_count += 1

    def let_out(self, lot: Hashable, most: int) -> None:
        """Give out up to ``most`` of a lot, who waited longest first."""
        parked = self._parked.get(lot, deque())
        for _ in range(min(most, len(parked))):
            self._free.append(parked.popleft())
            self._parked_count -= 1
        if not parked:
            self._parked.pop(lot, None)

    def knock(self) -> None:
        """Give out one of each lot."""
        for lot in list(self._parked):
            self.let_out(lot, 1)

    def take(self, now: float) -> W | None:
        """The next that may be tried."""
        while not self._free and self._timed and self._timed[0][0] <= now:
            waiter = heappop(self._timed)[2]
            if waiter.lot in self._parked:
                self.park(waiter)
            else:
                self._free.append(waiter)
        return self._free.popleft() if self._free else None

    @property
    def next_due(self) -> float | None:
        """When ``take`` may have something, if nobody is let out before."""
        return self._timed[0][0] if self._timed else None

    def clear(self) -> None:
        self._timed.clear()
        self._parked.clear()
        self._free.clear()
        self._parked_count = 0
