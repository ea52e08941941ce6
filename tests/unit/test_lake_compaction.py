"""What the compactor decides, and the records it keeps of that."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pyarrow as pa
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.problems import Problem
from lake import segments
from lake.main import compaction
from lake.main.compaction import Commit, Input, Intent, Output
from lake.main.merge import cut
from lake.segments import Chain
from lake.storage import create_bytes
from lake.storage.local import LocalStorage

TOPIC = "part"
CHAINS = [Chain(TOPIC, epoch, partition) for epoch in ("first", "second") for partition in (0, 1, 11)]

#: Lengths of the segments of a chain; of each whether it is there, its bytes and its rows.
SEGMENT = st.tuples(st.integers(1, 9), st.sampled_from([True, True, True, False]), st.integers(0, 9), st.integers(0, 9))
LAKES = st.dictionaries(st.sampled_from(CHAINS), st.lists(SEGMENT, max_size=6), max_size=4)


def inputs_of(lake):
    """All segments that are there, with their bytes, and where each chain has them without a gap, from 0."""
    found, reach = {}, {}
    for chain, lengths in lake.items():
        start, whole = 0, True
        for length, present, size, rows in lengths:
            key = segments.segment_key(chain, start)
            if present:
                found[key] = Input(key, chain.epoch, chain.partition, start, start + length, rows), size
            whole = whole and present
            if whole:
                reach[chain.epoch, chain.partition] = start + length
            start += length
    return found, reach


def sizes(found):
    return {key: size for key, (_, size) in found.items()}


def step(found, watermarks, most_bytes=1 << 40, most=100, most_rows=1 << 40):
    waiting, broken = compaction.waiting(sizes(found), watermarks)
    chosen = compaction.affordable(waiting, most_bytes, most)
    return compaction.follow([found[one.key][0] for one in chosen], watermarks, most_rows), broken


@given(LAKES, st.integers(1, 20), st.integers(1, 4), st.integers(1, 20))
@settings(max_examples=examples(300), deadline=None)
def test_step_by_step_every_chain_is_taken_in_its_order_up_to_its_first_gap_which_is_named(
    lake, most_bytes, most, most_rows
):
    found, reach = inputs_of(lake)
    watermarks, taken = {}, []
    while True:
        inputs, broken = step(found, watermarks, most_bytes, most, most_rows)
        if not inputs:
            break
        assert len(inputs) <= most
        assert len(inputs) == 1 or sum(found[one.key][1] for one in inputs) <= most_bytes
        assert len(inputs) == 1 or sum(one.rows for one in inputs) <= most_rows
        after = compaction.advanced(watermarks, inputs)
        assert after.keys() >= watermarks.keys()
        assert all(after[chain] >= offset for chain, offset in watermarks.items())
        watermarks, taken = after, [*taken, *inputs]
    assert watermarks == reach
    beyond = {(one.epoch, one.partition) for one, _ in found.values() if one not in taken}
    assert broken == {chain: reach.get(chain, 0) for chain in beyond}
    for chain in watermarks:
        mine = [one for one in taken if (one.epoch, one.partition) == chain]
        assert [mine[0].start, *(one.next for one in mine[:-1])] == [0, *(one.start for one in mine[1:])]


@given(LAKES, st.dictionaries(st.sampled_from(CHAINS), st.integers(0, 30)))
@settings(max_examples=examples(200), deadline=None)
def test_removed_is_only_what_lies_below_its_watermark_and_never_the_last_of_a_chain(lake, marks):
    found, _ = inputs_of(lake)
    watermarks = {(chain.epoch, chain.partition): offset for chain, offset in marks.items()}
    removed = compaction.removable([*found, "hot/part/schema/0123456789abcdef.parquet"], watermarks)

    last = segments.newest(found)
    for key, (one, _) in found.items():
        below = one.start < watermarks.get((one.epoch, one.partition), 0)
        assert (key in removed) == (below and last[Chain(TOPIC, one.epoch, one.partition)] != one.start)


def test_other_names_in_the_hot_folder_wait_for_nothing():
    assert compaction.waiting({"hot/part/schema/0123456789abcdef.parquet": 9, "hot/part/first/x.parquet": 9}, {}) == (
        [],
        {},
    )


def test_a_segment_that_a_zombie_left_below_the_watermark_is_not_taken():
    key = segments.segment_key(CHAINS[0], 5)

    assert compaction.waiting({key: 9}, {("first", 0): 6}) == ([], {})
    assert [one.key for one in compaction.waiting({key: 9}, {("first", 0): 5})[0]] == [key]


def test_a_segment_that_overlaps_the_one_before_is_not_taken():
    one = Input("a", "first", 0, 0, 10, 1)

    assert compaction.follow([one, replace(one, start=8, next=12)], {}, 99) == (one,)


def test_one_segment_is_taken_however_large_it_is():
    found, _ = inputs_of({CHAINS[0]: [(5, True, 9, 9), (5, True, 9, 9)]})

    inputs, _ = step(found, {}, most_bytes=1, most_rows=1)
    assert [one.start for one in inputs] == [0]


def test_chains_are_taken_side_by_side():
    found, _ = inputs_of({chain: [(5, True, 1, 1)] * 4 for chain in CHAINS[:3]})

    inputs, _ = step(found, {}, most=6)
    assert sorted((one.partition, one.start) for one in inputs) == [(0, 0), (0, 5), (1, 0), (1, 5), (11, 0), (11, 5)]


@pytest.mark.parametrize(
    ("rows", "size", "file_bytes", "expected"),
    [(1000, 100_000, 10_000, 100), (0, 500, 10_000, 1), (3, 3_000_000, 1_000_000, 1), (10, 0, 100, 1000)],
)
def test_rows_of_a_file_follow_from_the_bytes_of_a_row(rows, size, file_bytes, expected):
    assert compaction.rows_per_file([Input("a", "first", 0, 0, 9, rows)], size, file_bytes) == expected


EDGES = (datetime(1, 1, 1, tzinfo=UTC), datetime(1969, 12, 30, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC))
TIMES = st.builds(
    lambda edge, after: edge + timedelta(microseconds=after),
    st.sampled_from(EDGES),
    st.integers(0, 4 * 86_400_000_000) | st.sampled_from([86_400_000_000, 86_399_999_999]),
)


@given(st.lists(TIMES, max_size=30), st.integers(1, 7))
@settings(max_examples=examples(300), deadline=None)
def test_a_file_has_rows_of_one_day_in_utc_and_those_of_a_day_differ_by_one_row_at_most(times, most):
    times = sorted(times)
    parts = cut(pa.array(times, pa.timestamp("us", "UTC")).cast(pa.int64()), most)

    assert [0, *(part.stop for part in parts)] == [*(part.start for part in parts), len(times)]
    for part in parts:
        assert {time.date().isoformat() for time in times[part.start : part.stop]} == {part.date}
        assert 1 <= part.stop - part.start <= most
    for one, following in pairwise(parts):
        assert following.number == (one.number + 1 if one.date == following.date else 0)
        if one.date == following.date:
            assert abs((one.stop - one.start) - (following.stop - following.start)) <= 1


def test_records_come_back_as_they_were_written():
    one = Input("hot/part/first/0", "first", 3, 5, 9, 2, (6, 7))
    intent = Intent(TOPIC, 7, (one,), 1000, "2026-11-28T00:00:00+00:00")
    output = Output("main/part/dt=2026-11-28/000000000007-00000.parquet", "2026-11-28", 2, 999)
    commit = Commit(TOPIC, 7, (output,), {("first", 3): 9, ("second", 0): 1}, "2026-11-28T00:00:01+00:00")

    assert compaction.decode_intent(compaction.encode_intent(intent)) == intent
    assert compaction.decode_commit(compaction.encode_commit(commit)) == commit


def test_a_record_of_another_format_is_refused():
    content = compaction.encode_commit(Commit(TOPIC, 1)).replace(b'"format": 1', b'"format": 2')

    with pytest.raises(Problem, match="another version of Waybill"):
        compaction.decode_commit(content)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": 1}', b'{"format": 1, "inputs": [{}]}'])
def test_what_is_no_record_is_named(tmp_path, content):
    storage = LocalStorage(tmp_path)
    create_bytes(storage, compaction.commit_key(TOPIC, 1), content)
    create_bytes(storage, compaction.intent_key(TOPIC, 2), content)

    with pytest.raises(Problem, match=r"000000000001\.commit\.json is no record"):
        compaction.newest(storage, TOPIC)
    with pytest.raises(Problem, match=r"000000000002\.intent\.json is no record"):
        compaction.read_intent(storage, TOPIC, 2)
