"""When a worker counts as standing still."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.kafka import watchdog
from connectors.kafka.watchdog import SLEPT, Sample, Standing, Watch

PATIENCE = 60.0
A, B = ("a", 0), ("b", 0)


def run(steps: list[tuple[float, dict[str, int], tuple[str, ...]]]) -> Watch:
    """Samples and looks at the given seconds: (seconds since the last, what is done, excuses)."""
    now = 0.0
    watch = watchdog.start(Sample(now, {"a": 0, "b": 0}))
    for seconds, done, excuses in steps:
        now += seconds
        watch = watchdog.looked(watchdog.sampled(watch, Sample(now, done, excuses)), now)
    return watch


def second_by_second(seconds: int, done: dict[str, int], excuses: tuple[str, ...] = ()) -> list:
    return [(1.0, done, excuses)] * seconds


def test_a_topic_that_does_not_move_is_suspected_after_half_the_patience_and_others_are_not() -> None:
    still = [(1.0, {"a": 0, "b": number}, ()) for number in range(1, 40)]

    assert watchdog.suspects(run(still[:29]), PATIENCE) == []
    assert watchdog.suspects(run(still[:30]), PATIENCE) == ["a"]


def test_whoever_waits_on_purpose_is_never_suspected_and_the_clock_starts_when_the_wait_ends() -> None:
    hours = second_by_second(4000, {"a": 0, "b": 0}, ("a breaker is open",))

    assert watchdog.suspects(run(hours), PATIENCE) == []
    assert watchdog.suspects(run(hours + second_by_second(29, {"a": 0, "b": 0})), PATIENCE) == []
    assert watchdog.suspects(run(hours + second_by_second(30, {"a": 0, "b": 0})), PATIENCE) == ["a", "b"]


def test_a_process_that_was_stopped_for_long_is_not_blamed_for_the_time() -> None:
    watch = run(second_by_second(20, {"a": 0, "b": 0}))
    woken = watchdog.looked(watch, watch.at + 3600)  # before the event loop has had its turn

    assert woken.blocked() == 0
    assert watchdog.suspects(woken, PATIENCE) == []


def test_an_event_loop_that_does_not_answer_is_blocked_for_as_long() -> None:
    watch = run(second_by_second(5, {"a": 0, "b": 0}))
    for second in range(1, 61):
        watch = watchdog.looked(watch, 5.0 + second)

    assert watch.blocked() == 60
    assert watchdog.sampled(watch, Sample(66.0, {"a": 0, "b": 0})).blocked() <= 0


@given(
    st.lists(
        st.tuples(st.floats(0.1, SLEPT), st.booleans(), st.sampled_from([(), ("waits",)]), st.booleans()),
        max_size=60,
    )
)
def test_quiet_is_the_time_since_the_last_move_excuse_or_answer_of_kafka(
    steps: list[tuple[float, bool, tuple[str, ...], bool]],
) -> None:
    now, done, last = 0.0, 0, 0.0
    watch = watchdog.start(Sample(now, {"a": 0}))
    for seconds, moved, excuses, cleared in steps:
        now += seconds
        done += moved
        watch = watchdog.looked(watchdog.sampled(watch, Sample(now, {"a": done}, excuses)), now)
        if cleared:
            watch = watchdog.excused(watch, {"a"})
        if moved or excuses or cleared:
            last = now
        assert watch.quiet("a") == pytest.approx(now - last)


@pytest.mark.parametrize(
    ("lag", "owner", "held", "expected"),
    [
        (5, "me", False, True),  # it is ours, and nothing is done
        (5, "", False, True),  # nobody has it: the whole group idles
        (5, "other", False, False),  # more workers than partitions
        (5, "me", True, False),  # a person must decide
        (0, "me", False, False),  # nothing to do
        (0, "", False, False),
    ],
)
def test_records_that_wait_for_us_or_for_nobody_are_why_a_worker_is_stuck(
    lag: int, owner: str, held: bool, expected: bool
) -> None:
    standing = Standing({A: lag, B: 0}, {A: owner, B: "me"} if owner else {B: "me"})

    assert ("a" in watchdog.stuck(standing, "me", {A} if held else set())) is expected
    assert "b" not in watchdog.stuck(standing, "me", set())


def test_a_worker_that_has_not_joined_is_stuck_only_if_nobody_else_has_the_partitions() -> None:
    assert watchdog.stuck(Standing({A: 5}, {}), "", set())
    assert not watchdog.stuck(Standing({A: 5}, {A: "other"}), "", set())
