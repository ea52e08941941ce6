"""Every record once, whatever moves meanwhile, and no file opened that a question does not need."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from descriptors import of_tests
from effort import examples
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from written_lake import DAY, WrittenLake, columns

from lake.columns import schema
from lake.main import compaction
from lake.reading import reader_files, snapshot, views
from lake.reading.query import query
from lake.reading.reader_files import columns_key
from lake.storage.local import LocalStorage

OLD = columns(weight=pa.int64())
NEW = columns(weight=pa.int64(), label=pa.string(), size=pa.struct([("high", pa.int64())]))


def session(root, lake=None):
    """A DuckDB of somebody else that has loaded the views as they are now."""
    connection = duckdb.connect()
    connection.execute("SET VARIABLE lake = ?", [lake or f"{root}/"])
    connection.execute((root / "views.sql").read_text())
    return connection


def places(connection, view="parcel"):
    return sorted(connection.execute(f"SELECT _epoch, _partition, _offset FROM {view}").fetchall())


@settings(max_examples=examples(12))
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(0, 1), st.sampled_from(["e1", "e2"]), st.integers(0, 3)),
            st.just(("compact",)),
            st.just(("change",)),
            st.just(("load",)),
        ),
        min_size=4,
        max_size=12,
    )
)
def test_every_record_is_seen_once_by_views_of_any_age(happenings):
    with TemporaryDirectory() as folder:
        root = Path(folder)
        lake, sessions, written, newest = WrittenLake(root, of=OLD), [session(root)], [], OLD
        for what, *told in happenings:
            if what == "append":
                partition, epoch, count = told
                start = len(written)
                rows = [{"weight": start + n, "_time": DAY + timedelta(days=start + n)} for n in range(count)]
                lake.append(*rows, of=newest, partition=partition, epoch=epoch)
                written += [(epoch, partition, row["weight"]) for row in rows]
            elif what == "compact":
                lake.compact()
            elif what == "load":
                sessions.append(session(root))
            else:
                newest = NEW
                lake.declare(NEW)
            seen = [query(lake.storage, "SELECT _epoch, _partition, weight, dt FROM parcel").rows]
            seen += [one.execute("SELECT _epoch, _partition, weight, dt FROM parcel").fetchall() for one in sessions]
            for rows in seen:
                assert sorted(row[:3] for row in rows) == sorted(written)
                assert all(row[3] == (DAY + timedelta(days=row[2])).date() for row in rows)


def test_views_without_hot_segments_or_without_main_show_what_there_is(tmp_path):
    lake = WrittenLake(tmp_path)
    assert places(session(tmp_path)) == places(session(tmp_path), "parcel_latest") == []
    lake.append({}, {})
    assert len(places(session(tmp_path))) == 2
    lake.compact()
    for key in lake.storage.keys("hot/parcel/first-life"):
        lake.storage.delete(key)
    assert len(places(session(tmp_path))) == len(query(lake.storage, "FROM parcel").rows) == 2


def test_files_of_a_step_that_is_not_committed_are_not_read(tmp_path):
    lake = WrittenLake(tmp_path)
    lake.append({})
    lake.compact()
    lake.append({})
    before = session(tmp_path)
    commit = compaction.commit_key("parcel", 2)
    lake.compact()
    lake.storage.delete(commit)
    reader_files.write_views(lake.storage)
    assert len(snapshot.take(lake.storage, "parcel").main) == 1
    assert len(query(lake.storage, "FROM parcel").rows) == len(places(before)) == len(places(session(tmp_path))) == 2


def test_old_views_do_not_lose_what_is_compacted_and_new_ones_not_what_is_removed(tmp_path):
    lake = WrittenLake(tmp_path)
    lake.append({}, {})
    before = session(tmp_path)
    lake.compact()
    lake.append({})
    assert len(places(before)) == 3
    lake.compact(retention=-10)
    lake.append({})
    assert len(lake.storage.keys("hot/parcel/first-life")) == 2
    assert len(places(session(tmp_path))) == 4


@pytest.mark.parametrize(
    ("time", "timestamp", "dt"),
    [
        (datetime(2026, 1, 1, 23, 59, 59, tzinfo=UTC), DAY, date(2026, 1, 1)),
        (None, datetime(2026, 1, 2, tzinfo=UTC), date(2026, 1, 2)),
        (None, None, date(1970, 1, 1)),
        (datetime(1, 1, 1, tzinfo=UTC), None, date(1, 1, 1)),
    ],
)
def test_dt_is_the_date_of_the_event_in_hot_as_in_main_whatever_the_time_zone(tmp_path, time, timestamp, dt):
    lake = WrittenLake(tmp_path)
    lake.append({"_time": time, "_timestamp": timestamp})
    for _ in range(2):
        connection = session(tmp_path)
        connection.execute("SET TimeZone = 'Asia/Tokyo'")
        assert connection.execute("SELECT dt FROM parcel").fetchall() == [(dt,)]
        assert query(lake.storage, "SELECT dt FROM parcel").rows == [(dt,)]
        lake.compact()


class OpenedFiles(LocalFileSystem):
    """``opened:///a/folder`` is that folder; it notes what is opened."""

    protocol = "opened"
    cachable = False

    def __init__(self):
        super().__init__()
        self.names = set()

    def open(self, path, *_, **__):
        self.names.add(Path(path).name if "/hot/" in path else "/".join(Path(path).parts[-2:]))
        return super().open(path)

    def glob(self, path, **_):
        return [f"opened://{found}" for found in super().glob(self._strip_protocol(path))]


