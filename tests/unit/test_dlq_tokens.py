from hypothesis import given
from hypothesis import strategies as st

from pipelines.dlq_tokens import DlqTokens


def test_without_any_success_one_dead_letter_a_minute_may_enter():
    tokens = DlqTokens()
    assert [second for second in range(601) if tokens.take(second)] == list(range(0, 601, 60))


def test_each_success_lets_one_in():
    tokens = DlqTokens()
    tokens.take(0)
    tokens.succeeded()
    tokens.succeeded()
    assert [tokens.take(1), tokens.take(1), tokens.take(1)] == [True, True, False]


@given(st.lists(st.one_of(st.just("success"), st.floats(0, 100)), max_size=200))
def test_never_do_more_enter_than_successes_and_minutes_allow(steps):
    tokens, now, entered, successes = DlqTokens(capacity=10), 0.0, 0, 0
    for step in steps:
        if step == "success":
            successes += 1
            tokens.succeeded()
        else:
            now += step
            entered += tokens.take(now)
    assert entered <= 1 + now / 60 + successes


def test_an_outage_after_many_successes_lets_in_few():
    tokens = DlqTokens(capacity=10)
    for _ in range(1000):
        tokens.succeeded()
    assert sum(tokens.take(second) for second in range(60)) == 10
