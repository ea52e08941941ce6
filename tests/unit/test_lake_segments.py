import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.problems import Problem
from lake import segments
from lake.segments import Adopted, Chain, Footer, Limits, Remainder

CHAIN = Chain("package_delivered", "Tn5aGd3uTGqxW1-_ZyVw2g", 7)
KEY = "hot/package_delivered/Tn5aGd3uTGqxW1-_ZyVw2g/00007-00000000000000001234.parquet"

topics = st.from_regex(r"[a-zA-Z0-9._-]{1,20}", fullmatch=True)
offsets = st.integers(0, 2**63 - 1)
chains = st.builds(Chain, topics, topics, st.integers(0, 99_999))


def test_the_name_of_a_segment_holds_its_start_and_nothing_that_a_second_writer_could_choose_otherwise():
    assert segments.segment_key(CHAIN, 1234) == KEY
    assert segments.quarantine_key(CHAIN, 5).endswith("Tn5aGd3uTGqxW1-_ZyVw2g/00007-00000000000000000005.avro")


@given(st.lists(st.tuples(chains, offsets), max_size=20))
def test_the_newest_segment_of_each_chain_is_the_one_with_the_highest_start(pairs):
    expected = {chain: max(start for other, start in pairs if other == chain) for chain, _ in pairs}
    assert segments.newest(segments.segment_key(chain, start) for chain, start in pairs) == expected


def test_names_that_are_no_segments_start_no_chain():
    names = ["hot/a/schema/0123456789abcdef.parquet", "hot/a/e/.00000-00000000000000000000.parquet.tmp", "views.sql"]
    assert segments.newest([*names, "quarantine/a/e/00000-00000000000000000000.avro"]) == {}


def footer(**changes):
    known = {
        "start": 1234,
        "next": 1300,
        "rows": 60,
        "quarantined": (1240, 1250),
        "topic_id": "T",
        "schema": "f",
        "writer": "w",
    }
    return Footer(**known | changes)


def test_a_footer_is_text_with_the_quarantined_offsets_as_json():
    assert footer().encode() == {
        "waybill.start": "1234",
        "waybill.next": "1300",
        "waybill.rows": "60",
        "waybill.quarantined": "[1240, 1250]",
        "waybill.topic_id": "T",
        "waybill.schema": "f",
        "waybill.writer": "w",
    }


@given(offsets.filter(lambda offset: offset > 1234))
def test_the_chain_goes_on_where_the_footer_says(offset):
    assert segments.next_offset(KEY, footer(next=offset).encode()) == offset


@pytest.mark.parametrize("metadata", [{}, {"waybill.next": "soon"}, {"waybill.next": "1234"}, {"waybill.next": "-1"}])
def test_a_footer_that_does_not_go_on_is_a_problem(metadata):
    with pytest.raises(Problem, match="names no next offset"):
        segments.next_offset(KEY, metadata)


LIMITS = Limits(segment_bytes=1000, segment_age=60.0, memory_bytes=100)


@pytest.mark.parametrize(
    ("size", "age", "reason"), [(999, 59.9, None), (1000, 0.0, "size"), (0, 60.0, "age"), (1000, 60.0, "size")]
)
def test_a_segment_is_due_by_size_or_by_age(size, age, reason):
    assert segments.rotation(size, age, LIMITS) == reason


def test_the_loser_of_a_race_adopts_a_winner_that_reaches_as_far_and_keeps_what_reaches_further():
    assert segments.after_lost_race(end=100, winner_next=100) == Adopted(100)
    assert segments.after_lost_race(end=100, winner_next=130) == Adopted(130)
    assert segments.after_lost_race(end=100, winner_next=99) == Remainder(99)


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 1000), max_size=8), st.integers(0, 2000))
def test_spilling_the_largest_brings_memory_under_its_budget_and_stops_there(held, budget):
    spilled = segments.to_spill(held, budget)
    left = {key: size for key, size in held.items() if key not in spilled}
    assert sum(left.values()) <= budget
    assert all(held[key] >= size for key in spilled for size in left.values())
    if spilled:
        assert sum(left.values()) + held[spilled[-1]] > budget
