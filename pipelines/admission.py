"""Who may call a consumer now: breakers, limits and turns, decided without a clock, a socket or a task.

An ``Attempt`` enters, or waits in the queue of its endpoint until ``admit`` picks it; when its call is over ``finish``
says what it came to, or that it was cut off by a breaker and is to be made again, unspent.

While the consumer's breaker is open nobody is admitted but its probes; while an endpoint's is open nobody of that
endpoint but its probes.  A free slot means that nobody who may call is waiting: ``admit`` until None after each change.
"""

from dataclasses import replace
from random import Random

from connectors.reply import Reach
from pipelines.breaker import ConsumerBreaker, EndpointBreaker, State
from pipelines.format import Breaker as BreakerFormat
from pipelines.limiter import Limiter
from pipelines.outcome import Against, Delivered, Outcome, Rejected, Retryable
from pipelines.turns import Attempt, EndpointState, Kind, Turns

#: Openings of the consumer's breaker after which a delivery that was in flight at each is taken for their cause.
SUSPECT_OPENINGS = 3


class Admission:
    """All attempts of one process at one consumer."""

    def __init__(self, max_in_flight: int, settings: BreakerFormat, rng: Random) -> None:
        self._settings, self._rng = settings, rng
        self.breaker = ConsumerBreaker(settings.transport_failures, settings.probe_interval, rng)
        self.limiter = Limiter(max_in_flight)
        self.endpoints: dict[str, EndpointState] = {}
        self.retries_in_flight = 0
        self._turns = Turns()

    @property
    def waiting(self) -> int:
        return self._turns.waiting

    def endpoint(self, name: str) -> EndpointState:
        found = self.endpoints.get(name)
        if found is None:
            told = self._settings
            breaker = EndpointBreaker(told.window, told.distinct_events, told.probe_interval, self._rng)
            found = self.endpoints[name] = EndpointState(name, breaker, self.limiter.maximum)
            self._turns.add(found)
        return found

    # -- before the call

    def enter(self, attempt: Attempt) -> bool:
        """Whether the call may be made at once; else ``queue`` it."""
        ours, its = self.limiter, attempt.endpoint.limiter
        if ours.in_flight >= ours.limit or its.in_flight >= its.limit:
            return False
        self._start(attempt)
        return True

    def queue(self, attempt: Attempt) -> None:
        self._turns.queue(attempt)

    def leave(self, attempt: Attempt) -> None:
        """``attempt`` waits no longer."""
        self._turns.leave(attempt)

    def steps_aside(self, attempt: Attempt) -> bool:
        """Whether one that does not wait for its endpoint's breaker is held by it.

        While the consumer's breaker is open everybody waits: its probe must be somebody's.
        """
        return self.breaker.state is State.CLOSED and attempt.endpoint.holds and not attempt.waits()

    def stepping_aside(self) -> list[Attempt]:
        """Those of the queues that do."""
        return [attempt for attempt in self._turns if self.steps_aside(attempt)]

    def admit(self, now: float) -> Attempt | None:
        """The next one that waits and whose call may be made now."""
        if not (self.waiting and self.limiter.free):
            return None
        attempt = self._turns.probe_of_an_endpoint(now)
        if attempt:
            attempt.endpoint_probe = attempt.endpoint.breaker.begin_probe()
        else:
            # While fresh deliveries wait, retries have at most half of what is in flight.
            attempt = self._turns.next(retries_allowed=self.retries_in_flight < max(1, self.limiter.limit // 2))
        if attempt:
            self._turns.leave(attempt)
            self._start(attempt)
        return attempt

    def probe_consumer(self, now: float) -> Attempt | None:
        """The probe of the consumer's breaker, if one is due."""
        if not (self.waiting and self.breaker.probe_due(now)):
            return None
        attempt = self._turns.probe_of_the_consumer()
        attempt.consumer_probe = self.breaker.begin_probe()
        self._turns.leave(attempt)
        self._start(attempt)
        return attempt

    def next_endpoint_probe(self) -> float | None:
        """When an endpoint's probe will be due that can then be made."""
        return self._turns.next_probe_at() if self.waiting and self.limiter.free else None

    # -- after the call

    def finish(self, attempt: Attempt, outcome: Outcome, reach: Reach, now: float) -> Outcome | None:
        """What the attempt came to; None if a breaker cut it off: it is not spent and enters again."""
        endpoint = attempt.endpoint
        match outcome:
            case Delivered():
                self._succeeded(endpoint)
                endpoint.tokens.succeeded()
            case Rejected():
                self._succeeded(endpoint)
            case Retryable(against=Against.CONSUMER):
                self.breaker.probe_failed(attempt.consumer_probe, now)
                if self.breaker.failed(now, connected=reach is not Reach.UNSENT):
                    self.limiter.pause()
            case Retryable() if reach is not Reach.ANSWERED:
                self.breaker.probe_failed(attempt.consumer_probe, now)
            case Retryable():
                self._answered()
                if outcome.against is Against.LIMIT:
                    self.limiter.exhausted(attempt.limiter_round)
        self._stop(attempt)
        return self._failed(attempt, outcome, reach, now) if isinstance(outcome, Retryable) else outcome

    def abandon(self, attempt: Attempt, now: float) -> None:
        """The call was cancelled: nothing is known."""
        self.breaker.probe_abandoned(attempt.consumer_probe, now)
        attempt.endpoint.breaker.probe_abandoned(attempt.endpoint_probe, now)
        self._stop(attempt)

    def _failed(self, attempt: Attempt, failure: Retryable, reach: Reach, now: float) -> Retryable | None:
        """Whether a failed attempt is spent, and what it tells about the endpoint."""
        breaker = attempt.endpoint.breaker
        probed_consumer, attempt.consumer_probe = attempt.consumer_probe, 0
        probed_endpoint, attempt.endpoint_probe = attempt.endpoint_probe, 0
        if self.breaker.state is not State.CLOSED:
            breaker.probe_abandoned(probed_endpoint, now)
            attempt.cuts += 1
            if failure.against is not Against.CONSUMER or reach is Reach.UNSENT:
                return None
            # A consumer that answers UNAVAILABLE to probe after probe is unwell, not killed by any of them.
            if probed_consumer and reach is not Reach.LOST:
                return None
            attempt.openings += 1
            return _suspect(failure) if attempt.openings >= SUSPECT_OPENINGS else None
        breaker.probe_failed(probed_endpoint, now)
        if failure.against is not Against.LIMIT and breaker.failed(attempt.event_id, now):
            attempt.endpoint.limiter.pause()
        if breaker.state is not State.CLOSED:
            attempt.cuts += 1
            return None
        return failure

    def _answered(self) -> None:
        if self.breaker.answered():
            self.limiter.restart()

    def _succeeded(self, endpoint: EndpointState) -> None:
        # Limits grow before they restart: the success of a probe alone does not count twice.
        self.limiter.succeeded()
        self._answered()
        endpoint.limiter.succeeded()
        if endpoint.breaker.succeeded():
            endpoint.limiter.restart()

    def _start(self, attempt: Attempt) -> None:
        attempt.running = True
        attempt.limiter_round = self.limiter.start()
        attempt.endpoint.limiter.start()
        if attempt.kind is Kind.RETRY:
            self.retries_in_flight += 1

    def _stop(self, attempt: Attempt) -> None:
        attempt.running = False
        self.limiter.finish()
        attempt.endpoint.limiter.finish()
        if attempt.kind is Kind.RETRY:
            self.retries_in_flight -= 1


def _suspect(outcome: Retryable) -> Retryable:
    message = f"in flight at {SUSPECT_OPENINGS} openings of the consumer's breaker; the last: {outcome.message}"
    return replace(outcome, message=message, in_memory=False)
