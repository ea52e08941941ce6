"""Segments on a real folder, without Kafka: who publishes what, whoever else does, whenever anybody dies."""

import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from lake_world import (
    BAD,
    NUMBER,
    TEXT,
    TOPIC,
    Moody,
    Window,
    World,
    event,
    fetch,
    metadata,
    metric,
    once,
    record,
)
from structlog.testing import capture_logs

from connectors.problems import Problem
from lake.hot.chains import FENCE
from lake.hot.fetches import Finished, Halted
from lake.main import compaction
from lake.segments import Limits
from lake.storage import create_bytes
from lake.storage.local import LocalStorage


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_a_segment_is_published_with_its_footer_and_only_then_finished(world):
    sink, window = world.sink(), Window()
    assert sink.assign([(TOPIC, 0)]) == {(TOPIC, 0): 0}
    assert sink.step([fetch(window, 0, 10)]) == []
    assert sink.flush() == [Finished(window, 10)]
    (path,) = world.files()
    assert path.name == "00000-00000000000000000000.parquet"
    known = metadata(path)
    assert (known["waybill.start"], known["waybill.next"], known["waybill.rows"]) == ("0", "10", "10")
    assert known["waybill.topic_id"] == "first-life"
    assert world.sink().assign([(TOPIC, 0), (TOPIC, 1)]) == {(TOPIC, 0): 10, (TOPIC, 1): 0}


def test_a_segment_is_closed_at_its_age_without_any_traffic(world):
    sink, window = world.sink(), Window()
    sink.assign([(TOPIC, 0)])
    sink.step([fetch(window, 0, 3)])
    world.now += 59.0
    assert sink.step([]) == []
    world.now += 1.0
    assert sink.step([]) == [Finished(window, 3)]
    assert sink.step([]) == []


def test_a_segment_is_closed_at_its_size(world):
    world.limits = Limits(segment_bytes=10_000, segment_age=1e9, memory_bytes=64 << 20)
    sink, window = world.sink(), Window()
    sink.assign([(TOPIC, 0)])
    assert sink.step([fetch(window, 0, 10)]) == []
    assert sink.step([fetch(window, 10, 40)]) == [Finished(window, 40)]


def test_memory_stays_well_below_its_bound_by_writing_row_groups_of_the_largest_segments(world):
    world.limits = Limits(segment_bytes=1 << 30, segment_age=1e9, memory_bytes=100_000)
    sink = world.sink()
    windows = [Window() for _ in range(4)]
    sink.assign([(TOPIC, partition) for partition in range(4)])
    for turn in range(5):
        sink.step([fetch(window, turn * 20, turn * 20 + 20, partition=i) for i, window in enumerate(windows)])
        assert sink.held <= 62_500
    assert {one.offset for one in sink.flush()} == {100}
    assert Counter(world.rows()) == Counter((partition, offset) for partition in range(4) for offset in range(100))


def test_segments_whose_row_groups_take_too_much_memory_are_published_early(world):
    world.limits = Limits(segment_bytes=1 << 30, segment_age=1e9, memory_bytes=100_000)
    sink, window = world.sink(), Window()
    sink.assign([(TOPIC, 0)])
    for at in range(0, 2000, 40):
        sink.step([fetch(window, at, at + 40)])
        assert sink.held <= 62_500
    assert len(world.files()) > 1
    sink.flush()
    assert Counter(world.rows()) == Counter((0, offset) for offset in range(2000))


def test_markers_between_records_belong_to_a_segment_and_need_no_row(world):
    sink, window = world.sink(), Window()
    sink.assign([(TOPIC, 0)])
    sink.step([fetch(window, 0, 12, [record(1), record(5)]), fetch(window, 13, 15, [record(13)])])
    assert sink.flush() == [Finished(window, 15)]
    assert world.rows() == [(0, 1), (0, 5), (0, 13)]


def test_a_record_that_cannot_be_decoded_is_in_quarantine_before_its_segment_and_named_in_the_footer(world):
    storage, window = Moody(world.root), Window()
    sink = world.sink(storage=storage)
    sink.assign([(TOPIC, 0)])
    storage.created.clear()
    sink.step([fetch(window, 0, 4, [record(0), record(1, BAD), record(2), record(3, BAD)])])
    sink.flush()
    assert storage.created == [
        f"quarantine/{TOPIC}/first-life/00000-00000000000000000001.avro",
        f"quarantine/{TOPIC}/first-life/00000-00000000000000000003.avro",
        f"hot/{TOPIC}/first-life/00000-00000000000000000000.parquet",
    ]
    known = metadata(*world.files())
    assert json.loads(known["waybill.quarantined"]) == [1, 3]
    assert world.rows() == [(0, 0), (0, 2)]


