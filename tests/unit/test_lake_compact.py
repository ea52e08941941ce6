"""The compactor on a real folder: whoever takes part, and whenever anybody dies, every row is in main/ once."""

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from pathlib import Path
from random import Random

import payloads
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from descriptors import every_kind
from effort import examples
from google.protobuf.message_factory import GetMessageClass
from lake_world import NUMBER, TEXT, event
from whole_lake import BAD, WholeLake

from connectors.kafka.reader import Record
from connectors.problems import BadInput, Unreachable
from connectors.schemas import EventType
from lake import layout
from lake.main import compact, compaction, merge
from lake.main.compact import Policy
from lake.reading import reader_files, snapshot
from lake.storage.local import LocalStorage

TOPIC = "part"
OLD, NEW = event(number=NUMBER), event(number=NUMBER, text=TEXT)
POLICY = Policy(file_bytes=1 << 30, age=86_400, retention=86_400)
MORNING = datetime(2026, 11, 28, 6, tzinfo=UTC)
DAY = timedelta(days=1)


def record(offset, *, partition=0, kafka=MORNING, own=None, value=None, described=OLD):
    """An event whose own time is ``own``, in Kafka since ``kafka``."""
    fields = {"number": offset} | ({"text": f"number {offset}"} if described is NEW else {})
    payload = GetMessageClass(described.descriptor)(**fields).SerializeToString() if value is None else value
    headers = (("ce_id", b"%d/%d" % (partition, offset)),)
    if own:
        headers += (("ce_time", own.isoformat().encode()),)
    return Record(TOPIC, partition, offset, int(kafka.timestamp() * 1000), b"key", payload, headers)


def lake(root, described=OLD, epoch="first-life"):
    storage = LocalStorage(root)
    layout.prepare(storage, [described])
    return WholeLake(storage, described, epoch)


def fill(root):
    """Two lives of a topic, two schemas, several partitions, late events, bad ones, gaps and a segment without rows."""
    first = lake(root)
    for start in (0, 10, 20):
        records = [record(at, own=MORNING - DAY * (at % 3), kafka=MORNING) for at in range(start, start + 10)]
        first.write((0, start + 10, records))
    first.write((1, 4, [record(at, partition=1, value=BAD) for at in range(4)]))
    first.write((1, 9, [record(at, partition=1, value=BAD if at == 5 else None) for at in (4, 5, 7)]))
    second = lake(root, NEW, "second-life")
    second.write((0, 6, [record(at, own=MORNING + timedelta(seconds=-at), described=NEW) for at in range(6)]))


def rows(root, folder):
    """By epoch, partition and offset.  Fails if one is there twice."""
    found = {}
    for path in sorted(root.glob(f"{folder}/{TOPIC}/*/*.parquet")):
        for row in pq.ParquetFile(path).read().to_pylist():
            place = row["_epoch"], row["_partition"], row["_offset"]
            assert place not in found
            found[place] = {name: value for name, value in row.items() if value is not None}
    return found


def dated(root):
    """The places of each date's rows, in their order."""
    found = {}
    for path in sorted(root.glob(f"main/{TOPIC}/*/*.parquet")):
        table = pq.ParquetFile(path).read(["_epoch", "_partition", "_offset"])
        found.setdefault(path.parent.name, []).extend(tuple(row.values()) for row in table.to_pylist())
    return {name: places for name, places in found.items() if places}


def fresh(root):
    """What readers are told to read: the watermark first, then main/ below it and hot segments from it."""
    marks = compaction.newest(LocalStorage(root), TOPIC).watermarks
    hot = {place: row for place, row in rows(root, "hot").items() if place[2] >= marks.get(place[:2], 0)}
    main = {place: row for place, row in rows(root, "main").items() if place[2] < marks.get(place[:2], 0)}
    assert not hot.keys() & main.keys()
    return hot | main


def run(storage, *, everything=True, now=MORNING, policy=POLICY):
    [report] = compact.run(storage, [TOPIC], policy, everything=everything, clock=lambda: now)
    return report


