"""``waybill lake compact``, as those who run it see it."""

import json

import pytest
from lake_world import event
from structlog.testing import capture_logs
from typer.testing import CliRunner
from whole_lake import WholeLake, record

from lake import layout
from lake.storage.local import LocalStorage
from pipelines.cli import lake as command

EVENT = event("part")


@pytest.fixture
def lake(tmp_path, monkeypatch):
    monkeypatch.setenv("WAYBILL_LAKE_ROOT", str(tmp_path))
    storage = LocalStorage(tmp_path)
    layout.prepare(storage, [EVENT])
    return WholeLake(storage, EVENT)


def run(*arguments):
    with capture_logs():
        return CliRunner().invoke(command.app, ["compact", *arguments])


def test_a_line_for_each_topic_says_what_was_done(lake):
    lake.write((0, 2, [record(0), record(1)]), (1, 1, [record(0, partition=1)]))

    words = [line.split() for line in run("--all").stdout.splitlines()]
    assert words[0] == ["TOPIC", "STEPS", "SEGMENTS", "ROWS", "FILES", "BYTES", "REMOVED", "WAITING"]
    assert [line[:5] + line[6:] for line in words[1:]] == [["part", "1", "2", "3", "1", "0", "0"]]


def test_what_is_not_due_waits(lake):
    lake.write((0, 20_000, [record(at, day=365_000 // 7) for at in range(2)]))

    [told] = json.loads(run("part", "--json").stdout)
    assert told == {
        "topic": "part", "steps": 0, "segments": 0, "rows": 0, "files": 0, "bytes": 0, "removed": 0, "waiting": 1,
        "problems": [],
    }  # fmt: skip


def test_a_problem_of_a_topic_is_told_and_ends_it_with_1(lake):
    for end in (1, 2, 3):
        lake.write((0, end, [record(end - 1)]))
    lake.storage.delete(f"hot/part/first-life/00000-{1:020d}.parquet")

    done = run("--all", "--json")
    assert done.exit_code == 1
    assert "no segment of part[0] (epoch first-life) begins at offset 1" in done.stderr
    assert json.loads(done.stdout)[0]["rows"] == 1


@pytest.mark.usefixtures("lake")
def test_a_topic_that_is_not_there_is_refused_by_name():
    assert "has no topic parts" in str(run("parts").exception)
