import json
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner
from written_lake import DAY, WrittenLake

from lake.reading.tables import Part, tables
from lake.storage.local import LocalStorage
from pipelines.cli import lake as command


def at(hour):
    return DAY + timedelta(hours=hour)


@pytest.fixture
def lake(tmp_path):
    """Three compacted days, whose segments are still there, and one segment above."""
    lake = WrittenLake(tmp_path)
    lake.append({"_time": at(0), "_timestamp": at(1)}, {"_time": at(24), "_timestamp": at(25)})
    lake.append({"_time": at(-50), "_timestamp": at(90)}, partition=1)
    lake.compact()
    lake.append({"_time": at(48), "_timestamp": at(49)}, {"_time": None, "_timestamp": at(50)})
    return lake


def bytes_of(lake, pattern):
    return sum(path.stat().st_size for path in lake.root.glob(pattern))


def test_a_table_counts_every_row_and_file_where_readers_read_it(lake):
    (found,) = tables(lake.storage)
    assert found.topic == "parcel"
    assert found.main == Part(3, 3, bytes_of(lake, "main/parcel/dt=2026*/*"))
    assert found.hot == Part(1, 2, bytes_of(lake, "hot/parcel/first-life/00000-*2.parquet"))
    assert (found.files, found.rows, found.bytes) == (4, 5, found.main.bytes + found.hot.bytes)


def test_times_of_events_reach_over_main_and_hot_and_take_the_record_s_time_where_there_is_no_other(lake):
    (found,) = tables(lake.storage)
    assert (found.first, found.last) == (at(-50), at(50))


def test_a_lake_is_fresh_until_the_newest_record_of_the_newest_segment_of_any_partition_moved_or_not(lake):
    (found,) = tables(lake.storage)
    assert found.fresh_until == at(90)


def test_events_without_any_time_do_not_hide_the_first_that_has_one(tmp_path):
    lake = WrittenLake(tmp_path)
    lake.append({"_time": None, "_timestamp": None}, {"_time": at(5), "_timestamp": None})
    for _ in range(2):
        (found,) = tables(lake.storage)
        assert (found.first, found.last, found.fresh_until) == (at(5), at(5), None)
        lake.compact()


def test_a_topic_without_rows_has_no_times(tmp_path):
    lake = WrittenLake(tmp_path)
    (found,) = tables(lake.storage)
    assert (found.rows, found.files, found.first, found.fresh_until) == (0, 0, None, None)
    assert list(tables(LocalStorage(tmp_path / "nothing"))) == []
    lake.append()
    (found,) = tables(lake.storage)
    assert (found.rows, found.files, found.first) == (0, 1, None)


def test_quarantined_records_and_those_decoded_since_are_counted(lake):
    for offset in range(2):
        path = lake.root / f"quarantine/parcel/first-life/00000-{offset:020d}.avro"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    lake.requarantine(1, {"_time": at(100)})
    (found,) = tables(lake.storage)
    assert (found.quarantined, found.requarantined.rows, found.rows, found.last) == (2, 1, 6, at(100))


def test_of_main_only_files_of_the_first_and_the_last_date_are_opened(lake):
    read = []

    class Noted(LocalStorage):
        def open(self, key):
            read.append(key)
            return super().open(key)

    list(tables(Noted(lake.root)))
    assert [key for key in read if "dt=2026-11-28" in key] == []  # neither the first date nor the last
    assert [key for key in read if "dt=2026-11-25" in key]


def test_the_command_shows_them_as_columns_and_as_json(lake, tmp_path_factory, monkeypatch):
    file = tmp_path_factory.mktemp("config") / "waybill.yaml"
    file.write_text(
        f"kafka: {{bootstrap-servers: 'nowhere:1'}}\ndescriptors: d\nconsumers: []\nlake: {{root: '{lake.root}'}}\n"
    )
    monkeypatch.setenv("WAYBILL_CONFIG", str(file))
    shown = CliRunner().invoke(command.app, ["tables"]).stdout.splitlines()
    assert shown[0].split()[:4] == ["TOPIC", "ROWS", "FILES", "BYTES"]
    assert shown[1].split()[:3] == ["parcel", "5", "4"]
    (told,) = json.loads(CliRunner().invoke(command.app, ["tables", "--json"]).stdout)
    assert told["first"] == datetime(2026, 11, 25, 22, tzinfo=UTC).isoformat()
    assert (told["rows"], told["main"]["rows"], told["hot"]["rows"], told["quarantined"]) == (5, 3, 2, 0)