class Watched(LocalStorage):
    """Calls ``before`` with the number of each operation."""

    def __init__(self, root, before):
        super().__init__(root)
        self._numbers, self._before = count(), before

    def create(self, source, key):
        self._before(next(self._numbers))
        return super().create(source, key)

    def replace(self, source, key):
        self._before(next(self._numbers))
        super().replace(source, key)

    def delete(self, key):
        self._before(next(self._numbers))
        super().delete(key)

    def keys(self, prefix):
        self._before(next(self._numbers))
        return super().keys(prefix)

    def sizes(self, prefix):
        self._before(next(self._numbers))
        return super().sizes(prefix)

    def open(self, key):
        self._before(next(self._numbers))
        return super().open(key)


class Killed(BaseException):
    pass


@dataclass
class Scene:
    """A lake to be compacted, and how it must look when that is done."""

    root: Path
    truth: dict
    result: dict
    operations: int

    def again(self, name):
        return shutil.copytree(self.root, self.root.with_name(str(name)))


def compacted(storage):
    """Compact and, two days later, clean."""
    return run(storage).problems + run(storage, now=MORNING + 2 * DAY).problems


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    root = tmp_path_factory.mktemp("scene") / "lake"
    fill(root)
    scene, seen = Scene(root, rows(root, "hot"), {}, 0), []
    whole = scene.again("whole")
    assert compacted(Watched(whole, seen.append)) == []
    assert rows(whole, "main") == scene.truth
    return replace(scene, result=dated(whole), operations=len(seen))


def test_every_row_goes_as_it_is_to_a_file_of_its_events_date(tmp_path):
    fill(tmp_path)
    before = rows(tmp_path, "hot")
    assert len(before) == 30 + 2 + 6

    report = run(LocalStorage(tmp_path))
    assert rows(tmp_path, "main") == before
    assert (report.steps, report.segments, report.rows, report.files, report.problems) == (1, 6, 38, 3, [])
    for name, places in dated(tmp_path).items():
        times = [before[place].get("_time") or before[place]["_timestamp"] for place in places]
        assert {f"dt={time.astimezone(UTC).date()}" for time in times} == {name}
        keys = list(zip(times, places, strict=True))
        assert keys == sorted(keys)


def test_late_events_go_to_their_own_date_and_files_that_were_there_stay_as_they_are(tmp_path):
    storage = LocalStorage(tmp_path)
    one = lake(tmp_path)
    one.write((0, 3, [record(at, own=MORNING) for at in range(3)]))
    run(storage)
    before = {path: path.read_bytes() for path in tmp_path.glob(f"main/{TOPIC}/dt=2026*/*")}
    one.write((0, 6, [record(at, own=MORNING if at != 4 else MORNING - 30 * DAY, kafka=MORNING) for at in (3, 4, 5)]))
    run(storage)

    assert {path: path.read_bytes() for path in before} == before
    places = [("first-life", 0, at) for at in range(6)]
    assert dated(tmp_path) == {"dt=2026-10-29": [places[4]], "dt=2026-11-28": [*places[:4], places[5]]}


def test_events_without_a_time_of_their_own_go_by_kafkas_and_without_that_to_1970(tmp_path):
    nowhere = replace(record(2), timestamp=-1)
    lake(tmp_path).write((0, 3, [record(0, own=MORNING), record(1, kafka=MORNING - DAY), nowhere]))
    run(LocalStorage(tmp_path))

    assert {name: [place[2] for place in places] for name, places in dated(tmp_path).items()} == {
        "dt=1970-01-01": [2],
        "dt=2026-11-27": [1],
        "dt=2026-11-28": [0],
    }


def test_segments_without_rows_move_the_watermark_and_make_no_file(tmp_path):
    lake(tmp_path).write((0, 3, [record(at, value=BAD) for at in range(3)]))
    assert run(LocalStorage(tmp_path)).files == 0

    commit = compaction.newest(LocalStorage(tmp_path), TOPIC)
    assert (commit.outputs, commit.watermarks) == ((), {("first-life", 0): 3})
    assert compaction.read_intent(LocalStorage(tmp_path), TOPIC, 1).inputs[0].quarantined == (0, 1, 2)


def test_columns_that_older_segments_lack_are_null_there(tmp_path):
    lake(tmp_path).write((0, 2, [record(0), record(1)]))
    lake(tmp_path, NEW).write((0, 4, [record(2, described=NEW), record(3, described=NEW)]))
    run(LocalStorage(tmp_path))

    [path] = tmp_path.glob(f"main/{TOPIC}/dt=2026*/*")
    table = pq.ParquetFile(path).read()
    assert table["text"].to_pylist() == [None, None, "number 2", "number 3"]
    assert table["number"].to_pylist() == [0, 1, 2, 3]


