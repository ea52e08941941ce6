"""Breakers, limits and turns together: calls end in any order with any answer, and what may never happen is checked.

The oracle counts outcomes itself.  What it proves, by the name of the check: nothing is spent while a breaker is open,
none opens without cause, none stays open, nothing stampedes at reopening, and the probe is the one cut off least often.
"""

from random import Random

from effort import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from connectors.reply import Reach
from pipelines.admission import SUSPECT_OPENINGS, Admission
from pipelines.breaker import State
from pipelines.format import Breaker
from pipelines.outcome import Against, Delivered, Rejected, Retryable, classify
from pipelines.turns import Attempt, Kind, never

ENDPOINTS = ("a", "b", "c")
TRANSPORT_FAILURES, WINDOW, DISTINCT, PROBE_INTERVAL = 3, 4, 2, 5.0
ANSWERS = {
    "OK": Reach.ANSWERED,
    "NOT_FOUND": Reach.ANSWERED,
    "UNKNOWN": Reach.ANSWERED,
    "RESOURCE_EXHAUSTED": Reach.ANSWERED,
    "UNAVAILABLE": Reach.ANSWERED,
    "DEADLINE_EXCEEDED": Reach.SILENT,
    "LOST": Reach.LOST,
    "UNSENT": Reach.UNSENT,
}


class Reopening:
    """Calls since a breaker closed: what ran before counts for nothing."""

    def __init__(self):
        self.running, self.successes = set(), 0


