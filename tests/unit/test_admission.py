"""Breakers, limits and turns together, by sequences of events and by simulated hours."""

from collections import Counter
from itertools import pairwise
from random import Random

import pytest
from delivery_simulation import Simulation
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from connectors.reply import Reach
from pipelines.admission import SUSPECT_OPENINGS, Admission
from pipelines.breaker import State
from pipelines.format import Breaker
from pipelines.outcome import Against, Delivered, Rejected, Retryable, classify
from pipelines.turns import Attempt, Kind

ENDPOINTS = ("a", "b", "c")
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


class AnySequence(RuleBasedStateMachine):
    """Calls end in any order with any answer; what may never happen is checked after each step."""

    @initialize(maximum=st.integers(1, 6), seed=st.integers(0, 99))
    def begin(self, maximum, seed):
        told = Breaker(transport_failures=3, window=4, distinct_events=2)
        self.admission = Admission(maximum, told, Random(seed))
        self.maximum, self.now, self.events = maximum, 0.0, 0
        self.running: list[Attempt] = []
        self.waiting: list[Attempt] = []
        self.transport_failures = 0
        self.failed = {name: [] for name in ENDPOINTS}
        self.successes_since_closing: dict[str, int] = {}  # "": of the consumer's breaker, else of an endpoint's

    # -- what can happen

    @rule(endpoint=st.sampled_from(ENDPOINTS), kind=st.sampled_from(Kind), event=st.integers(0, 30))
    def arrive(self, endpoint, kind, event):
        self.enter(Attempt(self.admission.endpoint(endpoint), str(event), kind))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), answer=st.sampled_from(list(ANSWERS)))
    def end(self, data, answer):
        self.finish(data.draw(st.sampled_from(self.running), "which call"), answer)

    @precondition(lambda self: len(self.running) > 1)
    @rule()
    def lose_the_connection(self):
        for attempt in list(self.running):
            self.finish(attempt, "LOST")

    @rule(endpoint=st.sampled_from(ENDPOINTS))
    def an_endpoint_fails(self, endpoint):
        for number in range(4):
            attempt = Attempt(self.admission.endpoint(endpoint), f"failing {number}", Kind.FRESH)
            if self.admission.enter(attempt):
                self.start(attempt)
                self.finish(attempt, "UNKNOWN")

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def cancel_a_call(self, data):
        attempt = data.draw(st.sampled_from(self.running))
        self.running.remove(attempt)
        self.admission.abandon(attempt, self.now)
        self.let_in()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def stop_waiting(self, data):
        attempt = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(attempt)
        self.admission.leave(attempt)
        self.let_in()

    @rule(seconds=st.floats(0, 5))
    def time_passes(self, seconds):
        self.now += seconds
        self.let_in()

    @rule()
    def connection_is_up(self):
        breaker = self.admission.breaker
        due = breaker.state is State.OPEN and self.now >= breaker.probe_at and self.waiting
        fewest = min((attempt.cuts for attempt in self.waiting if self.closed(attempt)), default=None)
        probe = self.admission.probe_consumer(self.now)
        assert bool(probe) == bool(due)
        if probe:
            assert fewest is None or probe.cuts == fewest
            self.start(probe)

    # -- the shell, and an oracle of its own

    def closed(self, attempt):
        return attempt.endpoint.breaker.state is State.CLOSED

    def enter(self, attempt):
        if self.admission.enter(attempt):
            self.start(attempt)
        else:
            self.admission.queue(attempt)
            self.waiting.append(attempt)
            self.let_in()

    def start(self, attempt):
        if attempt in self.waiting:
            self.waiting.remove(attempt)
        self.running.append(attempt)

    def let_in(self):
        while attempt := self.admission.admit(self.now):
            if attempt.kind is Kind.RETRY and not attempt.endpoint_probe and self.fresh_could_go():
                assert self.admission.retries_in_flight <= max(1, self.admission.limiter.limit // 2)
            self.start(attempt)

    def fresh_could_go(self):
        return any(attempt.kind is Kind.FRESH and attempt.endpoint.limiter.free for attempt in self.waiting)

    def finish(self, attempt, answer):
        self.running.remove(attempt)
        status = "UNAVAILABLE" if answer in {"LOST", "UNSENT"} else answer
        outcome, reach = classify(status), ANSWERS[answer]
        consumer, endpoint = self.admission.breaker, attempt.endpoint.breaker
        was_probe = bool(attempt.consumer_probe and consumer.state is State.HALF_OPEN)
        before, openings = (consumer.state, endpoint.state), attempt.openings
        result = self.admission.finish(attempt, outcome, reach, self.now)
        self.check_consumer(before[0], consumer.state, outcome, reach)
        self.check_endpoint(attempt, before[1], result)
        self.check_spending(attempt, outcome, reach, result, openings, was_probe=was_probe)
        for whose, then, breaker in (("", before[0], consumer), (attempt.endpoint.name, before[1], endpoint)):
            if then is not State.CLOSED and breaker.state is State.CLOSED:
                self.successes_since_closing[whose] = 0
            elif isinstance(outcome, Delivered | Rejected) and whose in self.successes_since_closing:
                self.successes_since_closing[whose] += 1
        if result is None:
            self.enter(attempt)
        self.let_in()

    def check_consumer(self, before, after, outcome, reach):
        transport = isinstance(outcome, Retryable) and outcome.against is Against.CONSUMER
        if transport:
            self.transport_failures += 1
        elif reach is Reach.ANSWERED:
            self.transport_failures = 0
            assert after is State.CLOSED, "any answer of the application closes it"
        opened = before is State.CLOSED and after is not State.CLOSED
        if before is State.CLOSED:
            assert opened == (transport and (reach is Reach.UNSENT or self.transport_failures >= 3))

    def check_endpoint(self, attempt, before, result):
        failed, after = self.failed[attempt.endpoint.name], attempt.endpoint.breaker.state
        if isinstance(result, Delivered | Rejected):
            failed.clear()
            assert after is State.CLOSED, "a success closes it"
        if before is State.CLOSED and after is not State.CLOSED:
            assert len([*failed, attempt.event_id][-4:]) == 4
            assert len(set([*failed, attempt.event_id][-4:])) >= 2
        elif isinstance(result, Retryable) and result.against is not Against.LIMIT and not result.suspect:
            failed.append(attempt.event_id)

    def check_spending(self, attempt, outcome, reach, result, openings, *, was_probe):
        if not isinstance(outcome, Retryable):
            assert result is outcome
            return
        is_open = self.admission.breaker.state is not State.CLOSED
        if isinstance(result, Retryable) and result.suspect:
            assert is_open
            assert attempt.openings == SUSPECT_OPENINGS
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
        for whose, successes in self.successes_since_closing.items():
            limiter = self.admission.endpoints[whose].limiter if whose else self.admission.limiter
            assert limiter.limit <= 1 + successes

    def teardown(self):
        """Whatever happened: once the consumer is well again, all that waits is delivered, each probe within 5 s."""
        if not hasattr(self, "admission"):
            return
        for name in self.admission.endpoints:
            self.enter(Attempt(self.admission.endpoint(name), "new", Kind.FRESH))
        for _ in range(1000):
            while self.running:
                self.finish(self.running[0], "OK")
            if not self.waiting:
                break
            consumer = self.admission.breaker
            probe_at = consumer.probe_at if consumer.state is State.OPEN else self.admission.next_endpoint_probe()
            assert probe_at is not None, "nothing will ever call those who wait"
            assert probe_at <= self.now + 5.0
            self.now = max(self.now, probe_at)
            if probe := self.admission.probe_consumer(self.now):
                self.start(probe)
            self.let_in()
        assert not self.waiting
        assert self.admission.breaker.state is State.CLOSED
        assert all(endpoint.breaker.state is State.CLOSED for endpoint in self.admission.endpoints.values())


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(max_examples=70, stateful_step_count=40, deadline=None, derandomize=True)


def healthy(_event, _endpoint, _now):
    return 0.005, "OK"


def load(simulation, seconds, rate=2.0, endpoints=("a",)):
    for number in range(int(seconds * rate)):
        for endpoint in endpoints:
            simulation.deliver(str(number), endpoint, number / rate)


def ends(simulation):
    return Counter((delivery.endpoint, delivery.ended) for delivery in simulation.deliveries)


OUTAGES = {
    "down": ({"is_up": lambda now: not 60 < now < 660}, "OK"),
    "answering UNAVAILABLE": ({}, "UNAVAILABLE"),
    "answering UNKNOWN": ({}, "UNKNOWN"),
    "hanging": ({}, "DEADLINE_EXCEEDED"),
}


@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("rate", [0.02, 2.0])
def test_ten_minutes_of_outage_make_no_dead_letter_and_recovery_takes_seconds(outage, rate):
    how, status = OUTAGES[outage]

    def consumer(_event, _endpoint, now):
        bad = status != "OK" and 60 < now < 660
        return (5.0 if bad and status == "DEADLINE_EXCEEDED" else 0.005), status if bad else "OK"

    simulation = Simulation(consumer, seed=3, **how)
    load(simulation, 700, rate)
    simulation.run()
    assert ends(simulation) == {("a", "delivered"): int(700 * rate)}
    if rate > 1:
        assert max(delivery.attempts for delivery in simulation.deliveries) < 8
        waited = [d.ended_at for d in simulation.deliveries if 70 < int(d.event) / rate < 660]
        assert 660 < min(waited) < 660 + 5 + 5  # the probe before the recovery may run until its deadline


@pytest.mark.parametrize("outage", ["answering UNAVAILABLE", "answering UNKNOWN"])
def test_probes_are_each_of_another_delivery(outage):
    _, status = OUTAGES[outage]
    simulation = Simulation(lambda *_: (0.005, status), seed=1)
    load(simulation, 30, 4.0)
    simulation.run(until=120)
    events = [event for _, event in simulation.probes]
    assert len(events) > 20
    assert len(set(events)) == len(events)
    times = [at for at, _ in simulation.probes]
    assert max(later - at for at, later in pairwise(times)) <= 5.01


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.integers(1, 32), st.integers(0, 60))
def test_an_event_that_kills_its_consumer_ends_as_a_dead_letter_and_all_others_are_delivered(seed, in_flight, killer):
    simulation = Simulation(healthy, seed=seed, max_in_flight=in_flight, killer=str(killer))
    load(simulation, 30, 4.0)
    simulation.run()
    bad = [delivery for delivery in simulation.deliveries if delivery.event == str(killer)]
    assert [delivery.ended for delivery in bad] == ["dead letter"]
    others = [delivery for delivery in simulation.deliveries if delivery.event != str(killer)]
    assert {delivery.ended for delivery in others} == {"delivered"}
    assert simulation.deaths <= SUSPECT_OPENINGS * 18


