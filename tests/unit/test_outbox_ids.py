import threading
import uuid

from hypothesis import given
from hypothesis import strategies as st
from waybill_outbox.ids import compose, successor, uuid7

MILLISECONDS = st.integers(0, 2**48 - 2)
COUNTER = st.integers(0, 2**42 - 1)


@given(MILLISECONDS, COUNTER, st.integers(0, 2**32 - 1))
def test_an_id_has_the_layout_of_uuid_version_7(ms, counter, tail):
    made = compose(ms, counter, tail)
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == ms
    assert made.int & 0xFFFFFFFF == tail


@given(MILLISECONDS, COUNTER, MILLISECONDS, st.integers(0, 2**48), st.integers(0, 2**32 - 1))
def test_each_id_is_greater_than_the_last_whatever_the_clock_does(ms, counter, now, seed, tail):
    after = successor((ms, counter), now, seed)
    assert compose(*after, 0) > compose(ms, counter, tail)
    assert after[0] <= max(now, ms + 1)


def test_an_id_starts_with_the_milliseconds_of_the_clock():
    assert successor((0, 5), 1_700_000_000_000, 3)[0] == 1_700_000_000_000


def test_a_full_counter_moves_to_the_next_millisecond():
    assert successor((7, 2**42 - 1), 7, 3) == (8, 3)


def test_ids_of_several_threads_are_distinct_and_rise_in_each():
    made = [[] for _ in range(4)]
    threads = [threading.Thread(target=lambda ids=ids: ids.extend(uuid7() for _ in range(2000))) for ids in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(ids == sorted(ids) for ids in made)
    assert len({each for ids in made for each in ids}) == 8000
