import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from descriptors import every_kind
from typer.testing import CliRunner
from written_lake import WrittenLake

from connectors.problems import BadInput, Problem
from lake.columns import schema
from lake.reading import snapshot
from lake.reading.query import query
from lake.storage.local import LocalStorage
from pipelines.cli import lake as command

COLUMNS = schema.segment_schema(every_kind())


@pytest.fixture
def lake(tmp_path):
    return WrittenLake(tmp_path, "every_kind", COLUMNS)


def test_every_topic_has_its_columns_before_its_first_row(lake):
    assert query(lake.storage, "SELECT * FROM every_kind").columns == (*COLUMNS.names, "dt")
    assert query(lake.storage, "SELECT count(*) FROM every_kind_latest").rows == [(0,)]


def test_an_unknown_view_names_those_that_the_lake_has_and_the_nearest(lake):
    WrittenLake(lake.root, "other")
    known = "every_kind, every_kind_latest, other, other_latest"
    with pytest.raises(BadInput, match=f"evry_kind does not exist(.|\\n)*views {known}; did you mean `every_kind`"):
        query(lake.storage, "SELECT * FROM evry_kind JOIN other USING (_event_id)")


def test_a_wrong_statement_and_a_missing_lake_are_bad_input(lake, tmp_path_factory):
    with pytest.raises(BadInput, match="no_such_column"):
        query(lake.storage, "SELECT no_such_column FROM every_kind")
    with pytest.raises(BadInput, match="syntax error"):
        query(lake.storage, "SELEC")
    with pytest.raises(BadInput, match=r"there is no lake in .* yet; `waybill worker lake`"):
        query(LocalStorage(tmp_path_factory.mktemp("empty")), "SELECT 1")


def test_no_variable_of_the_program_is_a_table(lake):
    topics = snapshot.topics(lake.storage)
    with pytest.raises(BadInput, match="topics does not exist"):
        query(lake.storage, "SELECT * FROM topics")
    assert topics == ["every_kind"]


def test_a_file_that_cannot_be_read_is_a_problem_that_names_it(lake):
    key = lake.append({"int32": 1})
    (lake.root / key).write_bytes(b"PAR1 no more PAR1")
    with pytest.raises(Problem, match=key):
        query(lake.storage, "SELECT int32 FROM every_kind")


def test_times_are_in_utc_unless_a_statement_says_otherwise(lake):
    lake.append({"timestamp": datetime(2026, 7, 1, 23, tzinfo=UTC)})
    day = "SELECT CAST(timestamp AS DATE)::VARCHAR FROM every_kind"
    assert query(lake.storage, day).rows == [("2026-07-01",)]
    assert query(lake.storage, f"SET TimeZone = 'Europe/Berlin'; {day}").rows == [("2026-07-02",)]


def test_how_far_a_statement_is_is_told(lake):
    told = []
    query(
        lake.storage,
        "SELECT count(*) FROM range(40_000) a, range(40_000) b WHERE a.range % 7 = b.range % 5",
        told.append,
    )
    assert told
    assert max(told) <= 100


@pytest.fixture
def sql(lake, tmp_path_factory, monkeypatch):
    file = tmp_path_factory.mktemp("config") / "waybill.yaml"
    file.write_text(
        f"kafka: {{bootstrap-servers: 'nowhere:1'}}\ndescriptors: d\nconsumers: []\nlake: {{root: '{lake.root}'}}\n"
    )
    monkeypatch.setenv("WAYBILL_CONFIG", str(file))

    def run(*arguments):
        result = CliRunner().invoke(command.app, ["sql", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def test_sql_prints_json_that_any_reader_understands(lake, sql):
    lake.append(
        {
            "_raw": b"\xff",
            "_headers": [("a", b"\x01")],
            "timestamp": datetime(2024, 1, 1, tzinfo=UTC),
            "uint64": Decimal(2**64 - 1),
            "double": float("inf"),
            "uint64_to_uint64": [(Decimal(7), Decimal(8))],
            "strings": ["ä"],
        }
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


def test_sql_prints_a_table_in_which_no_value_can_play_tricks_on_the_terminal(lake, sql):
    lake.append({"string": "[red]\x1b[2J", "int32": 42})
    printed = sql("SELECT string, int32 FROM every_kind")
    assert "[red]\\x1b[2J" in printed
    assert "42" in printed
    assert "\x1b" not in printed


def test_a_statement_without_an_answer_prints_an_empty_list(sql):
    assert json.loads(sql("--json", "SET threads = 1")) == []


def test_sql_prints_csv_in_which_what_has_an_inside_is_json(lake, sql):
    lake.append({"string": 'a "b", c', "int32s": [1, 2], "bool": True, "timestamp": datetime(2026, 7, 1, tzinfo=UTC)})
    printed = sql("--csv", "SELECT string, int32s, bool, timestamp, bytes FROM every_kind")
    assert list(csv.reader(io.StringIO(printed))) == [
        ["string", "int32s", "bool", "timestamp", "bytes"],
        ['a "b", c', "[1, 2]", "true", "2026-07-01T00:00:00+00:00", ""],
    ]
