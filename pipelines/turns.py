"""Who waits for a call to a consumer, and whose turn it is."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from pipelines.breaker import EndpointBreaker, State
from pipelines.dlq_tokens import DlqTokens
from pipelines.limiter import Limiter


class Kind(Enum):
    FRESH = "fresh"
    RETRY = "retry"


def always() -> bool:
    return True


def never() -> bool:
    return False


class EndpointState:
    """What is known about one endpoint.  Its limiter is paused while its breaker is not closed."""

    __slots__ = ("breaker", "limiter", "name", "tokens", "waiting")

    def __init__(self, name: str, breaker: EndpointBreaker, maximum: int) -> None:
        self.name = name
        self.breaker = breaker
        self.limiter = Limiter(maximum)
        self.tokens = DlqTokens()
        self.waiting: dict[Kind, deque[Attempt]] = {kind: deque() for kind in Kind}

    @property
    def holds(self) -> bool:
        """Whether its breaker, open or just closed, is why an attempt would wait."""
        return self.limiter.reduced and not self.limiter.free


@dataclass(slots=True, eq=False)
class Attempt:
    """One delivery that seeks an attempt.

    ``openings``: see CutOff.  ``waits``: asked whether it waits when its endpoint's breaker holds it.  ``cuts``: how
    many of its calls were cut off.
    """

    endpoint: EndpointState
    event_id: str
    kind: Kind
    openings: int = 0
    waits: Callable[[], bool] = always
    cuts: int = field(default=0, init=False)
    running: bool = field(default=False, init=False)
    arrival: int = field(default=0, init=False)
    limiter_round: int = field(default=0, init=False)
    consumer_probe: int = field(default=0, init=False)
    endpoint_probe: int = field(default=0, init=False)


class Turns:
    """Queues of all endpoints.  Endpoints take turns, and so do fresh deliveries and retries while both wait."""

    def __init__(self) -> None:
        self.waiting = 0
        self._arrivals = 0
        self._endpoints: deque[EndpointState] = deque()
        self._last = Kind.FRESH

    def add(self, endpoint: EndpointState) -> None:
        self._endpoints.append(endpoint)

    def queue(self, attempt: Attempt) -> None:
        self._arrivals += 1
        attempt.arrival = self._arrivals
        attempt.endpoint.waiting[attempt.kind].append(attempt)
        self.waiting += 1

    def leave(self, attempt: Attempt) -> None:
        """``attempt`` waits no longer."""
        attempt.endpoint.waiting[attempt.kind].remove(attempt)
        self.waiting -= 1

    def __iter__(self) -> Iterator[Attempt]:
        """All that wait, in no order that matters."""
        for endpoint in self._endpoints:
            yield from _queued(endpoint)

    def next(self, retries_allowed: bool) -> Attempt | None:
        """Whose turn it is among those whose endpoint has a place; without ``retries_allowed`` only if alone."""
        fresh, retry = self._first(Kind.FRESH), self._first(Kind.RETRY)
        retry_first = retries_allowed and self._last is Kind.FRESH
        attempt = (retry or fresh) if retry_first else (fresh or retry)
        if attempt:
            self._last = attempt.kind
            self._endpoints.remove(attempt.endpoint)
            self._endpoints.append(attempt.endpoint)
        return attempt

    def probe_of_an_endpoint(self, now: float) -> Attempt | None:
        """A delivery that can be the probe of its endpoint's breaker, which is due."""
        due = (endpoint for endpoint in self._endpoints if endpoint.breaker.probe_due(now))
        return next((_least_cut(_queued(endpoint)) for endpoint in due if any(endpoint.waiting.values())), None)

    def probe_of_the_consumer(self) -> Attempt:
        """A delivery for the consumer's breaker; somebody must be waiting."""
        return _least_cut(self)

    def next_probe_at(self) -> float | None:
        """When the breaker of an endpoint somebody waits for wants its next probe."""
        return min(
            (
                endpoint.breaker.probe_at
                for endpoint in self._endpoints
                if endpoint.breaker.state is State.OPEN and any(endpoint.waiting.values())
            ),
            default=None,
        )

    def _first(self, kind: Kind) -> Attempt | None:
        for endpoint in self._endpoints:
            if endpoint.waiting[kind] and endpoint.limiter.free:
                return endpoint.waiting[kind][0]
        return None


def _queued(endpoint: EndpointState) -> Iterator[Attempt]:
    for queue in endpoint.waiting.values():
        yield from queue


def _least_cut(attempts: Iterable[Attempt]) -> Attempt:
    """The one cut off least often, the longest waiting of those; of an endpoint that is open only if all are.

    So each probe is another delivery, and one that may be the cause of the failures waits longest.
    """
    return min(
        attempts,
        key=lambda attempt: (attempt.endpoint.breaker.state is not State.CLOSED, attempt.cuts, attempt.arrival),
    )