def test_a_killer_does_not_hold_those_behind_it():
    simulation = Simulation(healthy, seed=1, max_in_flight=8, killer="5")
    for number in range(200):
        simulation.deliver(str(number), "a")
    simulation.run()
    others = [delivery.ended_at for delivery in simulation.deliveries if delivery.event != "5"]
    assert max(others) < 30


def test_an_endpoint_that_fails_holds_nobody_but_its_own_deliveries():
    def consumer(_event, endpoint, now):
        return 0.005, "UNKNOWN" if endpoint == "b" and now < 100 else "OK"

    simulation = Simulation(consumer, seed=1, max_in_flight=4)
    load(simulation, 60, 10.0, ("a", "b"))
    simulation.run()
    assert set(ends(simulation)) == {("a", "delivered"), ("b", "delivered")}
    late = [d.ended_at - int(d.event) / 10.0 for d in simulation.deliveries if d.endpoint == "a"]
    assert max(late) < 0.5


def test_a_delivery_that_always_fails_among_good_ones_is_spent_and_opens_nothing():
    def consumer(event, _endpoint, _now):
        return 0.005, "UNKNOWN" if event == "7" else "OK"

    simulation = Simulation(consumer, seed=1)
    load(simulation, 3600, 0.5)
    simulation.run()
    bad = [delivery for delivery in simulation.deliveries if delivery.event == "7"]
    assert [(delivery.ended, delivery.attempts) for delivery in bad] == [("dead letter", 18)]
    assert not simulation.probes