EVERY = EventType(TOPIC, "lake_test.v1.EveryKind", "", every_kind())


@pytest.mark.parametrize(
    "limits", [{}, {"GROUP_BYTES": 3000}, {"GROUP_BYTES": 3000, "HELD_BYTES": 10_000, "BATCH_BYTES": 4000}]
)
def test_every_type_comes_back_equal_wherever_its_rows_wait_meanwhile(tmp_path, monkeypatch, limits):
    draw, hot = Random(str(limits)), lake(tmp_path, EVERY)
    for start in range(0, examples(60), 20):
        times = [MORNING + timedelta(seconds=draw.randrange(200_000)) for _ in range(20)]
        sent = [payloads.message(draw, EVERY.descriptor).SerializeToString() for _ in times]
        records = [record(start + n, own=time, value=sent[n]) for n, time in enumerate(times)]
        hot.write((0, start + 20, records))
    for name, value in limits.items():
        monkeypatch.setattr(merge, name, value)
    run(LocalStorage(tmp_path))

    before, after = table(tmp_path, "hot"), table(tmp_path, "main")
    assert after.num_rows == examples(60)
    assert after.schema.remove_metadata().equals(before.schema.remove_metadata(), check_metadata=True)
    assert repr(after.to_pylist()) == repr(before.to_pylist())  # what is no number is equal to itself there


def table(root, folder):
    """All rows, by offset; files without any are there for their columns alone."""
    tables = [pq.ParquetFile(path).read() for path in sorted(root.glob(f"{folder}/{TOPIC}/*/*.parquet"))]
    return pa.concat_tables([one for one in tables if one.num_rows]).sort_by("_offset")


def test_row_groups_are_bounded_by_their_bytes_and_rows_by_far_too_many_to_hold_go_to_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(merge, "GROUP_BYTES", 4000)
    monkeypatch.setattr(merge, "HELD_BYTES", 10_000)
    spilled = []
    monkeypatch.setattr(merge, "_spill", lambda *told, spill=merge._spill: spilled.append(told) or spill(*told))
    hot = lake(tmp_path)
    for start in range(0, 400, 100):  # the times of all segments are the same
        hot.write(
            (
                0,
                start + 100,
                [record(at, own=MORNING + timedelta(seconds=at % 100)) for at in range(start, start + 100)],
            )
        )
    run(LocalStorage(tmp_path))

    assert spilled
    [path] = tmp_path.glob(f"main/{TOPIC}/dt=2026*/*")
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert sum(groups) == 400
    assert 20 < len(groups) < 200
    assert max(groups) < 20
    assert [place[2] for place in dated(tmp_path)["dt=2026-11-28"]] == sorted(range(400), key=lambda at: (at % 100, at))


def test_files_are_made_to_be_searched(tmp_path):
    lake(tmp_path).write((0, 3, [record(at) for at in range(3)]))
    run(LocalStorage(tmp_path))

    [path] = tmp_path.glob(f"main/{TOPIC}/dt=2026*/*")
    file = pq.ParquetFile(path)
    columns = {
        column.path_in_schema: column
        for column in map(file.metadata.row_group(0).column, range(file.metadata.num_columns))
    }
    said = {name.decode(): value.decode() for name, value in file.metadata.metadata.items()}
    assert {name: said[f"waybill.{name}"] for name in ("topic", "seq", "date", "rows")} == {
        "topic": TOPIC, "seq": "1", "date": "2026-11-28", "rows": "3",
    }  # fmt: skip
    assert columns["_event_id"].bloom_filter_offset
    assert columns["_offset"].statistics.has_min_max
    assert {name for name, column in columns.items() if column.has_dictionary_page} == {
        "_topic", "_epoch", "_partition", "_event_type", "_source", "_headers.key_value.key",
    }  # fmt: skip
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert file.schema_arrow.field("number").metadata[b"PARQUET:field_id"] == b"1"


