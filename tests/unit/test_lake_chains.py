"""Segments on a real folder, without Kafka: who publishes what, whoever else does, whenever anybody dies."""

import json
import resource
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow.parquet as pq
import pytest
from aiokafka.structs import ConsumerRecord
from descriptors import every_kind
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.problems import Problem, Unreachable
from connectors.schemas import EventType
from lake.chains import Chains, Fetch, Finished
from lake.segments import Limits
from lake.storage.local import LocalStorage

TOPIC = "part"
EVENT = EventType(TOPIC, "lake_test.v1.Part", "", every_kind().file.message_types_by_name["Part"])
Message = GetMessageClass(EVENT.descriptor)
BAD = b"\xff" * 9
LIMITS = Limits(segment_bytes=1 << 30, segment_age=60.0, memory_bytes=64 << 20)


@dataclass(eq=False)
class Window:
    live: bool = True
    finished: list[int] = field(default_factory=list)


@dataclass
class World:
    """One lake, any number of sinks on it, a clock and a topic that can be made anew."""

    root: object
    limits: Limits = LIMITS
    now: float = 1000.0
    epoch: str = "first-life"
    reachable: bool = True

    def sink(self):
        return Chains(LocalStorage(self.root), [EVENT], self.limits, self.identify, lambda: self.now)

    def identify(self, topics):
        if not self.reachable:
            raise Unreachable("Kafka is away")
        return dict.fromkeys(topics, self.epoch)

    def files(self, epoch=None):
        return sorted(self.root.glob(f"hot/{TOPIC}/{epoch or self.epoch}/*.parquet"))

    def rows(self):
        return [(row["_partition"], row["_offset"]) for path in self.files() for row in pq.read_table(path).to_pylist()]

    def scratch(self):
        return list(self.root.glob("spool/*/.*.tmp"))


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def record(offset, value=None, partition=0):
    payload = Message(number=offset).SerializeToString() if value is None else value
    return ConsumerRecord(TOPIC, partition, offset, 0, 0, b"", payload, None, 0, 0, ())


def fetch(window, start, end, records=None, partition=0):
    records = [record(offset, partition=partition) for offset in range(start, end)] if records is None else records
    return Fetch(window, TOPIC, partition, records, start, end, 1000 * len(records))


def metadata(path):
    return {name.decode(): value.decode() for name, value in pq.read_metadata(path).metadata.items()}


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