def test_a_consumer_at_its_capacity_is_not_asked_for_much_more_and_no_breaker_opens():
    serving: list[float] = []
    answers: Counter = Counter()

    def consumer(_event, _endpoint, now):
        serving[:] = [until for until in serving if until > now]
        answer = "OK" if len(serving) < 8 else "RESOURCE_EXHAUSTED"
        answers[answer] += 1
        if answer == "OK":
            serving.append(now + 0.005)
        return 0.005, answer

    simulation = Simulation(consumer, seed=1, max_in_flight=64)
    for number in range(5000):
        simulation.deliver(str(number), "a")
    simulation.run()
    assert ends(simulation) == {("a", "delivered"): 5000}
    assert not simulation.probes
    assert answers["RESOURCE_EXHAUSTED"] < 0.1 * answers["OK"]


def test_retries_take_half_of_what_is_in_flight_while_fresh_deliveries_wait():
    admission = Admission(8, Breaker(), Random(1))
    endpoint = admission.endpoint("a")
    waiting = [Attempt(endpoint, str(n), kind) for kind in (Kind.RETRY, Kind.FRESH) for n in range(50)]
    running = [Attempt(endpoint, f"first {n}", Kind.RETRY) for n in range(8)]
    assert all(admission.enter(attempt) for attempt in running)
    for attempt in waiting:
        admission.queue(attempt)
    shares = []
    for _ in range(60):
        admission.finish(running.pop(0), classify("OK"), Reach.ANSWERED, 0.0)
        while admitted := admission.admit(0.0):
            running.append(admitted)
        shares.append(admission.retries_in_flight)
    assert set(shares[8:]) == {3, 4}


def test_retries_alone_may_fill_everything():
    admission = Admission(8, Breaker(), Random(1))
    attempts = [Attempt(admission.endpoint("a"), str(n), Kind.RETRY) for n in range(9)]
    assert [admission.enter(attempt) for attempt in attempts] == [True] * 8 + [False]