def test_a_chain_goes_on_over_a_stretch_of_nothing_but_bad_records(world):
    sink, window = world.sink(), Window()
    sink.assign([(TOPIC, 0)])
    sink.step([fetch(window, 0, 3, [record(i, BAD) for i in range(3)])])
    assert sink.flush() == [Finished(window, 3)]
    assert metadata(*world.files())["waybill.rows"] == "0"
    assert world.sink().assign([(TOPIC, 0)]) == {(TOPIC, 0): 3}


@pytest.mark.parametrize(("ours", "files"), [(8, [10]), (10, [10]), (14, [10, 14])])
def test_whoever_loses_a_race_goes_on_after_the_winner_and_nothing_is_there_twice(world, ours, files):
    winner, loser = world.sink(), world.sink()
    mine, theirs = Window(), Window()
    for sink in (winner, loser):
        sink.assign([(TOPIC, 0)])
    loser.step([fetch(mine, 0, ours, [record(i, BAD if i in {9, 12} else None) for i in range(ours)])])
    winner.step([fetch(theirs, 0, 10)])
    winner.flush()
    assert loser.flush() == [Finished(mine, 10)]
    loser.flush()
    assert [int(metadata(path)["waybill.next"]) for path in world.files()] == files
    assert world.rows() == [(0, offset) for offset in range(files[-1]) if offset != 12]
    assert json.loads(metadata(world.files()[-1])["waybill.quarantined"]) == ([12] if ours == 14 else [])
    # What comes next may begin below the winner's end.
    loser.step([fetch(mine, ours, 20)])
    assert loser.flush() == [Finished(mine, 20)]
    assert world.rows() == [(0, offset) for offset in range(20) if offset != 12 or ours < 13]


def test_a_fetch_wholly_below_the_end_of_the_chain_is_finished_at_once(world):
    first, second, window = world.sink(), world.sink(), Window()
    first.assign([(TOPIC, 0)])
    first.step([fetch(window, 0, 10)])
    first.flush()
    second.assign([(TOPIC, 0)])
    again = Window()
    assert second.step([fetch(again, 0, 6)]) == [Finished(again, 6)]
    assert second.flush() == []


def test_segments_of_an_assignment_that_is_over_are_dropped_with_their_files(world):
    sink, window = world.sink(), Window()
    sink.assign([(TOPIC, 0)])
    sink.limits = Limits(1 << 30, 1e9, 240_000)  # so much goes to disk at once
    sink.step([fetch(window, 0, 130)])
    assert world.scratch()
    window.live = False
    sink.step([fetch(window, 130, 140)])
    assert not world.scratch()
    assert sink.flush() == []
    assert world.files() == []


def test_closing_leaves_no_scratch_file(world):
    sink = world.sink()
    sink.assign([(TOPIC, 0)])
    sink.limits = Limits(1 << 30, 1e9, 240_000)
    sink.step([fetch(Window(), 0, 130)])
    assert world.scratch()
    sink.close()
    assert not world.scratch()


def test_records_of_a_partition_that_was_never_placed_are_refused(world):
    sink = world.sink()
    sink.assign([(TOPIC, 0)])
    with pytest.raises(Problem, match="before the lake knew where it goes on"):
        sink.step([fetch(Window(), 0, 1, partition=1)])


def published(reason):
    return metric("waybill_lake_files_total", topic=TOPIC, reason=reason)


@pytest.mark.parametrize("reason", ["size", "age", "memory", "revoke", "shutdown"])
def test_each_published_segment_is_told_and_counted_with_the_reason_for_it(world, reason):
    world.limits = Limits(10_000 if reason == "size" else 1 << 30, 60.0, memory_bytes=100_000)
    sink, window, before = world.sink(), Window(), published(reason)
    sink.assign([(TOPIC, 0)])
    with capture_logs() as lines:
        match reason:
            case "size":
                sink.step([fetch(window, 0, 40)])
            case "age":
                sink.step([fetch(window, 0, 3)])
                world.now += 60.0
                sink.step([])
            case "memory":
                sink.step([fetch(window, 0, 6, [record(offset, BAD * 1500) for offset in range(6)])])
            case _:
                sink.step([fetch(window, 0, 3)])
                sink.flush(reason)
    assert len(world.files()) == 1
    assert published(reason) == before + 1
    assert [line["reason"] for line in lines if line["event"] == "A segment is published."] == [reason]


def test_memory_that_no_row_group_can_free_is_freed_by_publishing_the_largest_segment(world):
    world.limits = Limits(segment_bytes=1 << 30, segment_age=1e9, memory_bytes=200_000)
    sink, large, small = world.sink(), Window(), Window()
    sink.assign([(TOPIC, 0), (TOPIC, 1)])
    assert sink.step([fetch(small, 0, 3, [record(i, BAD * 1000, 1) for i in range(3)], 1)]) == []
    assert sink.held > 9_000 * 3
    bad = [record(offset, BAD * 1000) for offset in range(12)]
    assert sink.step([fetch(large, 0, 12, bad)]) == [Finished(large, 12)]
    assert sink.step([]) == []
    assert sink.held < 100_000
    assert world.quarantined() == list(range(12))


