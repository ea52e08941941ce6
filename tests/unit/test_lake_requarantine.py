"""Records that the real sink put into quarantine, decoded again."""

import json
import threading
from collections import Counter

import pyarrow.parquet as pq
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from typer.testing import CliRunner
from whole_lake import EVENT, TOPIC, Message, local_lake, record

from connectors import schemas
from connectors.schemas import Catalog, EventType
from lake.hot.rows import RowBuilder
from lake.proof import inventory, requarantine, verify
from lake.proof.requarantine import MISSING, plan
from lake.segments import Chain
from lake.storage.local import LocalStorage
from pipelines.cli import lake as command

NO_TEXT = b"\x12\x01\xff"  # field 2 is a string
FAILS_STILL = b"\xff" * 9
OTHER_TYPE = "lake_test.v1.Other"


def fixed(name: str = EVENT.name) -> EventType:
    """The same event type after somebody has seen that its field 2 holds bytes."""
    file = FileDescriptorProto(name="fixed.proto", package="lake_test.v1", syntax="proto3")
    message = file.message_type.add(name=name.rpartition(".")[2])
    message.field.add(name="number", number=1, type=5, label=1)
    message.field.add(name="text", number=2, type=12, label=1)
    pool = DescriptorPool()
    pool.Add(file)
    return EventType(TOPIC, name, "", pool.FindMessageTypeByName(name))


@pytest.fixture
def lake(tmp_path):
    """In quarantine: 1, 4, 7, 10 and 13 that decode after the fix, 2 of another type, 3 and 5 of no type at all."""
    lake = local_lake(tmp_path)
    values = dict.fromkeys((1, 4, 7, 10, 13), NO_TEXT) | {3: FAILS_STILL}
    records = [record(offset, values.get(offset)) for offset in range(15) if offset not in {2, 5}]
    strangers = [record(2, ce_type=OTHER_TYPE), record(5, FAILS_STILL, ce_type=OTHER_TYPE)]
    lake.write((0, 15, sorted([*records, *strangers], key=lambda one: one.offset)))
    return lake


def again(lake, event=None, storage=None):
    return requarantine.requarantine(storage or lake.storage, event or fixed())


def rows(lake):
    return [row for path in lake.files(f"requarantined/{TOPIC}/*") for row in pq.read_table(path).to_pylist()]


def offsets(lake):
    return [(row["_partition"], row["_offset"]) for row in rows(lake)]


RIGHT = [(0, offset) for offset in (1, 4, 7, 10, 13)]


def test_a_plan_says_what_would_decode_and_why_the_rest_would_not_and_writes_nothing(lake):
    told = plan(lake.storage, fixed())
    assert (told.quarantined, told.done, told.decoded) == (8, 0, 5)
    assert told.types == Counter({EVENT.name: 5})
    assert sorted(told.causes.values()) == [1, 2]
    assert told.causes[f"unexpected type: {OTHER_TYPE!r} on a topic of {EVENT.name}"] == 2
    assert [one.record.offset for one in told.samples] == [1, 4, 7, 10, 13]
    assert lake.files("requarantined/**/*") == []


def test_with_the_catalog_as_it_was_everything_stays(lake):
    assert again(lake, EVENT).decoded == 0
    assert lake.files("requarantined/**/*") == []


def test_records_that_decode_now_become_rows_like_any_other_and_stay_in_quarantine(lake):
    before = lake.files("quarantine/**/*")
    told = again(lake)
    assert told.files == {f"requarantined/{TOPIC}/{1:012d}.parquet": 5}
    assert offsets(lake) == RIGHT
    (path,) = lake.files("requarantined/*/*")
    assert pq.read_schema(path).equals(RowBuilder(fixed()).schema)
    row = rows(lake)[0]
    assert (row["_epoch"], row["_topic"], row["_raw"], row["_key"]) == ("first-life", TOPIC, NO_TEXT, b"key")
    assert row["text"] == b"\xff"
    assert lake.files("quarantine/**/*") == before
    assert verify.verify(lake.storage, TOPIC).findings == ()


def test_done_again_it_changes_nothing(lake):
    again(lake)
    told = again(lake)
    assert (told.quarantined, told.done, told.decoded, told.files) == (8, 5, 0, {})
    assert offsets(lake) == RIGHT


def test_records_of_a_type_that_is_now_the_topics_own_become_rows(lake):
    told = again(lake, fixed(OTHER_TYPE))
    assert (told.decoded, sum(told.causes.values())) == (6, 2)  # those without a type decode as well
    assert offsets(lake) == sorted([*RIGHT, (0, 2)])
    assert {row["_event_type"] for row in rows(lake)} == {OTHER_TYPE}


def test_records_whose_segments_are_in_main_are_found_and_containers_of_no_segment_are_not(lake):
    lake.compact()
    lake.segment(0).rename(lake.root / "away")
    lake.write((1, 5, [record(offset, partition=1) for offset in range(5)]))
    left_over = lake.container(3, partition=1)
    left_over.write_bytes(lake.container(4).read_bytes())
    assert inventory.quarantined(lake.storage, TOPIC) == {Chain(TOPIC, "first-life", 0): [1, 2, 3, 4, 5, 7, 10, 13]}
    again(lake)
    assert offsets(lake) == RIGHT


def test_a_missing_container_is_a_cause_like_others(lake):
    lake.container(7).unlink()
    told = again(lake)
    assert (told.causes[MISSING], told.decoded) == (1, 4)