class Watched(LocalStorage):
    """A lake that notes which of its files DuckDB opens."""

    def __init__(self, root):
        super().__init__(root)
        self.files = OpenedFiles()

    def uri(self, key):
        return f"opened://{super().uri(key)}"

    def attach(self, connection):
        connection.register_filesystem(self.files)


@pytest.fixture
def watched(tmp_path):
    """Five days in main, four of them in segments that are still there, and one day in a segment only."""
    lake = WrittenLake(tmp_path)
    for day in range(1, 6):
        lake.append({"weight": day, "_time": datetime(2026, 1, day, tzinfo=UTC)})
    lake.compact()
    lake.append({"weight": 6, "_time": datetime(2026, 1, 6, tzinfo=UTC)})
    return Watched(tmp_path)


STEP = "000000000001-00000.parquet"
SEGMENT = f"00000-{5:020d}.parquet"


@pytest.mark.parametrize("how", ["query", "views.sql"])
def test_a_condition_on_dt_leaves_files_of_other_days_unopened_and_moved_segments_are_never_opened(watched, how):
    sql = "SELECT weight FROM parcel WHERE dt BETWEEN '2026-01-03' AND '2026-01-04' OR dt = '2026-01-06' ORDER BY 1"
    if how == "query":
        rows = query(watched, sql).rows
    else:
        connection = duckdb.connect()
        watched.attach(connection)
        connection.execute(f"SET VARIABLE lake = '{watched.uri('')}/'")
        connection.execute((watched.root / "views.sql").read_text())
        rows = connection.execute(sql).fetchall()
    assert rows == [(3,), (4,), (6,)]
    empty = {name for name in watched.files.names if name == f"dt=0001-01-01/{0:012d}-00000.parquet" or len(name) == 24}
    assert watched.files.names - empty == {f"dt=2026-01-03/{STEP}", f"dt=2026-01-04/{STEP}", SEGMENT}


def test_only_topics_that_a_statement_names_are_looked_at(watched):
    WrittenLake(watched.root, "letter")
    listed = []

    class Listed(Watched):
        def keys(self, prefix):
            listed.append(prefix)
            return super().keys(prefix)

    query(Listed(watched.root), "SELECT count(*) FROM Parcel_Latest")
    assert [one for one in listed if "letter" in one] == []
    assert query(watched, "SHOW TABLES").rows == [("letter",), ("letter_latest",), ("parcel",), ("parcel_latest",)]


def test_columns_stand_in_the_order_of_their_numbers_the_lake_s_own_last(tmp_path):
    whole = columns(z=pa.int64(), a=pa.struct([("x", pa.string())]), c=pa.decimal128(20, 0))
    lake = WrittenLake(tmp_path, of=whole.remove(1))
    lake.declare(whole.remove(2).remove(0))
    found = query(lake.storage, "FROM parcel LIMIT 0").columns
    assert found[:4] == ("z", "a", "c", "_topic")
    assert found[-2:] == ("_source", "dt")


def test_types_are_what_duckdb_itself_makes_of_them():
    columns = schema.segment_schema(of_tests("EveryKind"))
    found = duckdb.from_arrow(columns.empty_table())
    told = [duckdb.type(views.duckdb_type(field.type)) for field in columns]
    assert dict(zip(columns.names, told, strict=True)) == dict(zip(found.columns, found.types, strict=True))


