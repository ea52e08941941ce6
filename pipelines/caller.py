"""Calls one consumer: the shell around ``admission``, with the channel, the tasks and the clock.

There is one Caller per consumer in a process; the delivery agent and the retry agent share it.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from random import Random

import structlog

from connectors.reply import Reply
from connectors.rpc import Channel
from pipelines import metrics
from pipelines.admission import Admission
from pipelines.breaker import Breaker, State
from pipelines.format import Consumer
from pipelines.outcome import ACTION_TRAILER, DELIVERED, CutOff, Outcome, classify
from pipelines.routing import Endpoint
from pipelines.turns import Attempt, EndpointState, Kind, always, never

__all__ = ["Caller", "Kind", "always", "never"]

log = structlog.get_logger()

#: Seconds to wait for a connection before looking again whether one is still wanted.
CONNECT_PATIENCE = 5.0


class Caller:
    """One attempt of one delivery at a time, for many deliveries at once.  Belongs to one event loop."""

    def __init__(self, consumer: Consumer, rng: Random) -> None:
        self._consumer = consumer.name
        self._timeout = consumer.timeout
        tls, name = consumer.tls, consumer.tls.server_name if consumer.tls else None
        self._channel = Channel(consumer.grpc_server_hostname, consumer.grpc_server_port, tls=tls, server_name=name)
        self._admission = Admission(consumer.max_in_flight, consumer.breaker, rng)
        self._bound: dict[str, tuple[EndpointState, metrics.EndpointMetrics]] = {}
        self._waiting: dict[Attempt, asyncio.Future[CutOff | None]] = {}
        self._draining: set[Kind] = set()
        self._changed = asyncio.Event()
        self._prober: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._publish()

    # -- what others ask

    async def attempt(
        self,
        endpoint: Endpoint,
        event_id: str,
        payload: bytes,
        metadata: Sequence[tuple[str, str]],
        *,
        kind: Kind = Kind.FRESH,
        openings: int = 0,
        waits: Callable[[], bool] = always,
    ) -> Outcome | CutOff:
        """Make one attempt, as soon as it may be made; it is spent unless the result is CutOff.

        Calls that a breaker cuts off are made again.  CutOff is the answer when only the endpoint's breaker holds
        this delivery and it does not wait (``waits``, asked at every change and by ``ask_again``), and after ``drain``
        for every attempt that would have to wait.  ``openings`` is that of an earlier CutOff of this delivery.
        """
        state, measured = self._bound.get(endpoint.name) or self._bind(endpoint.name)
        attempt = Attempt(state, event_id, kind, openings, waits)
        while True:
            if not self._admission.enter(attempt) and (cut_off := await self._wait(attempt)):
                return cut_off
            started = time.monotonic()
            try:
                reply = await self._channel.call(endpoint.path, payload, metadata, self._timeout)
            except BaseException:
                self._abandon(attempt)
                raise
            now = time.monotonic()
            measured.seconds(now - started)
            outcome = self._finish(attempt, reply, measured, now)
            if outcome is not None:
                return outcome

    @property
    def waiting(self) -> int:
        """Attempts that wait for a breaker or for a place in flight."""
        return self._admission.waiting

    def take_dlq_token(self, endpoint: str) -> bool:
        """Whether a spent delivery of that endpoint may become a dead letter now; it counts as one."""
        return self._admission.endpoint(endpoint).tokens.take(time.monotonic())

    def is_open(self, endpoint: str) -> bool:
        """Whether the breaker of that endpoint is not closed."""
        return self._admission.endpoint(endpoint).breaker.state is not State.CLOSED

    def ask_again(self) -> None:
        """Ask all whom their endpoint's breaker holds whether they still wait."""
        for aside in self._admission.stepping_aside():
            self._turn_away(aside, CutOff(aside.openings))

    def drain(self, kind: Kind) -> None:
        """Let go of all attempts of a kind that wait, and of those that would; calls that run may finish."""
        self._draining.add(kind)
        for attempt in [attempt for attempt in self._waiting if attempt.kind is kind]:
            self._turn_away(attempt, CutOff(attempt.openings, drained=True))
        self._let_in()

    def resume(self, kind: Kind) -> None:
        self._draining.discard(kind)

    async def close(self) -> None:
        """Ends when the calls that run have ended.  Drain first: who waits would wait for ever."""
        if self._timer:
            self._timer.cancel()
        if self._prober:
            self._prober.cancel()
            await asyncio.wait([self._prober])
        await self._channel.close(self._timeout)

    # -- waiting

    async def _wait(self, attempt: Attempt) -> CutOff | None:
        """None as soon as the call may be made."""
        if attempt.kind in self._draining:
            return CutOff(attempt.openings, drained=True)
        self._admission.queue(attempt)
        admitted: asyncio.Future[CutOff | None] = asyncio.get_running_loop().create_future()
        self._waiting[attempt] = admitted
        self._changed.set()
        self._let_in()  # it may be the probe that is due
        if not attempt.running and self._admission.steps_aside(attempt):
            self._turn_away(attempt, CutOff(attempt.openings))
        try:
            return await admitted
        except asyncio.CancelledError:
            if attempt.running:
                self._abandon(attempt)
            elif admitted.cancelled():
                self._admission.leave(attempt)
                self._let_in()
            raise
        finally:
            del self._waiting[attempt]

    def _abandon(self, attempt: Attempt) -> None:
        self._admission.abandon(attempt, time.monotonic())
        self._changed.set()
        self._let_in()

    def _let_in(self) -> None:
        """Wake all whose calls may be made now, and see to it that endpoints' probes come in time."""
        if not self._admission.waiting:
            return
        now = time.monotonic()
        while attempt := self._admission.admit(now):
            self._wake(attempt, None)
        probe_at = self._admission.next_endpoint_probe()
        if probe_at is not None and probe_at < self._timer_at:
            if self._timer:
                self._timer.cancel()
            self._timer_at = probe_at
            self._timer = asyncio.get_running_loop().call_later(max(0.001, probe_at - now), self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, math.inf
        self._let_in()

    def _turn_away(self, attempt: Attempt, answer: CutOff) -> None:
        if not self._waiting[attempt].done():
            self._admission.leave(attempt)
            self._wake(attempt, answer)

    def _wake(self, attempt: Attempt, answer: CutOff | None) -> None:
        admitted = self._waiting[attempt]
        # Cancelled a moment ago: its own task puts things right.
        if not admitted.done():
            admitted.set_result(answer)

    async def _probe_consumer(self) -> None:
        """Runs while the consumer's breaker is not closed: connect first, then let one delivery through."""
        admission, breaker = self._admission, self._admission.breaker
        while breaker.state is not State.CLOSED:
            self._changed.clear()
            if breaker.state is State.HALF_OPEN or not admission.waiting:
                await self._changed.wait()
            elif (pause := breaker.probe_at - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            elif await self._channel.ready(CONNECT_PATIENCE):
                probe = admission.probe_consumer(time.monotonic())
                if probe:
                    self._wake(probe, None)

    # -- bookkeeping

    def _finish(
        self, attempt: Attempt, reply: Reply, measured: metrics.EndpointMetrics, now: float
    ) -> Outcome | CutOff | None:
        endpoint, admission = attempt.endpoint, self._admission
        before = admission.breaker.state, endpoint.breaker.state
        action = reply.trailer(ACTION_TRAILER) if reply.trailers else None
        outcome = admission.finish(attempt, classify(reply.status, action, reply.message), reply.reach, now)
        if outcome is DELIVERED and reply.status == "OK":
            measured.delivered()
        else:
            measured.attempt(type(outcome).__name__.lower() if outcome else "cut off", reply.status)
        if (admission.breaker.state, endpoint.breaker.state) != before:
            self._changed.set()
            self._report("", admission.breaker, before[0], reply)
            self._report(endpoint.name, endpoint.breaker, before[1], reply)
            self.ask_again()
        self._let_in()
        if outcome is None and admission.steps_aside(attempt):
            return CutOff(attempt.openings)
        return outcome

    def _report(self, endpoint: str, breaker: Breaker, before: State, reply: Reply) -> None:
        """Tell of a breaker that opened or closed, and look after the consumer's while it is not closed."""
        if State.CLOSED not in {before, breaker.state} or before is breaker.state:
            return
        whose = {"consumer": self._consumer, "endpoint": endpoint} if endpoint else {"consumer": self._consumer}
        if breaker.state is State.CLOSED:
            log.info("a breaker closed: calls flow again", **whose)
            return
        log.warning("a breaker opened: calls wait, none is spent", status=reply.status, error=reply.message, **whose)
        metrics.BREAKER_OPENINGS.labels(self._consumer, endpoint).inc()
        if not endpoint and (self._prober is None or self._prober.done()):
            self._prober = asyncio.get_running_loop().create_task(self._probe_consumer())

    def _bind(self, name: str) -> tuple[EndpointState, metrics.EndpointMetrics]:
        state = self._admission.endpoint(name)
        bound = self._bound[name] = (state, metrics.EndpointMetrics(self._consumer, name))
        metrics.BREAKER_STATE.labels(self._consumer, name).set_function(lambda: state.breaker.state)
        return bound

    def _publish(self) -> None:
        admission, name = self._admission, self._consumer
        metrics.BREAKER_STATE.labels(name, "").set_function(lambda: admission.breaker.state)
        metrics.IN_FLIGHT_LIMIT.labels(name).set_function(lambda: admission.limiter.limit)
        metrics.WAITING.labels(name).set_function(lambda: admission.waiting)
        metrics.IN_FLIGHT.labels(name, Kind.RETRY.value).set_function(lambda: admission.retries_in_flight)
        metrics.IN_FLIGHT.labels(name, Kind.FRESH.value).set_function(
            lambda: admission.limiter.in_flight - admission.retries_in_flight
        )