@pytest.fixture
def small(monkeypatch):
    """Files of two rows."""
    monkeypatch.setattr(requarantine, "CHUNK_RECORDS", 1)
    monkeypatch.setattr(requarantine, "FILE_ROWS", 2)


@pytest.mark.usefixtures("small")
def test_many_records_become_many_files(lake):
    told = again(lake)
    assert [pq.read_metadata(path).num_rows for path in lake.files("requarantined/*/*")] == [2, 2, 1]
    assert [key.rpartition("/")[2] for key in told.files] == [f"{number:012d}.parquet" for number in (1, 2, 3)]
    assert offsets(lake) == RIGHT


@pytest.mark.usefixtures("small")
def test_after_a_crash_between_two_files_the_rest_is_done(lake):
    class Fails(LocalStorage):
        left = 1

        def create(self, source, key):
            if not self.left:
                raise OSError("no space left")
            self.left -= 1
            return super().create(source, key)

    with pytest.raises(OSError, match="no space"):
        again(lake, storage=Fails(lake.root))
    assert len(offsets(lake)) == 2
    assert not list(lake.root.glob("spool/*/.*.tmp"))
    again(lake)
    assert offsets(lake) == RIGHT


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("files_before", [0, 1, 2])
def test_who_loses_a_race_leaves_out_what_the_winner_has(lake, monkeypatch, files_before):
    class Overtaken(LocalStorage):
        created = 0

        def create(self, source, key):
            if self.created == files_before:  # another one does it all, in larger files
                monkeypatch.setattr(requarantine, "FILE_ROWS", 3)
                again(lake)
            self.created += 1
            return super().create(source, key)

    again(lake, storage=Overtaken(lake.root))
    assert offsets(lake) == RIGHT


@pytest.mark.usefixtures("small")
def test_many_at_a_time_make_every_row_once(lake):
    for start in range(15, 75, 15):
        lake.write((0, start + 15, [record(offset, NO_TEXT) for offset in range(start, start + 15)]))
    outcomes, barrier = [], threading.Barrier(4)

    def work():
        barrier.wait()
        outcomes.append(again(lake, storage=LocalStorage(lake.root)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(offsets(lake)) == sorted([*RIGHT, *((0, offset) for offset in range(15, 75))])
    assert len(outcomes) == 4
    assert verify.verify(lake.storage, TOPIC).findings == ()


@pytest.fixture
def waybill(lake, tmp_path_factory, monkeypatch):
    """The command line, with a catalog whose event type is mended."""
    file = tmp_path_factory.mktemp("config") / "waybill.yaml"
    file.write_text(
        f"kafka: {{bootstrap-servers: 'nowhere:1'}}\ndescriptors: d\nconsumers: []\nlake: {{root: '{lake.root}'}}\n"
    )
    monkeypatch.setenv("WAYBILL_CONFIG", str(file))
    monkeypatch.setattr(schemas, "load", lambda _: Catalog((fixed(),), ()))

    def run(*arguments, code=0):
        result = CliRunner().invoke(command.app, arguments)
        assert result.exit_code == code, result.output
        return result.stdout

    return run


def test_the_command_shows_a_plan_and_does_it_when_told(lake, waybill):
    shown = waybill("requarantine")
    assert f"{TOPIC}: 8 in quarantine, 0 decoded again before, 5 would decode now" in shown
    assert "such as 0/1: " in shown
    assert f"2 stay: unexpected type: '{OTHER_TYPE}'" in shown
    assert offsets(lake) == []
    assert "5 decoded now" in waybill("requarantine", TOPIC, "--yes")
    (told,) = json.loads(waybill("requarantine", "--json"))
    assert (told["quarantined"], told["done_before"], told["decoded"], sum(told["causes"].values())) == (8, 5, 0, 3)


def test_quarantine_is_listed_by_cause(waybill):
    waybill("requarantine", "--yes")
    groups = json.loads(waybill("quarantine", "ls", "--json"))
    assert [(one["records"], one["decoded_again"], one["first"], one["last"]) for one in groups] == [
        (5, 5, "0/1", "0/13"),
        (2, 0, "0/2", "0/5"),
        (1, 0, "0/3", "0/3"),
    ]
    assert "0/13" in waybill("quarantine", "ls", TOPIC)


def test_a_quarantined_record_is_shown_whole(waybill):
    (told,) = json.loads(waybill("quarantine", "show", TOPIC, "0", "2", "--json"))
    assert told["headers"] == [["ce_type", OTHER_TYPE]]
    assert (told["size"], told["first_bytes"]) == (2, Message(number=2).SerializeToString().hex(" "))
    assert told["error"].startswith("unexpected type")
    shown = waybill("quarantine", "show", TOPIC, "0", "3")
    assert "ff ff ff ff ff ff ff ff ff" in shown
    assert waybill("quarantine", "show", TOPIC, "0", "6", code=1) == ""


def test_a_whole_lake_verifies_with_exit_code_0_and_a_broken_one_with_1(lake, waybill):
    shown = waybill("verify", "--no-kafka")
    assert shown.splitlines()[1].split() == [TOPIC, "7", "1", "15", "8", "0", "-", "yes"]
    lake.container(2).unlink()
    shown = waybill("verify", "--no-kafka", code=1)
    assert "quarantine: restore the container" in shown
    assert "part[0] epoch first-life, offset 2: quarantine/part/first-life/00000-" in shown
    (told,) = json.loads(waybill("verify", TOPIC, "--no-kafka", "--json", code=1))
    assert not told["ok"]
    assert [(one["kind"], one["start"]) for one in told["findings"]] == [("quarantine", 2)]