def test_a_new_schema_begins_with_the_next_segment_and_both_are_read_together(world):
    for at, fields in enumerate(({"number": NUMBER}, {"number": NUMBER, "text": TEXT})):
        sink, window = world.sink(event(**fields)), Window()
        assert sink.assign([(TOPIC, 0)]) == {(TOPIC, 0): 10 * at}
        sink.step([fetch(window, 10 * at, 10 * at + 10)])
        sink.flush()
    old, new = (pq.read_table(path) for path in world.files())
    assert ("text" in old.column_names, "text" in new.column_names) == (False, True)
    assert len({metadata(path)["waybill.schema"] for path in world.files()}) == 2
    both = pa.concat_tables([old, new], promote_options="default")
    assert both["number"].to_pylist() == list(range(20))


def test_a_segment_that_is_dropped_leaves_nothing_in_quarantine(world):
    world.limits = Limits(1 << 30, 60.0, memory_bytes=240_000)
    sink, window = world.sink(), Window()
    sink.assign([(TOPIC, 0)])
    sink.step([fetch(window, 0, 130, [record(offset, BAD if offset < 3 else None) for offset in range(130)])])
    assert world.scratch(), "all was decoded"
    window.live = False
    sink.step([])
    sink.flush()
    assert not list(world.root.glob("quarantine/**/*.avro"))


# -- chains that were compacted


def test_a_chain_whose_segments_were_compacted_and_removed_goes_on_at_the_watermark(world):
    sink, window = world.sink(), Window()
    sink.assign([(TOPIC, 0)])
    for at in range(0, 30, 10):
        sink.step([fetch(window, at, at + 10)])
        sink.flush()
    world.compact(1, 20)
    assert world.sink().assign([(TOPIC, 0), (TOPIC, 1)]) == {(TOPIC, 0): 30, (TOPIC, 1): 0}
    left = world.files()[0]
    world.compact(2, 40)
    assert world.sink().assign([(TOPIC, 0), (TOPIC, 1)]) == {(TOPIC, 0): 40, (TOPIC, 1): 0}, "the newest is gone"
    left.unlink()
    assert world.sink().assign([(TOPIC, 0), (TOPIC, 1)]) == {(TOPIC, 0): 40, (TOPIC, 1): 0}
    world.lives[TOPIC] = "second-life"
    assert world.sink().assign([(TOPIC, 0)]) == {(TOPIC, 0): 0}


@pytest.mark.parametrize("ours", [8, 25])
def test_a_sink_that_slept_until_its_segments_name_was_free_again_publishes_nothing_twice(world, ours):
    sleeper, mine = world.sink(), Window()
    sleeper.assign([(TOPIC, 0)])
    sleeper.step([fetch(mine, 0, ours)])
    awake, theirs = world.sink(), Window()
    awake.assign([(TOPIC, 0)])
    for at in range(0, 20, 10):
        awake.step([fetch(theirs, at, at + 10)])
        awake.flush()
    world.compact(1, 20)
    assert [metadata(path)["waybill.start"] for path in world.files()] == ["10"]
    world.now += FENCE
    assert sleeper.step([]) == [Finished(mine, 20)]
    sleeper.flush()
    assert Counter(world.rows()) == once(range(10, max(ours, 20)))


def test_a_sink_that_slept_between_its_last_look_and_publishing_does_not_go_on_inside_the_chain(world):
    class Sleepy(Moody):
        asleep = True

        def create(self, source, key):
            if self.asleep and key.startswith("hot/part/first"):
                self.asleep = False
                awake, window = world.sink(), Window()
                awake.assign([(TOPIC, 0)])
                for at in range(0, 20, 10):
                    awake.step([fetch(window, at, at + 10)])
                    awake.flush()
                world.compact(1, 20)
                world.now += FENCE
            return super().create(source, key)

    sleeper, mine = world.sink(storage=Sleepy(world.root)), Window()
    sleeper.assign([(TOPIC, 0)])
    sleeper.step([fetch(mine, 0, 15)])
    assert sleeper.flush() == [Finished(mine, 20)]
    sleeper.step([fetch(mine, 15, 25)])
    sleeper.flush()
    above = [row for row in world.rows() if row[1] >= 20]
    assert above == [(0, offset) for offset in range(20, 25)], "below the watermark nobody reads it"


def test_a_segment_that_nobody_overtook_is_published_however_late(world):
    sink, window = world.sink(), Window()
    sink.assign([(TOPIC, 0)])
    world.now += 10 * FENCE
    sink.step([fetch(window, 0, 10)])
    world.now += 10 * FENCE
    assert sink.step([]) == [Finished(window, 10)]
    assert world.rows() == [(0, offset) for offset in range(10)]


