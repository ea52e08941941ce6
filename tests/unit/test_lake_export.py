import csv
import io
import json
import signal
import subprocess
import sys
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner
from written_lake import WrittenLake, columns

from connectors.problems import BadInput
from lake.reading.export import Wanted, export, format_of
from lake.reading.query import query
from pipelines.cli import lake as command

ROOT = Path(__file__).parents[2]
COLUMNS = columns(weight=pa.int64(), label=pa.string(), size=pa.struct([("high", pa.int64())]))


@pytest.fixture
def lake(tmp_path):
    """Nine days with an event each, the last of them twice; two thirds are compacted."""
    lake = WrittenLake(tmp_path / "lake", of=COLUMNS)
    first = datetime(2026, 1, 1, 12, tzinfo=UTC)
    days = [{"weight": n, "label": f"ä{n}", "size": {"high": n}, "_time": first + timedelta(days=n)} for n in range(9)]
    lake.append(*days[:6])
    lake.compact()
    lake.append(*days[6:], {**days[8], "_event_id": f"first-life/0/{8}"})
    return lake


def weights(path):
    return sorted(pq.read_table(path)["weight"].to_pylist())


def test_parquet_that_is_exported_is_what_the_view_shows(lake, tmp_path):
    target = tmp_path / "all.parquet"
    assert export(lake.storage, Wanted("parcel"), target, "parquet") == 10
    assert weights(target) == [*range(9), 8]
    view = query(lake.storage, "FROM parcel ORDER BY _offset")
    assert pq.read_schema(target).names == list(view.columns)
    assert pd.read_parquet(target)["size"][0] == {"high": 0}
    assert pl.read_parquet(target)["dt"].min() == date(2026, 1, 1)


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        (Wanted("parcel", latest=True), range(9)),
        (Wanted("parcel", since=date(2026, 1, 3), until=date(2026, 1, 8)), range(2, 7)),
        (Wanted("parcel", where="weight > 4 OR label = 'ä0' -- so it is"), [0, 5, 6, 7, 8, 8]),
        (Wanted("parcel", latest=True, since=date(2026, 1, 8), where="weight < 8 OR false"), [7]),
    ],
)
def test_dates_conditions_and_latest_choose_the_rows(lake, tmp_path, wanted, left):
    export(lake.storage, wanted, tmp_path / "some.parquet", "parquet")
    assert weights(tmp_path / "some.parquet") == list(left)


def test_csv_has_a_head_and_json_an_object_a_line(lake, tmp_path):
    wanted = Wanted("parcel", where="weight = 3")
    export(lake.storage, wanted, tmp_path / "x.csv", "csv")
    export(lake.storage, wanted, tmp_path / "x.json", "json")
    (row,) = csv.DictReader(io.StringIO((tmp_path / "x.csv").read_text(encoding="utf-8")))
    (line,) = (tmp_path / "x.json").read_text().splitlines()
    for told in row, json.loads(line):
        assert (int(told["weight"]), told["label"], told["dt"]) == (3, "ä3", "2026-01-04")
    assert json.loads(line)["size"] == {"high": 3}


@pytest.mark.parametrize(
    ("name", "told", "found"),
    [("a.parquet", None, "parquet"), ("a.CSV", None, "csv"), ("a.ndjson", None, "json"), ("a.csv", "json", "json")],
)
def test_the_ending_says_the_format_unless_one_is_told(name, told, found):
    assert format_of(Path(name), told) == found


@pytest.mark.parametrize(("name", "told"), [("a.xlsx", None), ("a", None), ("a.csv", "xls")])
def test_an_unknown_format_is_bad_input(name, told):
    with pytest.raises(BadInput, match="say --format parquet or csv or json"):
        format_of(Path(name), told)


FAILING = "CASE WHEN weight = 8 THEN error('no more') ELSE true END"
SLOW = "(SELECT count(*) FROM range(40_000) a, range(40_000) b WHERE a.range % 7 = b.range % 5) > weight"


def test_a_file_that_somebody_makes_meanwhile_stays_and_nothing_is_left_beside_it(lake, tmp_path):
    target = tmp_path / "raced.csv"
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BadInput, match="exists"):
        export(
            lake.storage,
            Wanted("parcel", where=SLOW),
            target,
            "csv",
            progress=lambda _: target.write_text("theirs") and None,
        )
    assert target.read_text() == "theirs"
    assert sorted(tmp_path.iterdir()) == sorted([*before, target])


def test_a_file_that_exists_stays_unless_forced(lake, tmp_path):
    target = tmp_path / "here.csv"
    target.write_text("mine")
    with pytest.raises(BadInput, match=r"here.csv exists; --force"):
        export(lake.storage, Wanted("parcel", where=FAILING), target, "csv")  # which is told before any work
    assert target.read_text() == "mine"
    export(lake.storage, Wanted("parcel"), target, "csv", force=True)
    assert target.read_text().startswith("weight,")
    with pytest.raises(BadInput, match="no file"):
        export(lake.storage, Wanted("parcel"), tmp_path, "csv", force=True)


def test_an_export_that_fails_leaves_neither_a_file_nor_half_of_one(lake, tmp_path):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BadInput, match="no more"):
        export(lake.storage, Wanted("parcel", where=FAILING), tmp_path / "half.csv", "csv")
    with pytest.raises(BadInput, match="there is no folder"):
        export(lake.storage, Wanted("parcel"), tmp_path / "nowhere/a.csv", "csv")
    with pytest.raises(BadInput, match="no topic `parcels`; it has parcel"):
        export(lake.storage, Wanted("parcels"), tmp_path / "a.csv", "csv")
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def config(lake, tmp_path, monkeypatch):
    file = tmp_path / "waybill.yaml"
    file.write_text(
        f"kafka: {{bootstrap-servers: 'nowhere:1'}}\ndescriptors: d\nconsumers: []\nlake: {{root: '{lake.root}'}}\n"
    )
    monkeypatch.setenv("WAYBILL_CONFIG", str(file))


@pytest.mark.usefixtures("config")
def test_the_command_tells_how_much_it_wrote_on_stderr_alone(tmp_path):
    arguments = ["export", "parcel", str(tmp_path / "a.csv"), "--since", "2026-01-02", "--until", "2026-01-03"]
    result = CliRunner().invoke(command.app, arguments)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith(f"1 rows in {tmp_path}/a.csv (")


ENDLESS = "(SELECT count(*) FROM range(10_000_000) a, range(10_000_000) b WHERE a.range % 7 = b.range) > weight"


@pytest.mark.usefixtures("config")
def test_an_export_that_is_interrupted_leaves_nothing_behind(tmp_path):
    before = sorted(tmp_path.iterdir())
    program = "from pipelines.cli import main; main()"
    arguments = ["lake", "export", "parcel", str(tmp_path / "a.csv"), "--where", ENDLESS]
    worker = subprocess.Popen([sys.executable, "-c", program, *arguments], cwd=ROOT, stderr=subprocess.PIPE)
    while worker.poll() is None and sorted(tmp_path.iterdir()) == before:
        threading.Event().wait(0.05)
    worker.send_signal(signal.SIGINT)
    _, told = worker.communicate(timeout=60)
    assert worker.returncode != 0
    assert b"Traceback" not in told
    assert sorted(tmp_path.iterdir()) == before