class AnySequence(RuleBasedStateMachine):
    @initialize(maximum=st.integers(1, 6), seed=st.integers(0, 99))
    def begin(self, maximum, seed):
        told = Breaker(
            transport_failures=TRANSPORT_FAILURES,
            window=WINDOW,
            distinct_events=DISTINCT,
            probe_interval=PROBE_INTERVAL,
        )
        self.admission = Admission(maximum, told, Random(seed))
        self.maximum, self.now, self.draining = maximum, 0.0, set()
        self.crowded = False
        self.running: list[Attempt] = []
        self.waiting: list[Attempt] = []
        self.aside: list[Attempt] = []
        self.transport_failures = 0
        self.failed: dict[str, list[str]] = {name: [] for name in ENDPOINTS}
        self.reopenings: dict[str, Reopening] = {}  # "": of the consumer's breaker, else of an endpoint's

    # -- what can happen

    @rule(
        arrivals=st.lists(
            st.tuples(st.sampled_from(ENDPOINTS), st.sampled_from(Kind), st.integers(0, 30)), min_size=2, max_size=8
        )
    )
    def arrive(self, arrivals):
        for endpoint, kind, event in arrivals:
            self.enter(Attempt(self.admission.endpoint(endpoint), str(event), kind, 0, self.waits(kind)))

    @rule(ends=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(list(ANSWERS))), min_size=3, max_size=8))
    def calls_end(self, ends):
        for which, answer in ends:
            if self.running:
                self.finish(self.running[which % len(self.running)], answer)

    @precondition(lambda self: len(self.running) > 1)
    @rule(answer=st.sampled_from(["LOST", "UNSENT"]))
    def lose_the_connection(self, answer):
        for attempt in list(self.running):
            self.finish(attempt, answer)

    @rule(endpoint=st.sampled_from(ENDPOINTS))
    def an_endpoint_fails(self, endpoint):
        for number in range(WINDOW):
            attempt = Attempt(self.admission.endpoint(endpoint), f"failing {number}", Kind.FRESH)
            if self.admission.enter(attempt):
                self.start(attempt)
                self.finish(attempt, "UNKNOWN")

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 5))
    def cancel_a_call(self, which):
        attempt = self.running[which % len(self.running)]
        self.stop(attempt)
        self.admission.abandon(attempt, self.now)
        self.let_in()

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 5))
    def stop_waiting(self, which):
        self.leave(self.waiting[which % len(self.waiting)])
        self.let_in()

    @rule(kind=st.sampled_from(Kind))
    def drain_or_resume(self, kind):
        self.draining ^= {kind}
        for attempt in [attempt for attempt in self.waiting if attempt.kind in self.draining]:
            self.leave(attempt)
        self.let_in()

    @rule()
    def come_back(self):
        aside, self.aside = self.aside, []
        for attempt in aside:
            self.enter(Attempt(attempt.endpoint, attempt.event_id, Kind.RETRY, attempt.openings, never))

    @rule(crowded=st.booleans())
    def there_is_room_or_not(self, crowded):
        self.crowded = crowded
        self.ask_again()

    @rule(answer=st.sampled_from(list(ANSWERS)))
    def a_probe_is_answered(self, answer):
        self.time_passes(PROBE_INTERVAL)
        self.the_connection_is_up()
        for attempt in [a for a in self.running if a.consumer_probe or a.endpoint_probe][-1:]:
            self.finish(attempt, answer)

    @rule(seconds=st.floats(0, 5))
    def time_passes(self, seconds):
        self.now += seconds
        self.let_in()

    @rule()
    def the_connection_is_up(self):
        breaker = self.admission.breaker
        due = breaker.state is State.OPEN and self.now >= breaker.probe_at and self.waiting
        candidates = [attempt for attempt in self.waiting if self.closed(attempt)] or self.waiting
        fewest = min((attempt.cuts for attempt in candidates), default=0)
        probe = self.admission.probe_consumer(self.now)
        assert bool(probe) == bool(due)
        if probe:
            assert probe.cuts == fewest
            assert probe in candidates
            self.start(probe)

    # -- the shell

    def closed(self, attempt):
        return attempt.endpoint.breaker.state is State.CLOSED

    def enter(self, attempt):
        if self.admission.enter(attempt):
            self.start(attempt)
        elif attempt.kind not in self.draining:
            self.admission.queue(attempt)
            self.waiting.append(attempt)
            self.let_in()
            if attempt in self.waiting and self.admission.steps_aside(attempt):
                self.step_aside(attempt)

    def leave(self, attempt):
        self.waiting.remove(attempt)
        self.admission.leave(attempt)

    def waits(self, kind):
        return never if kind is Kind.RETRY else lambda: not self.crowded

    def ask_again(self):
        for aside in self.admission.stepping_aside():
            assert not aside.waits()
            self.step_aside(aside)

    def step_aside(self, attempt):
        self.leave(attempt)
        self.aside.append(attempt)

    def start(self, attempt):
        if attempt in self.waiting:
            self.waiting.remove(attempt)
        self.running.append(attempt)
        for whose in ("", attempt.endpoint.name):
            if whose in self.reopenings:
                self.reopenings[whose].running.add(attempt)

    def stop(self, attempt):
        self.running.remove(attempt)
        for reopening in self.reopenings.values():
            reopening.running.discard(attempt)

    def let_in(self):
        while True:
            fewest: dict[str, int] = {}
            for attempt in self.waiting:
                name = attempt.endpoint.name
                fewest[name] = min(fewest.get(name, attempt.cuts), attempt.cuts)
            attempt = self.admission.admit(self.now)
            if attempt is None:
                break
            if attempt.endpoint_probe:
                assert attempt.cuts == fewest[attempt.endpoint.name]
            elif attempt.kind is Kind.RETRY and self.fresh_could_go():
                assert self.admission.retries_in_flight <= max(1, self.admission.limiter.limit // 2)
            self.start(attempt)

    def fresh_could_go(self):
        return any(attempt.kind is Kind.FRESH and attempt.endpoint.limiter.free for attempt in self.waiting)

    def finish(self, attempt, answer):
        self.stop(attempt)
        status = "UNAVAILABLE" if answer in {"LOST", "UNSENT"} else answer
        outcome, reach = classify(status), ANSWERS[answer]
        consumer, endpoint = self.admission.breaker, attempt.endpoint.breaker
        was_probe = bool(attempt.consumer_probe and consumer.state is State.HALF_OPEN)
        before, openings = (consumer.state, endpoint.state), attempt.openings
        result = self.admission.finish(attempt, outcome, reach, self.now)
        self.check_the_consumers_breaker_opens_and_closes_with_cause_only(before[0], outcome, reach)
        self.check_an_endpoints_breaker_opens_and_closes_with_cause_only(attempt, before[1], outcome)
        self.check_nothing_is_spent_while_a_breaker_is_open(attempt, outcome, reach, result, openings, was_probe)
        for whose, then, breaker in (("", before[0], consumer), (attempt.endpoint.name, before[1], endpoint)):
            if then is not State.CLOSED and breaker.state is State.CLOSED:
                self.reopenings[whose] = Reopening()
            elif isinstance(outcome, Delivered | Rejected) and whose in self.reopenings:
                self.reopenings[whose].successes += 1
        if (consumer.state, endpoint.state) != before:
            self.ask_again()
        if result is None:
            self.enter(attempt)
        self.let_in()

    # -- what a call's end may change

    def check_the_consumers_breaker_opens_and_closes_with_cause_only(self, before, outcome, reach):
        after = self.admission.breaker.state
        transport = isinstance(outcome, Retryable) and outcome.against is Against.CONSUMER
        if transport:
            self.transport_failures += 1
        elif reach is Reach.ANSWERED:
            self.transport_failures = 0
        enough = reach is Reach.UNSENT or self.transport_failures >= TRANSPORT_FAILURES
        if before is State.CLOSED:
            assert (after is State.OPEN) == (transport and enough)
        else:
            assert (after is State.CLOSED) == (not transport and reach is Reach.ANSWERED), "any answer closes it"

    def check_an_endpoints_breaker_opens_and_closes_with_cause_only(self, attempt, before, outcome):
        failed, after = self.failed[attempt.endpoint.name], attempt.endpoint.breaker.state
        if not isinstance(outcome, Retryable):
            failed.clear()
            assert after is State.CLOSED, "a success closes it"
        elif before is not State.CLOSED:
            assert after is not State.CLOSED, "only a success closes it"
        elif outcome.against is Against.LIMIT or self.admission.breaker.state is not State.CLOSED:
            assert after is State.CLOSED, "such a failure tells nothing about the endpoint"
        else:
            failed.append(attempt.event_id)
            latest = failed[-WINDOW:]
            assert (after is State.OPEN) == (len(latest) == WINDOW and len(set(latest)) >= DISTINCT)

    def check_nothing_is_spent_while_a_breaker_is_open(self, attempt, outcome, reach, result, openings, was_probe):
        if not isinstance(outcome, Retryable):
            assert result is outcome
            return
        is_open = self.admission.breaker.state is not State.CLOSED
        if is_open and result is not None:
            assert attempt.openings == SUSPECT_OPENINGS, "but one that may have killed its consumer is"
            assert not result.in_memory
        else:
            assert (result is None) == (is_open or not self.closed(attempt)), "spent if and only if both are closed"
        if attempt.openings > openings:
            assert is_open
            assert reach is Reach.LOST or (reach is Reach.ANSWERED and not was_probe)

    # -- what always holds

    @invariant()
    def counts_agree(self):
        assert self.admission.limiter.in_flight == len(self.running) <= self.maximum
        assert self.admission.waiting == len(self.waiting)
        assert self.admission.retries_in_flight == sum(attempt.kind is Kind.RETRY for attempt in self.running)
        for name, endpoint in self.admission.endpoints.items():
            assert endpoint.limiter.in_flight == sum(attempt.endpoint.name == name for attempt in self.running)

    @invariant()
    def nobody_waits_who_may_call(self):
        if self.admission.limiter.free:
            assert not any(attempt.endpoint.limiter.free for attempt in self.waiting)

    @invariant()
    def an_open_breaker_admits_its_probe_alone(self):
        if self.admission.breaker.state is not State.CLOSED:
            assert not self.admission.limiter.free
        for endpoint in self.admission.endpoints.values():
            if endpoint.breaker.state is not State.CLOSED:
                assert not endpoint.limiter.free
            probes = [attempt for attempt in self.running if attempt.endpoint is endpoint and attempt.endpoint_probe]
            assert endpoint.breaker.state is not State.HALF_OPEN or probes

    @invariant()
    def reopening_is_no_stampede(self):
        for whose, reopening in self.reopenings.items():
            limiter = self.admission.endpoints[whose].limiter if whose else self.admission.limiter
            assert len(reopening.running) <= 1 + reopening.successes
            assert limiter.limit <= 1 + reopening.successes

    def next_probe_at(self):
        """When a call will be made that tells whether the consumer is well; it need not wait longer than allowed."""
        consumer, seekers = self.admission.breaker, self.waiting + self.aside
        endpoints = [attempt.endpoint.breaker for attempt in seekers if not self.closed(attempt)]
        breakers = endpoints if consumer.state is State.CLOSED else [consumer]
        due = min((breaker.probe_at for breaker in breakers), default=self.now)
        assert due <= self.now + PROBE_INTERVAL
        return due

    def recover(self):
        """The consumer is well from now on: all that waits is delivered, each probe within 5 s."""
        for _ in range(1000):
            while self.running:
                self.finish(self.running[0], "OK")
            if not (self.waiting or self.aside):
                return
            self.now = max(self.now, self.next_probe_at())
            self.the_connection_is_up()
            self.come_back()
            self.let_in()
        raise AssertionError("nothing will ever call those who wait")

    def teardown(self):
        if not hasattr(self, "admission"):
            return
        self.draining.clear()
        self.recover()
        for name in self.admission.endpoints:
            self.enter(Attempt(self.admission.endpoint(name), "new", Kind.FRESH))
        self.recover()
        assert self.admission.breaker.state is State.CLOSED
        assert all(endpoint.breaker.state is State.CLOSED for endpoint in self.admission.endpoints.values())


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(max_examples=examples(200), stateful_step_count=50, deadline=None, derandomize=True)
