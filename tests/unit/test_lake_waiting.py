"""A storage that is away or full holds segments back: nothing is lost, and the lake goes on by itself."""

import errno
from collections import Counter
from pathlib import Path

import pytest
from lake_world import (
    BAD,
    EVENTS,
    OTHER,
    TOPIC,
    Moody,
    Window,
    World,
    a_full_disk,
    fetch,
    metadata,
    metric,
    once,
    record,
)
from structlog.testing import capture_logs

from connectors.problems import BadInput, Problem, Unreachable
from lake.hot.fetches import Finished
from lake.hot.spool import DamagedError
from lake.layout import prepare
from lake.segments import Limits


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def assigned(world, storage=None, partitions=1):
    sink = world.sink(storage=storage)
    sink.assign([(TOPIC, partition) for partition in range(partitions)])
    return sink


@pytest.mark.parametrize("when", ["while rows are written", "at the footer", "at a record for quarantine"])
def test_a_full_disk_costs_no_record_and_the_sink_goes_on_when_there_is_room(world, when):
    sink, window = assigned(world), Window()
    if when == "while rows are written":
        sink.limits = Limits(1 << 30, 60.0, memory_bytes=15_000)
    first = [record(offset, BAD if when == "at a record for quarantine" else None) for offset in range(10)]
    with a_full_disk(), capture_logs() as lines:
        assert sink.step([fetch(window, 0, 10, first)]) == []
        world.now += 60.0
        assert sink.step([fetch(window, 10, 20)]) == []
        assert sink.step([fetch(window, 20, 30)]) == []
        assert world.files() == []
    told = [line["event"] for line in lines if line["log_level"] == "error"]
    assert {*told} == {"The lake's storage takes nothing: what is due waits, and reading stops when memory is full."}
    world.now += 30.0
    assert sink.step([])
    sink.flush()
    assert Counter(world.rows() + [(0, offset) for offset in world.quarantined()]) == once(range(30))
    assert world.scratch() == []


def test_a_scratch_file_that_the_disk_has_lost_is_not_published_but_read_again(world, monkeypatch):
    def lose(_):
        raise OSError("I/O error")

    sink, window = assigned(world), Window()
    sink.step([fetch(window, 0, 10)])
    monkeypatch.setattr("os.fsync", lose)
    with pytest.raises(DamagedError, match="was lost on its way to the disk"):
        sink.flush()
    monkeypatch.undo()
    for again in (sink.flush, lambda: sink.step([fetch(window, 10, 20)])):
        with pytest.raises(Problem, match="is read again"):
            again()
    assert world.files() == []
    window.live = False
    assert sink.assign([(TOPIC, 0)]) == {(TOPIC, 0): 0}
    sink.step([fetch(Window(), 0, 20)])
    sink.flush()
    assert Counter(world.rows()) == once(range(20))


def test_a_storage_that_is_away_is_tried_again_ever_more_rarely_and_told_of_once_a_minute(world):
    storage, window, tried = Moody(world.root), Window(), []
    sink = assigned(world, storage)
    sink.step([fetch(window, 0, 10)])
    world.now += 60.0
    storage.away, began = True, world.now
    storage.create = lambda source, key: tried.append(world.now) or Moody.create(storage, source, key)
    with capture_logs() as lines:
        for _ in range(200):
            assert sink.step([]) == []
            world.now += 1.0
    assert [at - began for at in tried] == [0, 1, 3, 7, 15, 31, 61, 91, 121, 151, 181]
    alarms = [line for line in lines if line["log_level"] == "error"]
    assert [(line["error"], line["seconds"]) for line in alarms] == [
        ("the bucket does not answer", seconds) for seconds in (0, 61, 121, 181)
    ]
    assert all("the lake goes on by itself" in line["what_to_do"] for line in alarms)
    assert "does not answer" in sink.waits
    assert metric("waybill_lake_due_segments") == 1
    assert metric("waybill_lake_storage_away_seconds") > 190

    storage.away = False
    world.now += 30.0
    assert sink.step([]) == [Finished(window, 10)]
    assert sink.waits is None
    assert (metric("waybill_lake_due_segments"), metric("waybill_lake_storage_away_seconds")) == (0, 0)


def test_what_arrives_behind_a_closed_segment_counts_as_memory_and_is_the_next_one(world):
    storage, window = Moody(world.root), Window()
    sink = assigned(world, storage)
    sink.step([fetch(window, 0, 10)])
    world.now += 60.0
    storage.away = True
    for at in range(10, 50, 10):
        assert sink.step([fetch(window, at, at + 10)]) == []
    assert sink.held >= 30_000
    storage.away = False
    world.now += 1.0
    assert sink.step([]) == [Finished(window, 20)]
    assert sink.flush() == [Finished(window, 50)]
    assert Counter(world.rows()) == once(range(50))
    assert sink.held == 0