def test_with_room_for_one_call_fresh_deliveries_and_retries_take_turns():
    admission = Admission(1, Breaker(), Random(1))
    endpoint = admission.endpoint("a")
    admission.enter(first := Attempt(endpoint, "first", Kind.FRESH))
    for kind in Kind:
        for number in range(4):
            admission.queue(Attempt(endpoint, str(number), kind))
    kinds, running = [], first
    for _ in range(6):
        admission.finish(running, classify("OK"), Reach.ANSWERED, 0.0)
        running = admission.admit(0.0)
        kinds.append(running.kind)
    assert Counter(kinds) == {Kind.FRESH: 3, Kind.RETRY: 3}


def test_an_endpoints_probe_that_the_consumers_breaker_cut_off_is_followed_by_another():
    admission = Admission(4, Breaker(window=1, distinct_events=1), Random(1))
    endpoint, other = admission.endpoint("a"), admission.endpoint("b")
    admission.enter(failing := Attempt(endpoint, "1", Kind.FRESH))
    assert admission.finish(failing, classify("UNKNOWN"), Reach.ANSWERED, 0.0) is None
    admission.queue(failing)
    probe = admission.admit(endpoint.breaker.probe_at)
    assert probe is failing
    admission.enter(unsent := Attempt(other, "2", Kind.FRESH))
    assert admission.finish(unsent, classify("UNAVAILABLE"), Reach.UNSENT, 1.0) is None
    assert admission.finish(probe, classify("UNAVAILABLE"), Reach.LOST, 1.0) is None
    assert endpoint.breaker.probe_due(1.0)


def test_an_endpoint_that_is_busy_again_and_again_opens_no_breaker():
    admission = Admission(4, Breaker(window=2, distinct_events=1), Random(1))
    for number in range(20):
        attempt = Attempt(admission.endpoint("a"), str(number), Kind.FRESH)
        assert admission.enter(attempt)
        busy = classify("RESOURCE_EXHAUSTED")
        assert admission.finish(attempt, busy, Reach.ANSWERED, 0.0) is busy


def opened(admission, endpoint="a", waiting=5):
    """The consumer's breaker is open and some wait."""
    attempts = [Attempt(admission.endpoint(endpoint), str(number), Kind.FRESH) for number in range(waiting)]
    admission.enter(attempts[0])
    admission.finish(attempts[0], classify("UNAVAILABLE"), Reach.UNSENT, 0.0)
    for attempt in attempts:
        admission.queue(attempt)
    return attempts


def test_after_the_consumers_probe_succeeded_one_call_is_in_flight_then_two():
    admission = Admission(8, Breaker(), Random(1))
    opened(admission)
    probe = admission.probe_consumer(1.0)
    admission.finish(probe, classify("OK"), Reach.ANSWERED, 1.0)
    first = admission.admit(1.0)
    assert first
    assert admission.admit(1.0) is None
    admission.finish(first, classify("OK"), Reach.ANSWERED, 1.0)
    assert [bool(admission.admit(1.0)) for _ in range(3)] == [True, True, False]


def test_the_consumers_probe_is_of_an_endpoint_that_works_if_one_waits():
    admission = Admission(8, Breaker(window=1, distinct_events=1), Random(1))
    broken = admission.endpoint("broken")
    admission.enter(failing := Attempt(broken, "1", Kind.FRESH))
    admission.finish(failing, classify("UNKNOWN"), Reach.ANSWERED, 0.0)
    admission.queue(Attempt(broken, "2", Kind.FRESH))
    attempts = opened(admission, "working", 1)
    assert attempts[0].cuts == 1
    assert admission.probe_consumer(1.0) is attempts[0]


def test_endpoints_take_turns():
    admission = Admission(1, Breaker(), Random(1))
    admission.enter(running := Attempt(admission.endpoint("a"), "first", Kind.FRESH))
    for endpoint in "aaabbbccc":
        admission.queue(Attempt(admission.endpoint(endpoint), "1", Kind.FRESH))
    order = []
    for _ in range(9):
        admission.finish(running, classify("OK"), Reach.ANSWERED, 0.0)
        running = admission.admit(0.0)
        order.append(running.endpoint.name)
    assert order == ["a", "b", "c"] * 3


def test_only_what_was_delivered_earns_a_token():
    admission = Admission(1, Breaker(), Random(1))
    endpoint = admission.endpoint("a")
    endpoint.tokens.take(0.0)
    for status, earned in (("NOT_FOUND", False), ("UNKNOWN", False), ("OK", True)):
        admission.enter(attempt := Attempt(endpoint, "1", Kind.FRESH))
        admission.finish(attempt, classify(status), Reach.ANSWERED, 0.0)
        assert endpoint.tokens.take(1.0) == earned
