"""One partition or topic that the lake cannot take in waits, with the reason for it; all others go on."""

import pytest
from lake_world import BAD, NUMBER, OTHER, TEXT, TOPIC, Window, World, event, fetch, record, undecodable

from connectors.kafka.holds import Halt
from connectors.problems import Problem
from lake import segments
from lake.hot.fetches import Finished, Halted
from lake.segments import Limits


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, Limits(1 << 30, 60.0, 64 << 20, quarantine=10))


def garbage(count, of, partition=0):
    """``count`` records that cannot be decoded, then good ones."""
    return [record(offset, BAD if offset < count else None, partition) for offset in range(of)]


@pytest.mark.parametrize(("rejected", "decoded", "limit", "spoilt"), [
    (10, 0, 10, False),
    (11, 0, 10, True),
    (11, 1089, 10, False),
    (11, 1088, 10, True),
    (1, 0, 0, True),
    (0, 0, 0, False),
])  # fmt: skip
def test_a_segment_is_spoilt_above_both_limits(rejected, decoded, limit, spoilt):
    assert segments.spoilt(rejected, decoded, limit) == spoilt


def test_a_partition_of_garbage_is_held_with_its_first_error_and_the_way_out_while_others_go_on(world):
    sink, bad, good = world.sink(), Window(), Window()
    sink.assign([(TOPIC, 0), (TOPIC, 1)])
    assert sink.step([fetch(bad, 0, 40, garbage(11, 40)), fetch(good, 0, 10, partition=1)]) == []
    world.now += 60.0
    first, second = sink.step([])
    assert (type(first), first.window, first.topic, first.partition) == (Halted, bad, TOPIC, 0)
    assert first.halt.position == 0
    assert first.halt.gap.startswith("11 of 40 records from offset 0 on cannot be decoded; the first at offset 0: ")
    assert "`lake.quarantine-limit`" in first.halt.way_out
    assert second == Finished(good, 10)
    assert sink.step([fetch(bad, 40, 50)]) == []
    sink.flush()
    assert {partition for partition, _ in world.rows()} == {1}
    assert world.quarantined() == []
    assert world.scratch() == []
    assert sink.held == 0


def test_a_held_partition_is_read_again_from_the_end_of_its_chain_once_it_is_assigned_anew(world):
    sink, window = world.sink(), Window()
    sink.assign([(TOPIC, 0)])
    sink.step([fetch(window, 0, 40, garbage(11, 40))])
    assert isinstance(sink.flush()[0], Halted)
    window.live = False
    world.limits = Limits(1 << 30, 60.0, 64 << 20, quarantine=11)
    deployed, window = world.sink(), Window()
    assert deployed.assign([(TOPIC, 0)]) == {(TOPIC, 0): 0}
    deployed.step([fetch(window, 0, 40, garbage(11, 40))])
    assert deployed.flush() == [Finished(window, 40)]
    assert world.quarantined() == list(range(11))
    assert world.rows() == [(0, offset) for offset in range(11, 40)]


def test_few_bad_records_of_a_segment_hold_nothing(world):
    sink, window = world.sink(), Window()
    sink.assign([(TOPIC, 0)])
    sink.step([fetch(window, 0, 2000, garbage(20, 2000))])
    assert sink.flush() == [Finished(window, 2000)]
    assert len(world.quarantined()) == 20


def test_a_record_that_breaks_what_builds_rows_halts_its_partition_alone(world):
    sink, odd, good = world.sink(), Window(), Window()
    sink.assign([(TOPIC, 0), (TOPIC, 1)])
    records = [record(0), record(1, headers=((object(), b""),))]
    sink.step([fetch(odd, 0, 2, records), fetch(good, 0, 2, partition=1)])
    halted, finished = sink.flush()
    assert (halted.window, finished) == (odd, Finished(good, 2))
    assert halted.halt.gap.startswith("offsets 0 to 1 failed: ")
    assert world.rows() == [(1, 0), (1, 1)]


def test_a_topic_made_anew_halts_and_the_rest_is_published(world):
    sink, ours, other = world.sink(), Window(), Window()
    sink.assign([(TOPIC, 0), (OTHER, 0)])
    sink.step([fetch(ours, 0, 10)])
    sink.flush()
    sink.step([fetch(ours, 10, 20), fetch(other, 0, 10, topic=OTHER)])
    assert sink.changed() == []
    world.lives[TOPIC] = "second-life"
    world.now += 60.0
    halted, finished = sink.step([])
    assert "was deleted and made anew; what was read of it from offset 10 on" in halted.halt.gap
    assert finished == Finished(other, 10)
    assert (len(world.files("first-life")), world.files("second-life")) == (1, [])
    assert sink.changed() == [TOPIC]
    ours.live = other.live = False
    assert sink.assign([(TOPIC, 0), (OTHER, 0)]) == {(TOPIC, 0): 0, (OTHER, 0): 10}
    assert sink.changed() == []