def test_whenever_a_compactor_dies_the_next_one_finishes_and_nothing_is_lost_or_there_twice(scene):
    def die(now):
        if now == number:
            raise Killed

    assert scene.operations > 60
    for number in range(scene.operations):
        root = scene.again(number)
        with pytest.raises(Killed):
            compacted(Watched(root, die))
        assert fresh(root) == scene.truth
        assert compacted(LocalStorage(root)) == []
        assert rows(root, "main") == scene.truth
        assert dated(root) == scene.result
        assert compaction.committed(LocalStorage(root), TOPIC) == [1]
        assert len(list(root.glob(f"hot/{TOPIC}/*-life/*"))) == 3  # of each chain the last
        shutil.rmtree(root)


def test_wherever_another_compactor_overtakes_one_nothing_is_lost_or_there_twice(scene):
    def overtake(now):
        if now == number:
            assert compacted(LocalStorage(root)) == []

    for number in range(scene.operations):
        root = scene.again(number)
        assert compacted(Watched(root, overtake)) == []
        assert rows(root, "main") == scene.truth
        assert dated(root) == scene.result
        assert compaction.committed(LocalStorage(root), TOPIC) == [1]
        shutil.rmtree(root)


def test_a_reader_sees_every_row_once_and_main_only_grows_whatever_the_compactor_is_at(scene):
    root, seen = scene.again("read"), []

    def look(_):
        assert fresh(root) == scene.truth
        seen.append(rows(root, "main").keys())

    compacted(Watched(root, look))
    assert all(before <= after for before, after in pairwise(seen))
    assert seen[-1] == scene.truth.keys()


def test_little_and_young_waits_until_it_is_old_or_much_or_all_is_wanted(tmp_path):
    storage = LocalStorage(tmp_path)
    lake(tmp_path).write((0, 4, [record(at, value=BAD) for at in range(4)]), (0, 9, [record(at) for at in range(4, 9)]))
    size = sum(storage.sizes(f"hot/{TOPIC}/first-life").values())

    assert run(storage, everything=False).steps == 0
    assert run(storage, everything=False, now=MORNING + DAY - timedelta(seconds=1)).waiting == 2
    assert run(storage, everything=False, policy=replace(POLICY, file_bytes=size + 1)).steps == 0
    assert run(storage, everything=False, policy=replace(POLICY, file_bytes=size)).steps == 1
    lake(tmp_path).write((0, 12, [record(at) for at in range(9, 12)]))
    assert run(storage, everything=False, now=MORNING + DAY).steps == 1
    lake(tmp_path).write((0, 15, [record(at) for at in range(12, 15)]))
    assert run(storage).steps == 1
    assert run(storage).steps == 0


class Recorded(LocalStorage):
    """Knows what it was to create, and dies instead of creating ``last``."""

    def __init__(self, root, last=""):
        super().__init__(root)
        self.created, self._last = [], last

    def create(self, source, key):
        if key == self._last:
            raise Killed
        self.created.append(key)
        return super().create(source, key)


def test_what_was_begun_is_finished_though_nothing_is_due_and_files_that_are_there_are_not_made_again(scene):
    root = scene.again("begun")
    dates = ("2026-11-26", "2026-11-27", "2026-11-28")
    files = [compaction.main_key(TOPIC, date, 1, 0) for date in dates]
    steps = [compaction.intent_key(TOPIC, 1), *files, compaction.commit_key(TOPIC, 1)]
    for there, following in pairwise(steps):
        dying = Recorded(root, following)
        with pytest.raises(Killed):
            run(dying)
        assert dying.created == [there]
    last = Recorded(root)
    assert run(last, everything=False).steps == 1
    assert last.created == steps[-1:]
    assert rows(root, "main") == scene.truth


def test_a_long_backlog_goes_in_several_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(compact, "STEP_SEGMENTS", 2)
    fill(tmp_path)
    truth = rows(tmp_path, "hot")

    assert run(LocalStorage(tmp_path)).steps == 3
    assert rows(tmp_path, "main") == truth


