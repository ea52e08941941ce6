"""Breakers: when calling is in vain, stop and find out with one call at a time when it is not.

                 enough failures
    CLOSED ──────────────────────────► OPEN ◄────────────────┐
      ▲                                 │ probe due          │ probe failed: the next one is due later
      │ success (of the probe or of     ▼                    │
      └── a call made before) ◄──── HALF_OPEN ───────────────┘

Time is passed in, in seconds of any clock that does not jump.
"""

from collections import deque
from enum import IntEnum
from random import Random

from pipelines import backoff

#: Seconds to the first probe at most.
FIRST_PROBE = 0.5


class State(IntEnum):
    CLOSED = 0
    """Calls flow."""

    HALF_OPEN = 1
    """One probe is in flight, nothing else is called."""

    OPEN = 2
    """Nothing is called until the next probe."""


class Breaker:
    """What both kinds share.  At most ``longest`` seconds lie between two probes."""

    __slots__ = ("_failed_probes", "_longest", "_probe", "_rng", "probe_at", "state")

    def __init__(self, longest: float, rng: Random) -> None:
        self._longest, self._rng = longest, rng
        self.state = State.CLOSED
        self.probe_at = 0.0
        self._probe = 0
        self._failed_probes = 0

    def probe_due(self, now: float) -> bool:
        return self.state is State.OPEN and now >= self.probe_at

    def begin_probe(self) -> int:
        """The number of the probe, always above 0; its end is told with it."""
        self.state = State.HALF_OPEN
        self._probe += 1
        return self._probe

    def probe_failed(self, probe: int, now: float) -> None:
        """Ignored unless ``probe`` is the one in flight."""
        if self._is_current(probe):
            self._failed_probes += 1
            self._open(now)

    def probe_abandoned(self, probe: int, now: float) -> None:
        """It told nothing: another is due at once.  Ignored unless ``probe`` is the one in flight."""
        if self._is_current(probe):
            self.state, self.probe_at = State.OPEN, now

    def _is_current(self, probe: int) -> bool:
        return self.state is State.HALF_OPEN and probe == self._probe

    def _open(self, now: float) -> None:
        self.state = State.OPEN
        self.probe_at = now + backoff.equal_jitter(
            self._failed_probes + 1, min(FIRST_PROBE, self._longest), self._longest, self._rng
        )

    def _close(self) -> bool:
        if self.state is State.CLOSED:
            return False
        self.state, self._failed_probes = State.CLOSED, 0
        return True


class ConsumerBreaker(Breaker):
    """Opens at ``threshold`` consecutive transport failures, or at one call that found no connection."""

    __slots__ = ("_failures", "_threshold")

    def __init__(self, threshold: int, longest: float, rng: Random) -> None:
        super().__init__(longest, rng)
        self._threshold = threshold
        self._failures = 0

    def failed(self, now: float, *, connected: bool) -> bool:
        """A transport failure of a call that was no probe.  True if it opened the breaker."""
        if self.state is not State.CLOSED:
            return False
        self._failures += 1
        if connected and self._failures < self._threshold:
            return False
        self._open(now)
        return True

    def answered(self) -> bool:
        """Any answer of the application.  True if it closed the breaker."""
        self._failures = 0
        return self._close()


class EndpointBreaker(Breaker):
    """Opens when the last ``window`` outcomes, over at least ``distinct`` events, are all failures."""

    __slots__ = ("_distinct", "_failed")

    def __init__(self, window: int, distinct: int, longest: float, rng: Random) -> None:
        super().__init__(longest, rng)
        self._distinct = min(distinct, window)
        self._failed: deque[str] = deque(maxlen=window)  # event ids since the last success

    def failed(self, event_id: str, now: float) -> bool:
        """A failure of a call that was no probe.  True if it opened the breaker."""
        if self.state is not State.CLOSED:
            return False
        self._failed.append(event_id)
        if len(self._failed) < (self._failed.maxlen or 0) or len(set(self._failed)) < self._distinct:
            return False
        self._open(now)
        return True

    def succeeded(self) -> bool:
        """The endpoint dealt with an event.  True if it closed the breaker."""
        if self._failed:
            self._failed.clear()
        return self._close()