# -- anything, in any order


class Owner:
    """A sink that takes the partition when it likes and never learns that it lost it."""

    def __init__(self, world, log):
        self.world, self.log, self.window, self.position = world, log, None, 0
        self.storage = self.sink = None

    def assign(self, _=0):
        if self.sink is None:
            self.storage = Moody(self.world.root)
            self.sink = self.world.sink(storage=self.storage)
        if self.window:
            self.window.live = False
        self.window = Window()
        self.storage.away = self.storage.answers_lost = False
        self.position = self.sink.assign([(TOPIC, 0)])[TOPIC, 0]

    def read(self, count):
        records = [one for one in self.log if one.offset >= self.position][:count]
        if self.sink and records:
            start, self.position = self.position, records[-1].offset + 1
            self.check(self.sink.step([fetch(self.window, start, self.position, records)]))

    def flush(self, _=0):
        if self.sink:
            self.check(self.sink.flush())

    def mood(self, count):
        """Its storage is away, loses its answers, or is well."""
        if self.sink:
            self.storage.away, self.storage.answers_lost = count % 3 == 1, count % 3 == 2

    def outage(self, count):
        """In which something is due and more arrives."""
        if self.sink:
            self.storage.away = True
            self.flush()
            self.read(count)
            self.storage.away = False

    def crash(self, _=0):
        self.sink = self.window = None

    def check(self, answers):
        assert not any(isinstance(answer, Halted) for answer in answers)
        newest = self.world.files()[-1:]
        assert all(one.offset <= int(metadata(path)["waybill.next"]) for one in answers for path in newest)
        assert newest or not answers


class Compactor:
    """Moves what the chain has to ``main`` when it is told to, and deletes it an hour later."""

    def __init__(self, world):
        self.world, self.main, self.steps, self.watermark = world, [], 0, 0

    def compact(self, _=0):
        for path in self.world.files():
            known = metadata(path)
            if int(known["waybill.start"]) == self.watermark:
                self.main += self.content(path)
                self.watermark = int(known["waybill.next"])
        self.steps += 1
        commit = compaction.Commit(TOPIC, self.steps, watermarks={("first-life", 0): self.watermark})
        key = compaction.commit_key(TOPIC, self.steps)
        create_bytes(LocalStorage(self.world.root), key, compaction.encode_commit(commit))

    def hour(self, _=0):
        """Passes, and what was compacted before is deleted, but for the newest."""
        self.world.now += 3600.0
        for path in self.world.files()[:-1]:
            if int(metadata(path)["waybill.start"]) < self.watermark:
                path.unlink()

    def seen(self):
        """What readers see, as offsets."""
        above = [path for path in self.world.files() if int(path.stem[6:]) >= self.watermark]
        return sorted(self.main + [offset for path in above for offset in self.content(path)])

    @staticmethod
    def content(path):
        rows = [row["_offset"] for row in pq.read_table(path, columns=["_offset"]).to_pylist()]
        return rows + json.loads(metadata(path)["waybill.quarantined"])


OWNER = st.sampled_from(["read", "read", "read", "flush", "flush", "mood", "outage", "assign", "crash"])
WORK = st.tuples(st.sampled_from([0, 0, 0, 1]), OWNER, st.integers(1, 9))
ACTIONS = WORK | WORK | WORK | st.tuples(st.just(2), st.sampled_from(["compact", "hour"]), st.just(0))
END = 200
OFFSETS = st.integers(0, END)


@given(st.lists(ACTIONS, min_size=20, max_size=60), st.sets(OFFSETS, max_size=20), st.sets(OFFSETS, max_size=4))
@settings(deadline=None, max_examples=examples(50))
def test_every_offset_is_there_once_whoever_owns_the_partition_and_whoever_dies(tmp_path_factory, actions, gaps, bad):
    world = World(tmp_path_factory.mktemp("lake"))
    log = [record(offset, BAD if offset in bad else None) for offset in range(END + 1) if offset not in gaps]
    compactor = Compactor(world)
    actors = [Owner(world, log), Owner(world, log), compactor]
    actors[0].assign()
    actors[1].assign()
    for actor, action, count in actions:
        getattr(actors[actor], action)(count)
    last = Owner(world, log)
    last.assign()
    last.read(END + 1)
    last.flush()

    assert compactor.seen() == [one.offset for one in log]
    above = [path for path in world.files() if int(path.stem[6:]) >= compactor.watermark]
    chain = [metadata(path) for path in above]
    assert [known["waybill.start"] for known in chain[1:]] == [known["waybill.next"] for known in chain[:-1]]
    kept = set(world.quarantined())
    assert kept >= {offset for known in chain for offset in json.loads(known["waybill.quarantined"])}