def test_topics_with_odd_names_have_views(tmp_path):
    name = "some.Other-topic_9"
    WrittenLake(tmp_path, name).append({"weight": 1})
    assert session(tmp_path).execute(f'SELECT weight FROM "{name}_latest"').fetchall() == [(1,)]
    assert query(LocalStorage(tmp_path), f'SELECT weight FROM "{name}"').rows == [(1,)]


def test_a_topic_named_like_the_latest_view_of_another_keeps_its_own(tmp_path):
    WrittenLake(tmp_path, "a").append({"weight": 1})
    WrittenLake(tmp_path, "a_latest").append({"weight": 2})
    assert session(tmp_path).execute("SELECT weight FROM a_latest").fetchall() == [(2,)]
    assert query(LocalStorage(tmp_path), "SELECT weight FROM a_latest").rows == [(2,)]
    assert query(LocalStorage(tmp_path), "SELECT weight FROM a").rows == [(1,)]


def test_records_that_were_decoded_again_are_seen(tmp_path):
    lake = WrittenLake(tmp_path)
    lake.append({"weight": 1})
    lake.requarantine(1, {"weight": 2, "_time": datetime(2026, 1, 1, tzinfo=UTC)})
    reader_files.write_views(lake.storage)
    rows = [(1, DAY.date()), (2, date(2026, 1, 1))]
    assert query(lake.storage, "SELECT weight, dt FROM parcel ORDER BY 1").rows == rows
    assert session(tmp_path).execute("SELECT weight, dt FROM parcel ORDER BY 1").fetchall() == rows


def test_latest_shows_the_newest_of_the_records_that_carry_one_event_wherever_they_lie(tmp_path):
    lake = WrittenLake(tmp_path)
    lake.append({"weight": 2, "_event_id": "1", "_timestamp": DAY}, {"weight": 3, "_event_id": "2"})
    lake.compact()
    lake.append({"weight": 1, "_event_id": "1", "_timestamp": DAY - timedelta(days=1)}, partition=1)
    for rows in (
        query(lake.storage, "SELECT _event_id, weight FROM parcel_latest ORDER BY 1").rows,
        session(tmp_path).execute("SELECT _event_id, weight FROM parcel_latest ORDER BY 1").fetchall(),
    ):
        assert rows == [("1", 2), ("2", 3)]
    assert query(lake.storage, "SELECT count(*) FROM parcel").rows == [(3,)]


def test_writing_the_views_again_changes_nothing(tmp_path):
    lake = WrittenLake(tmp_path)
    lake.append({})
    lake.compact()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    reader_files.write_views(lake.storage)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_who_writes_views_later_than_a_newer_commit_sees_that_and_writes_again(tmp_path):
    lake = WrittenLake(tmp_path)
    lake.append({})

    class Overtaken(LocalStorage):
        done = False

        def replace(self, source, key):
            if key == views.FILE and not self.done:
                self.done = True
                lake.compact()
            super().replace(source, key)

    (tmp_path / views.FILE).unlink()
    reader_files.write_views(Overtaken(tmp_path))
    assert compaction.newest(lake.storage, "parcel").seq == 1
    assert "'first-life/00000': '00000000000000000001'" in (tmp_path / views.FILE).read_text()


def test_a_topic_whose_columns_are_lost_keeps_no_other_from_its_views(tmp_path):
    lake = WrittenLake(tmp_path)
    WrittenLake(tmp_path, "letter").append({"weight": 1})
    for key in lake.storage.keys("hot/parcel/schema"):
        lake.storage.delete(key)
    reader_files.write_views(lake.storage)
    assert session(tmp_path).execute("SHOW TABLES").fetchall() == [("letter",), ("letter_latest",)]


def test_main_begins_with_a_file_that_has_all_columns_and_no_row(tmp_path):
    lake = WrittenLake(tmp_path, of=OLD)
    lake.declare(NEW)
    lake.append({"_time": datetime(1, 1, 1, tzinfo=UTC)})
    lake.compact()
    first = pq.ParquetFile(tmp_path / columns_key("parcel"))
    assert first.schema_arrow.names == NEW.names
    assert first.metadata.num_rows == 0
    assert min(lake.storage.keys("main/parcel")) == columns_key("parcel")
    assert snapshot.take(lake.storage, "parcel").main == (compaction.main_key("parcel", "0001-01-01", 1, 0),)
