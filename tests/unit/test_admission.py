"""Whose turn it is, and what one answer changes: small examples.  Any sequence: test_admission_sequences.py."""

from collections import Counter
from random import Random

from connectors.reply import Reach
from pipelines.admission import Admission
from pipelines.format import Breaker
from pipelines.outcome import classify
from pipelines.turns import Attempt, Kind, never


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


def test_a_retry_that_its_endpoint_holds_waits_to_be_the_probe_while_the_consumers_breaker_is_open():
    admission = Admission(8, Breaker(window=1, distinct_events=1), Random(1))
    endpoint = admission.endpoint("a")
    admission.enter(failing := Attempt(endpoint, "1", Kind.FRESH))
    admission.finish(failing, classify("UNKNOWN"), Reach.ANSWERED, 0.0)
    admission.queue(retry := Attempt(endpoint, "2", Kind.RETRY, waits=never))
    assert admission.steps_aside(retry)
    admission.finish(admission.admit(1.0), classify("UNAVAILABLE"), Reach.UNSENT, 1.0)
    admission.queue(retry)
    assert not admission.steps_aside(retry)
    assert admission.probe_consumer(2.0) is retry


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