@contextmanager
def a_full_disk():
    """Files beyond a few bytes cannot be written."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("when", ["while rows are written", "at the footer", "at a record for quarantine"])
def test_after_a_full_disk_nothing_is_published_until_partitions_are_assigned_anew(world, when):
    sink, window = world.sink(), Window()
    sink.assign([(TOPIC, 0), (TOPIC, 1)])
    if when == "while rows are written":
        sink.limits = Limits(1 << 30, 60.0, memory_bytes=0)
    bad = [record(10, BAD)] * 10_000 if when == "at a record for quarantine" else None
    fetches = [fetch(window, 0, 10), fetch(window, 10, 11, bad)]
    if when == "at the footer":
        sink.step(fetches)
        world.now += 61.0
        fetches = []
    with a_full_disk(), pytest.raises(OSError, match="File too large"):
        sink.step(fetches)
    with pytest.raises(Problem, match="read again"):
        sink.step([fetch(window, 11, 20)])
    with pytest.raises(Problem, match="read again"):
        sink.flush()
    assert world.files() == []
    window.live = False
    assert sink.assign([(TOPIC, 0)]) == {(TOPIC, 0): 0}
    sink.step([fetch(Window(), 0, 20)])
    sink.flush()
    assert Counter(world.rows()) == Counter((0, offset) for offset in range(20))
    sink.close()
    assert world.scratch() == []


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


def test_memory_stays_at_half_its_bound_by_writing_row_groups_of_the_largest_segments(world):
    world.limits = Limits(segment_bytes=1 << 30, segment_age=1e9, memory_bytes=100_000)
    sink = world.sink()
    windows = [Window() for _ in range(4)]
    sink.assign([(TOPIC, partition) for partition in range(4)])
    for turn in range(5):
        sink.step([fetch(window, turn * 20, turn * 20 + 20, partition=i) for i, window in enumerate(windows)])
        assert sink.held <= 50_000
    assert {one.offset for one in sink.flush()} == {100}
    assert Counter(world.rows()) == Counter((partition, offset) for partition in range(4) for offset in range(100))


def test_markers_between_records_belong_to_a_segment_and_need_no_row(world):
    sink, window = world.sink(), Window()
    sink.assign([(TOPIC, 0)])
    sink.step([fetch(window, 0, 12, [record(1), record(5)]), fetch(window, 13, 15, [record(13)])])
    assert sink.flush() == [Finished(window, 15)]
    assert world.rows() == [(0, 1), (0, 5), (0, 13)]


def test_a_record_that_cannot_be_decoded_is_in_quarantine_before_its_segment_and_named_in_the_footer(world):
    created = []

    class Watched(LocalStorage):
        def create(self, source, key):
            created.append(key)
            return super().create(source, key)

    sink, window = Chains(Watched(world.root), [EVENT], world.limits, world.identify), Window()
    sink.assign([(TOPIC, 0)])
    sink.step([fetch(window, 0, 4, [record(0), record(1, BAD), record(2), record(3, BAD)])])
    sink.flush()
    assert created == [
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
    world.limits = Limits(1 << 30, 1e9, 1)
    sink.limits = world.limits  # everything goes to disk at once
    sink.step([fetch(window, 0, 10)])
    assert world.scratch()
    window.live = False
    sink.step([fetch(window, 10, 20)])
    assert not world.scratch()
    assert sink.flush() == []
    assert world.files() == []


def test_closing_leaves_no_scratch_file(world):
    sink = world.sink()
    sink.assign([(TOPIC, 0)])
    sink.limits = Limits(1 << 30, 1e9, 1)
    sink.step([fetch(Window(), 0, 10)])
    sink.close()
    assert not world.scratch()


def test_a_topic_made_anew_starts_a_chain_of_its_own_and_nothing_read_before_is_taken_for_it(world):
    sink, window = world.sink(), Window()
    sink.assign([(TOPIC, 0)])
    sink.step([fetch(window, 0, 10)])
    sink.flush()
    sink.step([fetch(window, 10, 20)])
    world.epoch = "second-life"
    world.now += 60.0
    with pytest.raises(Problem, match="was deleted and made anew"):
        sink.step([])
    assert world.sink().assign([(TOPIC, 0)]) == {(TOPIC, 0): 0}
    assert len(world.files("first-life")) == 1
    assert world.files("second-life") == []


def test_segments_wait_while_kafka_cannot_say_whether_the_topic_is_still_the_same(world):
    sink, window = world.sink(), Window()
    sink.assign([(TOPIC, 0)])
    sink.step([fetch(window, 0, 10)])
    world.now += 60.0
    world.reachable = False
    assert sink.step([fetch(window, 10, 12)]) == []
    with pytest.raises(Unreachable):
        sink.flush()
    world.reachable = True
    assert sink.step([]) == [Finished(window, 12)]


def test_records_of_a_partition_that_was_never_placed_are_refused(world):
    sink = world.sink()
    sink.assign([(TOPIC, 0)])
    with pytest.raises(Problem, match="before the lake knew where it goes on"):
        sink.step([fetch(Window(), 0, 1, partition=1)])


def test_a_segment_whose_footer_is_unreadable_stops_the_sink(world):
    sink, window = world.sink(), Window()
    sink.assign([(TOPIC, 0)])
    sink.step([fetch(window, 0, 10)])
    sink.flush()
    world.files()[0].write_bytes(b"PAR1")
    with pytest.raises(Problem, match="cannot be read as Parquet"):
        world.sink().assign([(TOPIC, 0)])


class Owner:
    """A sink that takes the partition when it likes and never learns that it lost it."""

    def __init__(self, world, log):
        self.world, self.log, self.sink, self.window, self.position = world, log, None, None, 0

    def assign(self, _=0):
        self.sink = self.sink or self.world.sink()
        if self.window:
            self.window.live = False
        self.window = Window()
        self.position = self.sink.assign([(TOPIC, 0)])[TOPIC, 0]

    def read(self, count):
        records = [one for one in self.log if one.offset >= self.position][:count]
        if self.sink and records:
            start, self.position = self.position, records[-1].offset + 1
            self.check(self.sink.step([fetch(self.window, start, self.position, records)]))

    def flush(self, _=0):
        if self.sink:
            self.check(self.sink.flush())

    def crash(self, _=0):
        self.sink = self.window = None

    def check(self, finished):
        end = self.world.sink().assign([(TOPIC, 0)])[TOPIC, 0]
        assert all(one.offset <= end for one in finished)


ACTIONS = st.tuples(st.integers(0, 2), st.sampled_from(["assign", "read", "read", "flush", "crash"]), st.integers(1, 9))
OFFSETS = st.integers(0, 60)


@given(st.lists(ACTIONS, max_size=30), st.sets(OFFSETS, max_size=20), st.sets(OFFSETS, max_size=4))
@settings(deadline=None, max_examples=40)
def test_every_offset_is_there_once_whoever_owns_the_partition_and_whoever_dies(tmp_path_factory, actions, gaps, bad):
    world = World(tmp_path_factory.mktemp("lake"))
    log = [record(offset, BAD if offset in bad else None) for offset in range(61) if offset not in gaps]
    owners = [Owner(world, log) for _ in range(3)]
    for owner, action, count in actions:
        getattr(owners[owner], action)(count)
    last = Owner(world, log)
    last.assign()
    last.read(100)
    last.flush()

    chain = [metadata(path) for path in world.files()]
    quarantined = [(0, offset) for known in chain for offset in json.loads(known["waybill.quarantined"])]
    assert sorted(world.rows() + quarantined) == [(0, one.offset) for one in log]
    assert [known["waybill.start"] for known in chain[1:]] == [known["waybill.next"] for known in chain[:-1]]
    kept = {path.name for path in world.root.glob(f"quarantine/{TOPIC}/first-life/*")}
    assert kept >= {f"00000-{offset:020d}.avro" for _, offset in quarantined}
