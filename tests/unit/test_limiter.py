from hypothesis import given
from hypothesis import strategies as st

from pipelines.limiter import Limiter


def start(limiter: Limiter) -> list[int]:
    rounds = []
    while limiter.free:
        rounds.append(limiter.start())
    return rounds


def test_calls_that_were_under_way_together_halve_the_limit_once():
    limiter = Limiter(64)
    for round_ in start(limiter):
        limiter.exhausted(round_)
        limiter.finish()
    assert limiter.limit == 32


def test_what_is_halved_is_what_was_in_flight_not_an_unused_limit():
    limiter = Limiter(64)
    rounds = [limiter.start() for _ in range(6)]
    limiter.exhausted(rounds[0])
    assert limiter.limit == 3


def test_after_exhaustion_the_limit_grows_by_one_a_full_round_up_to_the_maximum():
    limiter = Limiter(8)
    limiter.exhausted(start(limiter)[0])
    growth = []
    while limiter.reduced:
        successes, before = 0, limiter.limit
        while limiter.limit == before:
            limiter.succeeded()
            successes += 1
        growth.append(successes)
    assert limiter.limit == 8
    assert growth == [4, 5, 6, 7]


def test_after_a_restart_it_grows_from_one_by_one_a_success():
    limiter = Limiter(5)
    limiter.pause()
    limiter.restart()
    limits = [limiter.limit]
    for _ in range(6):
        limiter.succeeded()
        limits.append(limiter.limit)
    assert limits == [1, 2, 3, 4, 5, 5, 5]


def test_a_call_from_before_a_restart_halves_nothing():
    limiter = Limiter(8)
    old = limiter.start()
    limiter.pause()
    limiter.restart()
    for _ in range(7):
        limiter.succeeded()
    limiter.exhausted(old)
    assert limiter.limit == 8


@given(st.integers(1, 100), st.lists(st.sampled_from(["start", "succeed", "exhaust", "pause", "restart"]), max_size=80))
def test_the_limit_stays_between_one_and_the_maximum_unless_paused(maximum, steps):
    limiter = Limiter(maximum)
    running: list[int] = []
    paused = False
    for step in steps:
        if step == "start" and limiter.free:
            running.append(limiter.start())
            assert limiter.in_flight <= maximum
        elif step in {"succeed", "exhaust"} and running:
            round_ = running.pop(0)
            before = limiter.limit
            if step == "succeed":
                limiter.succeeded()
                assert limiter.limit in {before, before + 1}
            else:
                limiter.exhausted(round_)
                assert limiter.limit <= before
            limiter.finish()
        elif step == "pause":
            limiter.pause()
            paused = True
        elif step == "restart":
            limiter.restart()
            paused = False
        assert limiter.limit == 0 if paused else 1 <= limiter.limit <= maximum
        assert limiter.in_flight == len(running)
