import json
from datetime import UTC, datetime
from decimal import Decimal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from descriptors import every_kind
from typer.testing import CliRunner

from connectors.problems import BadInput
from connectors.schemas import EventType
from lake import layout, schema, views
from lake.query import query
from lake.storage.local import LocalStorage
from pipelines.cli import lake as command

EVENT = EventType("every_kind", "lake_test.v1.EveryKind", "", every_kind())
OTHER = EventType("some.other-topic", "lake_test.v1.Part", "", every_kind().file.message_types_by_name["Part"])
COLUMNS = schema.segment_schema(EVENT.descriptor)


@pytest.fixture
def root(tmp_path):
    layout.prepare(LocalStorage(tmp_path), [EVENT, OTHER])
    return tmp_path


def write(root, name, *rows):
    folder = root / "hot/every_kind/an-epoch"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), COLUMNS), folder / name)


def test_every_topic_has_its_columns_before_its_first_row(root):
    assert query(root, "SELECT * FROM every_kind").columns == tuple(COLUMNS.names)
    assert query(root, 'SELECT count(*) FROM "some.other-topic_latest"').rows == [(0,)]


def test_preparing_a_lake_again_changes_nothing_and_keeps_topics_that_the_catalog_lost(root):
    before = {path: path.read_bytes() for path in root.rglob("*.parquet")}
    layout.prepare(LocalStorage(root), [EVENT])
    assert {path: path.read_bytes() for path in root.rglob("*.parquet")} == before
    assert query(root, 'SELECT count(*) FROM "some.other-topic"').rows == [(0,)]


def test_latest_shows_the_newest_of_the_records_that_carry_one_event(root):
    early, late = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)
    write(root, "a.parquet", {"_event_id": "1", "_timestamp": late, "_offset": 5, "int32": 2})
    write(root, "b.parquet", {"_event_id": "1", "_timestamp": early, "_offset": 9, "int32": 1}, {"_event_id": "2"})
    assert query(root, "SELECT count(*) FROM every_kind").rows == [(3,)]
    assert query(root, "SELECT int32 FROM every_kind_latest ORDER BY _event_id").rows == [(2,), (None,)]


def test_a_view_has_the_columns_of_all_its_files_new_and_old(root):
    write(root, "b.parquet", {"int32": 1})
    old = pa.table({"_offset": [7], "gone": ["still here"]})
    pq.write_table(old, root / "hot/every_kind/an-epoch/a.parquet")
    assert query(root, "SELECT _offset, gone, int32 FROM every_kind ORDER BY gone NULLS LAST").rows == [
        (7, "still here", None),
        (None, None, 1),
    ]


def test_a_topic_named_like_the_latest_view_of_another_keeps_its_own():
    assert views.definitions(["a", "a_latest"]).count('VIEW "a_latest"') == 1


def test_views_work_in_plain_duckdb_in_the_folder_of_the_lake(root, monkeypatch):
    monkeypatch.chdir(root)
    connection = duckdb.connect()
    connection.execute((root / "views.sql").read_text())
    assert connection.execute("SELECT count(*) FROM every_kind").fetchall() == [(0,)]


def test_a_wrong_statement_and_a_missing_lake_are_bad_input(root, tmp_path_factory):
    with pytest.raises(BadInput, match="no_such_topic"):
        query(root, "SELECT * FROM no_such_topic")
    with pytest.raises(BadInput, match=r"there is no lake in .* yet .*waybill worker lake"):
        query(tmp_path_factory.mktemp("empty"), "SELECT 1")


@pytest.fixture
def sql(root, tmp_path_factory, monkeypatch):
    file = tmp_path_factory.mktemp("config") / "waybill.yaml"
    file.write_text(
        f"kafka: {{bootstrap-servers: 'nowhere:1'}}\ndescriptors: d\nconsumers: []\nlake: {{root: '{root}'}}\n"
    )
    monkeypatch.setenv("WAYBILL_CONFIG", str(file))

    def run(*arguments):
        result = CliRunner().invoke(command.app, ["sql", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def test_sql_prints_json_that_any_reader_understands(root, sql):
    write(
        root,
        "a.parquet",
        {
            "_raw": b"\xff",
            "_headers": [("a", b"\x01")],
            "timestamp": datetime(2024, 1, 1, tzinfo=UTC),
            "uint64": Decimal(2**64 - 1),
            "double": float("inf"),
            "uint64_to_uint64": [(Decimal(7), Decimal(8))],
            "strings": ["ä"],
        },
    )
    names = "_raw, _headers, timestamp, uint64, double, uint64_to_uint64, strings, int32, timestamp::DATE AS day"
    assert json.loads(sql("--json", f"SELECT {names} FROM every_kind")) == [
        {
            "_raw": "/w==",
            "_headers": {"a": "AQ=="},
            "timestamp": "2024-01-01T00:00:00+00:00",
            "uint64": 2**64 - 1,
            "double": "inf",
            "uint64_to_uint64": {"7": 8},
            "strings": ["ä"],
            "int32": None,
            "day": "2024-01-01",
        }
    ]


def test_sql_prints_a_table_in_which_no_value_can_play_tricks_on_the_terminal(root, sql):
    write(root, "a.parquet", {"string": "[red]\x1b[2J", "int32": 42})
    printed = sql("SELECT string, int32 FROM every_kind")
    assert "[red]\\x1b[2J" in printed
    assert "42" in printed
    assert "\x1b" not in printed


def test_a_statement_without_an_answer_prints_an_empty_list(sql):
    assert json.loads(sql("--json", "SET threads = 1")) == []