def test_a_date_with_much_gets_several_files_of_one_size(tmp_path):
    lake(tmp_path).write((0, 100, [record(at) for at in range(100)]))
    size = sum(LocalStorage(tmp_path).sizes(f"hot/{TOPIC}/first-life").values())
    report = run(LocalStorage(tmp_path), policy=replace(POLICY, file_bytes=size // 3))

    files = sorted(tmp_path.glob(f"main/{TOPIC}/dt=2026-11-28/*"))
    assert [path.name for path in files] == [f"000000000001-{number:05d}.parquet" for number in range(4)]
    assert [pq.read_metadata(path).num_rows for path in files] == [25] * 4
    assert report.bytes == sum(path.stat().st_size for path in files)


def test_hot_segments_stay_for_their_time_and_the_last_of_a_chain_for_ever(tmp_path):
    one = lake(tmp_path)
    for end in (3, 6, 9):
        one.write((0, end, [record(at) for at in range(end - 3, end)]))
    storage = LocalStorage(tmp_path)
    run(storage)
    for end in (12, 15):
        one.write((0, end, [record(at) for at in range(end - 3, end)]))
    run(storage, now=MORNING + DAY / 2)

    def starts():
        return [int(path.stem[6:]) for path in sorted(tmp_path.glob(f"hot/{TOPIC}/first-life/*"))]

    assert run(storage, now=MORNING + DAY - timedelta(seconds=1)).removed == 0
    assert run(storage, now=MORNING + DAY).removed == 3
    assert starts() == [9, 12]
    assert run(storage, now=MORNING + 9 * DAY).removed == 1
    assert starts() == [12]
    one.write((0, 18, [record(at) for at in range(15, 18)]))  # the sink goes on where the chain ends
    assert run(storage, now=MORNING + 9 * DAY).removed == 1
    assert starts() == [15]
    assert len(rows(tmp_path, "main")) == 18


def test_readers_are_shown_what_is_new_before_anything_is_removed_that_they_were_shown(tmp_path):
    fill(tmp_path)
    shown = []

    class Looked(LocalStorage):
        def delete(self, key):
            before = (tmp_path / "views.sql").read_bytes()
            reader_files.write_views(LocalStorage(tmp_path))
            shown.append(before == (tmp_path / "views.sql").read_bytes())
            super().delete(key)

    run(LocalStorage(tmp_path))
    lake(tmp_path).write((0, 33, [record(at) for at in range(30, 33)]))
    assert run(Looked(tmp_path), now=MORNING + 2 * DAY).removed == 4
    assert shown == [True] * 4


def test_what_a_zombie_leaves_below_the_watermark_is_in_nobodys_way_and_removed(tmp_path):
    one = lake(tmp_path)
    for end in (3, 6):
        one.write((0, end, [record(at) for at in range(end - 3, end)]))
    left, _ = sorted(tmp_path.glob(f"hot/{TOPIC}/first-life/*"))
    content = left.read_bytes()
    storage = LocalStorage(tmp_path)
    run(storage)
    run(storage, now=MORNING + DAY)
    assert not left.exists()
    left.write_bytes(content)

    truth = rows(tmp_path, "main")
    assert fresh(tmp_path) == truth
    assert run(storage, now=MORNING + 2 * DAY).removed == 1
    assert not left.exists()
    assert rows(tmp_path, "main") == truth


def test_a_chain_that_lacks_a_segment_is_named_and_taken_up_to_there_and_the_others_wholly(tmp_path):
    one = lake(tmp_path)
    for end in (3, 6, 9):
        records = [[record(at, partition=partition) for at in range(end - 3, end)] for partition in (0, 1)]
        one.write((0, end, records[0]), (1, end, records[1]))
    (tmp_path / f"hot/{TOPIC}/first-life/00000-{3:020d}.parquet").unlink()

    for _ in range(2):
        [problem] = run(LocalStorage(tmp_path)).problems
        assert problem.startswith("no segment of part[0] (epoch first-life) begins at offset 3")
    places = {(0, at) for at in range(3)} | {(1, at) for at in range(9)}
    assert {place[1:] for place in rows(tmp_path, "main")} == places
    assert {place[1:] for place in fresh(tmp_path)} == places | {(0, at) for at in range(6, 9)}


def test_a_file_with_other_rows_in_the_place_of_an_output_stops_the_step(tmp_path):
    fill(tmp_path)
    storage = LocalStorage(tmp_path)
    key = compaction.main_key(TOPIC, "2026-11-27", 1, 0)
    (tmp_path / key).parent.mkdir(parents=True)
    pq.write_table(pa.table({"_offset": [1]}), tmp_path / key)

    [problem] = run(storage).problems
    assert problem.startswith(f"{tmp_path / key} has 1 rows where 10 belong")
    assert compaction.committed(storage, TOPIC) == []
    (tmp_path / key).unlink()
    truth = rows(tmp_path, "hot")
    assert run(storage).problems == []
    assert rows(tmp_path, "main") == truth


def rewritten(path, change):
    """The segment with other rows and its own footer."""
    file = pq.ParquetFile(path)
    table, metadata = file.read(), file.metadata.metadata
    path.unlink()
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(change(table))
        writer.add_key_value_metadata({name: value for name, value in metadata.items() if name != b"ARROW:schema"})


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.slice(1),
        lambda table: pa.concat_tables([table.slice(0, 9), table.slice(8, 1)]),
        lambda table: table.take(pa.array([1, 0, *range(2, 10)])),
        lambda table: table.set_column(
            table.schema.get_field_index("_offset"), "_offset", pc.add(table["_offset"], pa.scalar(1, pa.int64()))
        ),
    ],
    ids=["a row is missing", "a row is twice", "not in their order", "of another stretch"],
)
def test_a_segment_that_is_not_what_its_footer_says_is_never_taken(tmp_path, change):
    fill(tmp_path)
    rewritten(tmp_path / f"hot/{TOPIC}/first-life/00000-{10:020d}.parquet", change)

    [problem] = run(LocalStorage(tmp_path)).problems
    assert "00000-00000000000000000010.parquet is not the segment of 10 rows from offset 10 to 19" in problem
    assert not list(tmp_path.glob(f"main/{TOPIC}/dt=2*"))
    assert compaction.committed(LocalStorage(tmp_path), TOPIC) == []


