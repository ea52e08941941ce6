from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pipelines.backoff import ceiling, equal_jitter, full_jitter

retries = st.integers(-3, 10**9)
seconds = st.floats(0.001, 3600)


@given(retries, seconds, seconds, st.integers(0, 1000))
def test_pauses_stay_between_nothing_and_their_cap(retry, initial, longest, seed):
    top = ceiling(retry, initial, longest)
    assert 0 < top <= longest
    assert 0 <= full_jitter(retry, initial, longest, Random(seed)) <= top
    assert top / 2 <= equal_jitter(retry, initial, longest, Random(seed)) <= top


def test_ceilings_double_until_the_cap():
    assert [ceiling(retry, 1, 300) for retry in (1, 2, 3, 9, 10, 11)] == [1, 2, 4, 256, 300, 300]


def test_jitter_spreads_over_its_whole_range():
    rng = Random(1)
    full = [full_jitter(4, 1, 300, rng) for _ in range(500)]
    equal = [equal_jitter(4, 1, 300, rng) for _ in range(500)]
    assert min(full) < 0.5
    assert max(full) > 7.5
    assert min(equal) < 4.2
    assert max(equal) > 7.8