def test_a_topic_that_is_deleted_halts_until_there_is_one_again(world):
    sink, window = world.sink(), Window()
    sink.assign([(TOPIC, 0)])
    sink.step([fetch(window, 0, 10)])
    del world.lives[TOPIC]
    (halted,) = sink.flush()
    assert halted.halt.gap.startswith("the topic part does not exist")
    window.live = False
    placed = sink.assign([(TOPIC, 0), (OTHER, 0)])
    assert placed[OTHER, 0] == 0
    assert isinstance(placed[TOPIC, 0], Halt)
    assert sink.changed() == []
    world.reachable = False
    assert sink.changed() == []
    world.reachable, world.lives[TOPIC] = True, "second-life"
    assert sink.changed() == [TOPIC]
    assert sink.assign([(TOPIC, 0)]) == {(TOPIC, 0): 0}


def test_an_event_type_that_the_lake_cannot_decode_holds_its_topic_alone(world):
    sink = world.sink(undecodable(TOPIC), event(OTHER))
    placed = sink.assign([(TOPIC, 0), (OTHER, 0)])
    assert placed[OTHER, 0] == 0
    assert "the lake cannot decode lake_test.Part" in placed[TOPIC, 0].gap
    assert "wait in Kafka" in placed[TOPIC, 0].way_out


def test_a_type_that_changed_beyond_what_reads_together_holds_its_topic_and_leaves_no_column_behind(world):
    sink, window = world.sink(event(number=NUMBER)), Window()
    sink.assign([(TOPIC, 0)])
    sink.step([fetch(window, 0, 10)])
    sink.flush()
    columns = sorted(world.root.glob(f"hot/{TOPIC}/schema/*"))
    changed = world.sink(event(TOPIC, number=TEXT), event(OTHER))
    placed = changed.assign([(TOPIC, 0), (OTHER, 0)])
    assert placed[OTHER, 0] == 0
    assert "has changed so that new files would not read beside those" in placed[TOPIC, 0].gap
    assert "number" in placed[TOPIC, 0].gap
    assert sorted(world.root.glob(f"hot/{TOPIC}/schema/*")) == columns
    assert world.sink(event(number=NUMBER)).assign([(TOPIC, 0)]) == {(TOPIC, 0): 10}


@pytest.mark.parametrize("what", ["a segment", "a schema", "a commit of the compactor"])
def test_a_file_that_cannot_be_read_holds_its_topic_alone(world, what):
    sink, window = world.sink(), Window()
    sink.assign([(TOPIC, 0)])
    sink.step([fetch(window, 0, 10)])
    sink.flush()
    world.compact(1, 0)
    events = [event(TOPIC), event(OTHER)]
    match what:
        case "a segment":
            world.files()[0].write_bytes(b"PAR1")
        case "a schema":
            next(world.root.glob(f"hot/{TOPIC}/schema/*")).write_bytes(b"PAR1")
            events[0] = event(TOPIC, number=NUMBER, text=TEXT)
        case _:
            next(world.root.glob("_lake/compaction/part/*.commit.json")).write_text('{"format": 99}')
    placed = world.sink(*events).assign([(TOPIC, 0), (OTHER, 0)])
    assert placed[OTHER, 0] == 0
    assert isinstance(placed[TOPIC, 0], Halt)


def test_a_winner_that_cannot_be_read_halts_the_partition_that_lost_to_it(world):
    sink, mine, other, theirs = world.sink(), Window(), Window(), Window()
    sink.assign([(TOPIC, 0), (TOPIC, 1)])
    sink.step([fetch(mine, 0, 10), fetch(other, 0, 10, partition=1)])
    winner = world.sink()
    winner.assign([(TOPIC, 0)])
    winner.step([fetch(theirs, 0, 5)])
    winner.flush()
    world.files()[0].write_bytes(b"PAR1")
    halted, finished = sink.flush()
    assert "cannot be read as Parquet" in halted.halt.gap
    assert (halted.window, finished) == (mine, Finished(other, 10))


def test_records_of_a_partition_that_is_held_since_its_assignment_are_refused(world):
    sink = world.sink(undecodable(TOPIC))
    sink.assign([(TOPIC, 0)])
    with pytest.raises(Problem, match="before the lake knew where it goes on"):
        sink.step([fetch(Window(), 0, 1)])
