from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pipelines.breaker import ConsumerBreaker, EndpointBreaker, State


def consumer(threshold=5):
    return ConsumerBreaker(threshold, 5.0, Random(1))


def endpoint(window=20, distinct=5):
    return EndpointBreaker(window, distinct, 5.0, Random(1))


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 8))
def test_the_consumers_breaker_opens_exactly_at_consecutive_transport_failures(answers, threshold):
    breaker, consecutive = consumer(threshold), 0
    for answered in answers:
        if answered:
            breaker.answered()
            consecutive = 0
        else:
            consecutive += 1
            assert breaker.failed(0.0, connected=True) == (consecutive == threshold)
        assert (breaker.state is State.CLOSED) == (consecutive < threshold)


def test_one_call_that_found_no_connection_opens_the_consumers_breaker():
    breaker = consumer()
    assert breaker.failed(0.0, connected=False)
    assert breaker.state is State.OPEN


@given(st.lists(st.one_of(st.none(), st.integers(0, 7)), max_size=150))
def test_an_endpoints_breaker_opens_exactly_when_its_last_outcomes_over_enough_events_all_failed(outcomes):
    breaker, failed = endpoint(window=8, distinct=3), []
    for event in outcomes:
        if event is None:
            breaker.succeeded()
            failed = []
        elif breaker.state is State.CLOSED:
            failed.append(str(event))
            due = len(failed) >= 8 and len(set(failed[-8:])) >= 3
            assert breaker.failed(str(event), 0.0) == due
            assert (breaker.state is State.OPEN) == due


def test_one_bad_event_alone_never_opens_its_endpoints_breaker():
    breaker = endpoint()
    assert not any(breaker.failed("the same", float(second)) for second in range(1000))


def test_a_window_smaller_than_the_distinct_events_can_still_open():
    breaker = endpoint(window=3, distinct=5)
    assert [breaker.failed(str(event), 0.0) for event in range(3)] == [False, False, True]


@given(st.integers(0, 1000), st.floats(0.1, 60))
def test_probes_follow_within_the_longest_interval_and_grow_apart(seed, longest):
    breaker = ConsumerBreaker(1, longest, Random(seed))
    breaker.failed(0.0, connected=True)
    now, intervals = 0.0, []
    for _ in range(12):
        assert not breaker.probe_due(breaker.probe_at - 0.001)
        assert breaker.probe_due(breaker.probe_at)
        intervals.append(breaker.probe_at - now)
        now = breaker.probe_at
        breaker.probe_failed(breaker.begin_probe(), now)
    assert max(intervals) <= longest + 1e-9
    assert intervals[0] <= 0.5
    assert intervals[-1] >= longest / 2 - 1e-9


def test_only_one_probe_is_in_flight():
    breaker = consumer(1)
    breaker.failed(0.0, connected=True)
    breaker.begin_probe()
    assert breaker.state is State.HALF_OPEN
    assert not breaker.probe_due(1e9)


def test_a_probe_from_before_the_last_opening_decides_nothing():
    breaker = consumer(1)
    breaker.failed(0.0, connected=True)
    old = breaker.begin_probe()
    breaker.answered()
    breaker.failed(1.0, connected=True)
    breaker.begin_probe()
    breaker.probe_failed(old, 2.0)
    breaker.probe_abandoned(old, 2.0)
    assert breaker.state is State.HALF_OPEN


def test_an_abandoned_probe_is_followed_by_another_at_once():
    breaker = consumer(1)
    breaker.failed(0.0, connected=True)
    breaker.probe_abandoned(breaker.begin_probe(), 3.0)
    assert breaker.probe_due(3.0)


def test_a_closed_breaker_starts_anew():
    breaker = consumer(1)
    breaker.failed(0.0, connected=True)
    for _ in range(10):
        breaker.probe_failed(breaker.begin_probe(), 0.0)
    assert breaker.answered()
    assert not breaker.answered()
    breaker.failed(0.0, connected=True)
    assert breaker.probe_at <= 0.5
