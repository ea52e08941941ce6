"""Deliveries to one consumer in simulated time: the real admission, outcomes, backoff and tokens, no sockets.

Deliveries that are spent in memory go on as retries with the default pauses and end as dead letters when their budget
is spent and a token is there, as the agents do it.  Retries step aside from an endpoint whose breaker is open.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random

from connectors.reply import Reach
from pipelines import backoff
from pipelines.admission import Admission
from pipelines.breaker import State
from pipelines.format import Breaker
from pipelines.outcome import Delivered, Rejected, Retryable, classify
from pipelines.turns import Attempt, Kind, always, never

RESTART = 3.0  # seconds a consumer takes from its death to its next life

#: (event, endpoint, now) -> seconds until the answer, its status
Consumer = Callable[[str, str, float], tuple[float, str]]


@dataclass
class Delivery:
    event: str
    endpoint: str
    attempts: int = 0
    openings: int = 0
    calls: list[float] = field(default_factory=list)
    ended: str = ""
    ended_at: float = 0.0


@dataclass
class Simulation:
    consumer: Consumer
    seed: int = 0
    max_in_flight: int = 16
    in_memory: int = 2
    retries: int = 15
    is_up: Callable[[float], bool] = lambda _now: True
    killers: frozenset[str] = frozenset()
    proxied: bool = False  # something answers UNAVAILABLE in place of a consumer that is dead
    now: float = 0.0
    deliveries: list[Delivery] = field(default_factory=list)
    deaths: int = 0
    probes: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.admission = Admission(self.max_in_flight, Breaker(), self.rng)
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._running: dict[Attempt, Delivery] = {}
        self._owners: dict[Attempt, Delivery] = {}
        self._down_until = 0.0
        self._probe_planned = False
        self._look_at = 0.0

    def deliver(self, event: str, endpoint: str, at: float = 0.0) -> None:
        delivery = Delivery(event, endpoint)
        self.deliveries.append(delivery)
        self._at(at, lambda: self._seek(delivery))

    def run(self, until: float = 2 * 3600.0) -> None:
        while self._agenda and self._agenda[0][0] <= until:
            self.now, _, work = heapq.heappop(self._agenda)
            work()
            self._let_in()

    # -- one delivery

    def _at(self, when: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (max(when, self.now), next(self._order), work))

    def _seek(self, delivery: Delivery) -> None:
        fresh = delivery.attempts <= self.in_memory
        endpoint = self.admission.endpoint(delivery.endpoint)
        kind = Kind.FRESH if fresh else Kind.RETRY
        self._enter(Attempt(endpoint, delivery.event, kind, delivery.openings, always if fresh else never), delivery)

    def _enter(self, attempt: Attempt, delivery: Delivery) -> None:
        self._owners[attempt] = delivery
        if self.admission.enter(attempt):
            self._call(attempt)
            return
        self.admission.queue(attempt)
        self._let_in()
        if not attempt.running and self.admission.steps_aside(attempt):
            self._step_aside(attempt)

    def _step_aside(self, attempt: Attempt) -> None:
        self.admission.leave(attempt)
        delivery = self._owners.pop(attempt)
        self._at(self.now + self.rng.uniform(1, 3), lambda: self._seek(delivery))

    def _call(self, attempt: Attempt) -> None:
        delivery = self._owners[attempt]
        if not self._reachable():
            self._at(self.now + 0.001, lambda: self._finish(attempt, "UNAVAILABLE", Reach.UNSENT))
            return
        delivery.calls.append(self.now)
        self._running[attempt] = delivery
        if not self._connected():
            pause, status = 0.001, "UNAVAILABLE"
        elif delivery.event in self.killers:
            self._at(self.now + 0.002, self._die)
            return
        else:
            pause, status = self.consumer(delivery.event, delivery.endpoint, self.now)
        reach = Reach.SILENT if status == "DEADLINE_EXCEEDED" else Reach.ANSWERED
        calls = len(delivery.calls)
        self._at(
            self.now + pause,
            lambda: attempt in self._running and len(delivery.calls) == calls and self._finish(attempt, status, reach),
        )

    def _die(self) -> None:
        if self.now < self._down_until:
            return
        self.deaths += 1
        self._down_until = self.now + RESTART
        for attempt in list(self._running):
            self._finish(attempt, "UNAVAILABLE", Reach.ANSWERED if self.proxied else Reach.LOST)

    def _finish(self, attempt: Attempt, status: str, reach: Reach) -> None:
        self._running.pop(attempt, None)
        delivery = self._owners.pop(attempt)
        breakers = self.admission.breaker, attempt.endpoint.breaker
        before = [breaker.state for breaker in breakers]
        outcome = self.admission.finish(attempt, classify(status), reach, self.now)
        delivery.openings = attempt.openings
        if before != [breaker.state for breaker in breakers]:
            for aside in self.admission.stepping_aside():
                self._step_aside(aside)
        match outcome:
            case None:
                self._enter(attempt, delivery)
            case Delivered():
                self._end(delivery, "delivered")
            case Rejected():
                self._end(delivery, "dead letter")
            case Retryable(in_memory=in_memory):
                delivery.openings = 0
                delivery.attempts = max(delivery.attempts + 1, 0 if in_memory else self.in_memory + 1)
                self._again(delivery)

    def _again(self, delivery: Delivery) -> None:
        if delivery.attempts <= self.in_memory:
            pause = backoff.full_jitter(delivery.attempts, 0.1, 1.0, self.rng)
            self._at(self.now + pause, lambda: self._seek(delivery))
        elif delivery.attempts <= self.in_memory + self.retries:
            pause = backoff.equal_jitter(delivery.attempts - self.in_memory, 1.0, 300.0, self.rng)
            self._at(self.now + pause, lambda: self._seek(delivery))
        elif self.admission.endpoint(delivery.endpoint).tokens.take(self.now):
            self._end(delivery, "dead letter")
        else:
            self._at(self.now + 1.0, lambda: self._again(delivery))

    def _end(self, delivery: Delivery, how: str) -> None:
        delivery.ended, delivery.ended_at = how, self.now

    # -- what the shell does

    def _connected(self) -> bool:
        return self.is_up(self.now) and self.now >= self._down_until

    def _reachable(self) -> bool:
        return self.proxied or self._connected()

    def _let_in(self) -> None:
        while attempt := self.admission.admit(self.now):
            if attempt.endpoint_probe:
                self.probes.append((self.now, self._owners[attempt].event))
            self._call(attempt)
        probe_at = self.admission.next_endpoint_probe()
        if probe_at is not None and not self.now < self._look_at <= probe_at:
            self._look_at = probe_at
            self._at(probe_at, self._let_in)
        breaker = self.admission.breaker
        if breaker.state is State.OPEN and self.admission.waiting and not self._probe_planned:
            self._probe_planned = True
            # Between two looks at the connection lies the reconnect backoff of the channel.
            self._at(max(breaker.probe_at, self.now + (0.0 if self._reachable() else 1.0)), self._probe)

    def _probe(self) -> None:
        self._probe_planned = False
        attempt = self.admission.probe_consumer(self.now) if self._reachable() else None
        if attempt:
            self.probes.append((self.now, self._owners[attempt].event))
            self._call(attempt)