def test_what_arrived_behind_a_segment_that_lost_its_race_begins_where_the_winner_ends(world):
    storage, mine, theirs = Moody(world.root), Window(), Window()
    sink, winner = assigned(world, storage), assigned(world)
    sink.step([fetch(mine, 0, 10)])
    storage.away = True
    assert sink.flush() == []
    sink.step([fetch(mine, 10, 20), fetch(mine, 20, 30)])
    winner.step([fetch(theirs, 0, 25)])
    winner.flush()
    storage.away = False
    assert sink.flush() == [Finished(mine, 25), Finished(mine, 20)]
    sink.flush()
    assert Counter(world.rows()) == once(range(30))


def test_a_published_segment_whose_answer_was_lost_is_our_own(world):
    storage, window = Moody(world.root), Window()
    sink = assigned(world, storage)
    sink.step([fetch(window, 0, 10, [record(offset, BAD if offset == 3 else None) for offset in range(10)])])
    storage.answers_lost = True
    names = ("waybill_lake_lost_races_total", "waybill_lake_rows_total", "waybill_lake_quarantined_total")
    before = [metric(name, topic=TOPIC) for name in names]
    assert sink.flush() == []
    assert (len(world.quarantined()), len(world.files())) == (1, 0)
    assert sink.held > 0
    assert sink.flush() == []
    assert (len(world.quarantined()), len(world.files())) == (1, 1)
    assert sink.held == 0, "nothing but the answer is missing"
    assert sink.flush() == [Finished(window, 10)]
    assert len(world.files()) == 1
    assert [metric(name, topic=TOPIC) - old for name, old in zip(names, before, strict=True)] == [0, 9, 0]


def test_segments_published_before_the_storage_went_away_are_finished(world):
    storage = Moody(world.root)
    sink, windows = assigned(world, storage, 3), [Window() for _ in range(3)]
    sink.step([fetch(window, 0, 10, partition=i) for i, window in enumerate(windows)])
    create = storage.create

    def once_more(source, key):
        done = create(source, key)
        storage.away = True
        return done

    storage.create = once_more
    world.now += 60.0
    assert sink.step([]) == [Finished(windows[0], 10)]
    storage.away = False
    storage.create = create
    world.now += 1.0
    assert sink.step([]) == [Finished(windows[2], 10), Finished(windows[1], 10)], "who failed comes last"


def test_no_segment_of_a_sink_is_closed_for_memory_that_waits_for_the_storage(world):
    world.limits = Limits(segment_bytes=1 << 30, segment_age=60.0, memory_bytes=100_000)
    storage, old, young = Moody(world.root), Window(), Window()
    sink = assigned(world, storage, 2)
    sink.step([fetch(old, 0, 10)])
    world.now += 60.0
    storage.away = True
    sink.step([fetch(young, 0, 10, partition=1)])
    for at in range(10, 100, 10):
        sink.step([fetch(old, at, at + 10)])
    assert sink.held > 80_000
    storage.away = False
    world.now += 30.0
    assert sink.step([]) == [Finished(old, 10)]
    assert [metadata(path)["waybill.next"] for path in world.files()] == ["10"]


def test_segments_wait_while_kafka_cannot_say_whether_the_topic_is_still_the_same(world):
    sink, window = assigned(world), Window()
    sink.step([fetch(window, 0, 10)])
    world.now += 60.0
    world.reachable = False
    assert sink.step([fetch(window, 10, 12)]) == []
    assert sink.flush() == []
    assert world.files() == []
    world.reachable = True
    world.now += 2.0
    assert sink.step([]) == [Finished(window, 12)]


def test_an_assignment_is_asked_again_while_the_storage_or_kafka_is_away(world):
    storage = Moody(world.root)
    sink = world.sink(storage=storage)
    storage.away = True
    with pytest.raises(Unreachable, match="does not say where the lake ends: the bucket does not answer"):
        sink.assign([(TOPIC, 0)])
    assert sink.waits
    storage.away, world.reachable = False, False
    with pytest.raises(Unreachable, match="Kafka is away"):
        sink.assign([(TOPIC, 0)])
    world.reachable = True
    assert sink.assign([(TOPIC, 0)]) == {(TOPIC, 0): 0}
    assert sink.waits is None


def test_a_storage_that_refuses_one_topic_takes_all_others(world):
    class Unfair(Moody):
        def create(self, source, key):
            if f"/{TOPIC}/" in key:
                raise BadInput("access is denied")
            return super().create(source, key)

    storage, refused, taken = Unfair(world.root), Window(), Window()
    world.sink().assign([(TOPIC, 0), (OTHER, 0)])  # which leaves the columns
    sink = world.sink(storage=storage)
    sink.assign([(TOPIC, 0), (OTHER, 0)])
    sink.step([fetch(refused, 0, 10), fetch(taken, 0, 10, topic=OTHER)])
    world.now += 60.0
    answers = []
    for _ in range(40):
        answers += sink.step([])
        world.now += 1.0
    assert answers == [Finished(taken, 10)]


def test_a_sink_starts_when_its_storage_is_there(world, monkeypatch):
    storage = Moody(world.root)
    storage.away = True
    with pytest.raises(Unreachable):
        prepare(storage, EVENTS)
    storage.away = False
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(Unreachable, match="No space left"):
            prepare(storage, EVENTS)
    prepare(storage, EVENTS)
    assert storage.keys(f"hot/{TOPIC}/schema")


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")
