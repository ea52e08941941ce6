"""How many calls may be in flight: grows while they succeed, halves when the consumer has had enough."""


class Limiter:
    """A limit between 1 and ``maximum``, or 0 while paused.

    Starts at the maximum.  After ``restart`` it grows from 1 by one a success; after ``exhausted`` by one when as many
    calls succeeded as it allows, or a consumer at its limit would have to refuse a good part of all calls.
    """

    __slots__ = ("_cautious_from", "_round", "_successes", "in_flight", "limit", "maximum")

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.limit = maximum
        self.in_flight = 0
        self._successes = 0  # since the limit last grew
        self._cautious_from = maximum
        self._round = 0

    @property
    def free(self) -> bool:
        return self.in_flight < self.limit

    @property
    def reduced(self) -> bool:
        return self.limit < self.maximum

    def start(self) -> int:
        """A call begins.  Returns the round it belongs to."""
        self.in_flight += 1
        return self._round

    def finish(self) -> None:
        self.in_flight -= 1

    def succeeded(self) -> None:
        if 0 < self.limit < self.maximum:
            self._successes += 1
            if self.limit < self._cautious_from or self._successes >= self.limit:
                self.limit += 1
                self._successes = 0

    def exhausted(self, call_round: int) -> None:
        """Halve what is in flight; once for all calls that were under way together.  Tell it before ``finish``."""
        if call_round == self._round and self.limit:
            self.limit = self._cautious_from = max(1, min(self.limit, self.in_flight) // 2)
            self._begin_round()

    def pause(self) -> None:
        self.limit = 0

    def restart(self) -> None:
        self.limit, self._cautious_from = 1, self.maximum
        self._begin_round()

    def _begin_round(self) -> None:
        self._round += 1
        self._successes = 0
