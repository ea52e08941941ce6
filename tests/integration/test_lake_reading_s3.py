"""What reads a lake, on S3."""

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from object_store import ObjectStore
from test_lake_storage import opened

from lake import layout, segments
from lake.columns import schema
from lake.main import compact
from lake.reading import export, reader_files, snapshot, tables
from lake.reading.query import query
from lake.segments import Chain, Footer
from lake.storage import create_bytes

DAY = 86_400_000_000
COLUMNS = schema.METADATA
EPOCH = "an-epoch"


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Three days in main and one in a segment."""
    with ObjectStore(tmp_path_factory.mktemp("objects")) as running:
        storage = opened(running.lake())
        layout.declare(storage, "parcel", COLUMNS)
        create_bytes(storage, f"{snapshot.TOPICS}/parcel", b"")
        reader_files.write_views(storage)
        append(storage, 0, 3)
        compact.run(storage, ["parcel"], compact.Policy(1 << 27, 0.0, 86400.0), everything=True)
        append(storage, 3, 4)
        yield storage


def append(storage, start, end):
    path = storage.scratch / "segment"
    with pq.ParquetWriter(path, COLUMNS) as writer:
        rows = [{"_epoch": EPOCH, "_offset": n, "_event_id": str(n), "_time": n * DAY} for n in range(start, end)]
        writer.write_table(pa.Table.from_pylist(rows, COLUMNS))
        writer.add_key_value_metadata(Footer(start, end, end - start, (), EPOCH, "", "a test").encode())
    assert storage.create(path, segments.segment_key(Chain("parcel", EPOCH, 0), start))


def test_statements_read_main_and_hot(lake):
    assert query(lake, "SELECT _offset, dt::VARCHAR FROM parcel_latest ORDER BY 1").rows == [
        (0, "1970-01-01"),
        (1, "1970-01-02"),
        (2, "1970-01-03"),
        (3, "1970-01-04"),
    ]


def test_views_sql_reads_a_bucket_whose_address_it_is_told(lake):
    connection = duckdb.connect()
    lake.attach(connection)
    connection.execute(f"SET VARIABLE lake = '{lake.uri('')}'")
    with lake.open("views.sql") as file:
        connection.execute(file.read().decode())
    assert connection.execute("SELECT _offset FROM parcel WHERE dt >= '1970-01-03' ORDER BY 1").fetchall() == [
        (2,),
        (3,),
    ]


def test_tables_counts_what_is_there(lake):
    (found,) = tables.tables(lake)
    assert (found.main.files, found.main.rows, found.hot.rows) == (3, 3, 1)
    assert (found.first.day, found.last.day) == (1, 4)
    assert found.bytes > 0


def test_an_export_comes_to_this_machine(lake, tmp_path):
    target = tmp_path / "all.parquet"
    assert export.export(lake, export.Wanted("parcel", latest=True), target, "parquet") == 4
    assert sorted(pq.read_table(target)["_offset"].to_pylist()) == [0, 1, 2, 3]
