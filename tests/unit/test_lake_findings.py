import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import names, tables

from lake.main.compaction import Input
from lake.proof import findings
from lake.proof.findings import REMEDIES, Comparison, Finding, Run, Segment

OFFSETS = st.sets(st.integers(0, 40)).map(sorted)
SEGMENTS = [Segment(Input("hot/a", "e", 0, 0, 20, 0), step=3), Segment(Input("hot/b", "e", 0, 20, 41, 0))]


def longs(numbers):
    return pa.array(numbers, pa.int64())


def compare(lake, kafka):
    comparison = Comparison(longs(lake), None, 0, 41)
    for offset in kafka:
        comparison.add(offset)
    comparison.finish()
    return comparison


@given(OFFSETS, OFFSETS, st.integers(1, 45))
def test_what_one_side_lacks_is_counted_and_its_first_offset_named_however_little_is_held(lake, kafka, held):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(findings, "HELD", held)
        comparison = compare(lake, kafka)
    lost, extra = sorted({*kafka} - {*lake}), sorted({*lake} - {*kafka})
    for found, expected in ((comparison.lost, lost), (comparison.extra, extra)):
        assert (found.start, found.count) == (expected[0], len(expected)) if expected else found is None


def test_a_stretch_that_is_lost_ends_where_the_lake_goes_on():
    assert findings.run(longs([10, 12, 15, 30]), longs([0, 20, 40])) == Run(10, 16, 4)


def test_bytes_that_differ_are_told_and_offsets_that_one_side_lacks_are_not_compared():
    comparison = Comparison(longs([1, 2, 3, 5]), pa.array([10, 20, None, 50], pa.uint64()), 0, 41)
    for offset, digest in ((1, 10), (2, 21), (3, 30), (4, 40)):
        comparison.add(offset, digest)
    comparison.finish()
    assert comparison.other == Run(2, 3, 1)


def told(comparison, log_start=0):
    return [(one.kind, one.start, one.end, one.what) for one in comparison.findings("t", ("e", 0), SEGMENTS, log_start)]


def test_findings_beside_kafka_name_the_segment_and_forgive_what_retention_has_removed():
    comparison = compare([1, 2, 30], [1, 7, 8])
    assert told(comparison) == [
        ("lost", 7, 9, "in Kafka and not in the lake, where they belong to hot/a (in main since step 3)"),
        ("extra", 2, 3, "in the lake and not in Kafka, of hot/a (in main since step 3)"),
    ]
    assert [kind for kind, *_ in told(comparison, log_start=3)] == ["lost"]


def test_findings_about_one_thing_are_one_with_the_count_of_all():
    first = Finding("lost", "t", "first", "", "e", 1, 5, 6, 2)
    second = Finding("lost", "t", "second", "", "e", 1, 50, 60, 3)
    other = Finding("lost", "t", "other", "", "e", 2, 50, 60, 3)
    assert findings.merged([first, second, other]) == [Finding("lost", "t", "first", "", "e", 1, 5, 6, 5), other]


def test_every_kind_of_finding_is_in_the_manual_with_what_to_do():
    (table,) = [table for table in tables("operations.md") if table.header[0] == "finding"]
    assert [names(row[0])[0] for row in table.rows] == list(REMEDIES)