@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize("what", [f"hot/{TOPIC}/first-life/00000-{0:020d}.parquet", compaction.commit_key(TOPIC, 1)])
def test_what_cannot_be_read_is_named_and_other_topics_go_on(tmp_path, what, everything):
    storage = LocalStorage(tmp_path)
    fill(tmp_path)
    other = event("other")
    layout.prepare(storage, [other])
    WholeLake(storage, other).write((0, 1, [replace(record(0, kafka=MORNING - DAY), topic="other")]))
    path = tmp_path / what
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"no such thing")

    topics = snapshot.chosen(storage, [])
    [well, ill] = compact.run(storage, topics, POLICY, everything=everything, clock=lambda: MORNING)
    assert (well.topic, well.rows, well.problems) == ("other", 1, [])
    assert ill.problems
    assert all(str(path) in problem for problem in ill.problems)


def test_a_segment_that_is_gone_stops_a_step_unless_it_is_done_by_now(tmp_path):
    fill(tmp_path)
    with pytest.raises(Killed):
        run(Recorded(tmp_path, compaction.commit_key(TOPIC, 1)))
    path = tmp_path / f"hot/{TOPIC}/first-life/00000-{10:020d}.parquet"
    content = path.read_bytes()
    path.unlink()
    [problem] = run(LocalStorage(tmp_path)).problems
    assert "needs a file that is gone" in problem

    class Overtaken(LocalStorage):
        def open(self, key):
            if key.endswith(path.name) and path.exists():
                run(LocalStorage(tmp_path))
                path.unlink()
            return super().open(key)

    path.write_bytes(content)
    report = run(Overtaken(tmp_path))
    assert (report.steps, report.problems) == (0, [])


def test_a_storage_that_fails_is_unreachable_for_now(tmp_path):
    fill(tmp_path)

    class Full(LocalStorage):
        def create(self, source, key):
            raise OSError(28, "No space left on device")

    with pytest.raises(Unreachable, match="No space left on device"):
        run(Full(tmp_path))
    assert run(LocalStorage(tmp_path)).rows == 38


def test_a_topic_that_the_lake_does_not_have_is_refused(tmp_path):
    lake(tmp_path)
    storage = LocalStorage(tmp_path)

    assert snapshot.chosen(storage, []) == [TOPIC]
    assert snapshot.chosen(storage, [TOPIC]) == [TOPIC]
    with pytest.raises(BadInput, match="has no topic parts; it has part"):
        snapshot.chosen(storage, [TOPIC, "parts"])


def test_nothing_is_left_in_the_scratch_folder(tmp_path):
    fill(tmp_path)
    storage = LocalStorage(tmp_path)
    run(storage)

    assert list(storage.scratch.iterdir()) == []
