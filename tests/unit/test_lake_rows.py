import io
import time
from datetime import UTC, datetime

import fastavro
import pyarrow as pa
import pytest
from aiokafka.structs import ConsumerRecord
from descriptors import every_kind
from effort import examples
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.schemas import EventType
from lake.hot.quarantine import container
from lake.hot.rows import Rejected, RowBuilder
from lake.segments import Chain

EVENT = EventType("every_kind", "lake_test.v1.EveryKind", "", every_kind())
BUILDER = RowBuilder(EVENT)
CHAIN = Chain("every_kind", "some-topic-id", 3)
PAYLOAD = GetMessageClass(EVENT.descriptor)(int32=5).SerializeToString()
HEADERS = (
    ("ce_id", b"0192"),
    ("ce_type", b"lake_test.v1.EveryKind"),
    ("ce_source", b"packages"),
    ("x", None),
    ("x", b"\xff"),
)


def record(offset, value=PAYLOAD, headers=HEADERS, key=b"key", timestamp=1_700_000_000_123):
    return ConsumerRecord("every_kind", 3, offset, timestamp, 0, key, value, None, 0, 0, headers)


def rows(*records):
    batches, rejected = BUILDER.build(CHAIN, records)
    assert not rejected
    return pa.Table.from_batches(batches).to_pylist()


def test_a_row_holds_the_event_and_all_that_the_record_said():
    (row,) = rows(record(17))
    assert row["int32"] == 5
    assert {name: value for name, value in row.items() if name.startswith("_")} == {
        "_topic": "every_kind",
        "_epoch": "some-topic-id",
        "_partition": 3,
        "_offset": 17,
        "_timestamp": datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC),
        "_time": None,
        "_key": b"key",
        "_event_id": "0192",
        "_event_type": "lake_test.v1.EveryKind",
        "_source": "packages",
        "_headers": [
            ("ce_id", b"0192"),
            ("ce_type", b"lake_test.v1.EveryKind"),
            ("ce_source", b"packages"),
            ("x", None),
            ("x", b"\xff"),
        ],
        "_raw": PAYLOAD,
    }


@pytest.fixture
def far_from_utc(monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"2026-11-28T18:54:01.123456Z", datetime(2026, 11, 28, 18, 54, 1, 123456, UTC)),
        (b"2026-11-28T20:54:01+02:00", datetime(2026, 11, 28, 18, 54, 1, tzinfo=UTC)),
        (b"2026-11-28T18:54:01.123456789Z", datetime(2026, 11, 28, 18, 54, 1, 123456, UTC)),
        (b"2026-11-28T18:54:01.5", datetime(2026, 11, 28, 18, 54, 1, 500000, UTC)),
        (b"2026-11-28", datetime(2026, 11, 28, tzinfo=UTC)),
        (b"0001-01-01T00:00:00+23:59", None),
        (b"yesterday", None),
        (b"\xff", None),
    ],
)
@pytest.mark.usefixtures("far_from_utc")
def test_the_time_of_an_event_is_the_header_s_and_null_where_that_is_none(sent, kept):
    first = record(1, headers=(("ce_time", b"2026-01-01T00:00:00Z"),))
    alone = rows(record(1, headers=(("ce_time", sent),)))
    beside = rows(first, record(2, headers=(("ce_time", sent),)))
    assert [row["_time"] for row in alone + beside] == [kept, datetime(2026, 1, 1, tzinfo=UTC), kept]


SMALL = RowBuilder(EventType("small", "google.protobuf.Timestamp", "", Timestamp.DESCRIPTOR))
TIMES = st.from_regex(
    r"(0000|0001|2026|9999)-(02|12)-(01|28|29|31)[T ](00|23|24):(00|59)(:(00|59|60)(\.[0-9]{0,7})?)?"
    r"(Z|[+-](00|05|23|24):?(00|30|60)?|)",
    fullmatch=True,
)
VALUES = st.none() | st.sampled_from(["", "7", "google.protobuf.Timestamp", "\0", "é"]) | TIMES
NAMES = st.sampled_from(["ce_id", "ce_type", "ce_source", "ce_time", "x"])
ALIKE = st.lists(NAMES, max_size=5).flatmap(
    lambda names: st.lists(st.tuples(*(st.tuples(st.just(name), VALUES) for name in names)), min_size=1, max_size=4)
)
MIXED = st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=4).map(tuple), max_size=4)


@settings(max_examples=examples(300))
@given(ALIKE | MIXED, st.booleans())
def test_what_a_record_becomes_does_not_depend_on_the_headers_of_those_beside_it(several, bad):
    records = [
        record(i, b"", headers=tuple((name, value and value.encode()) for name, value in headers))
        for i, headers in enumerate(several)
    ]
    if bad and records:
        records[0] = record(0, b"", headers=(("ce_id", b"\xff"), ("ce_time", b"\xff")))
    together, rejected = SMALL.build(CHAIN, records)
    alone = [SMALL.build(CHAIN, [one]) for one in records]
    assert [one for _, them in alone for one in them] == rejected
    found = [row for batch in together for row in batch.to_pylist()]
    assert found == [row for batches, _ in alone for batch in batches for row in batch.to_pylist()]


def test_a_record_without_headers_or_key_is_a_row_that_its_place_identifies():
    (row,) = rows(record(17, headers=(), key=None, value=b""))
    assert row["_event_id"] == "every_kind/3/17"
    assert row["_event_type"] == "lake_test.v1.EveryKind"
    assert (row["_key"], row["_source"], row["_headers"], row["_raw"], row["int32"]) == (None, None, [], b"", 0)


def test_a_header_that_is_no_text_does_not_stop_the_lake():
    (row,) = rows(record(17, headers=(("ce_id", b"\xff\xfe"), ("ce_source", b"\xc3"))))
    assert (row["_event_id"], row["_source"]) == ("\\xff\\xfe", "\\xc3")
    assert dict(row["_headers"])["ce_id"] == b"\xff\xfe"


def test_of_headers_with_one_name_the_first_counts_and_all_are_kept():
    (row,) = rows(record(17, headers=(("ce_id", b"1"), ("ce_id", b"2"))))
    assert row["_event_id"] == "1"
    assert row["_headers"] == [("ce_id", b"1"), ("ce_id", b"2")]


@pytest.mark.parametrize("timestamp", [-1, -(2**62), 2**62, 253_402_300_800_000])
def test_a_time_that_no_reader_could_show_is_null(timestamp):
    (row,) = rows(record(17, timestamp=timestamp))
    assert row["_timestamp"] is None


REJECTED = {
    "null": (None, HEADERS, "no payload: the record's value is null"),
    "not protobuf": (b"\xff" * 20, HEADERS, "Error parsing message"),
    "another type": (
        b"",
        (("ce_type", b"other.v1.Event"),),
        "unexpected type: 'other.v1.Event' on a topic of lake_test.v1.EveryKind",
    ),
}


@pytest.mark.parametrize("what", REJECTED)
def test_a_record_that_cannot_be_a_row_is_rejected_with_the_reason_and_the_others_are_not(what):
    value, headers, reason = REJECTED[what]
    bad = record(18, value=value, headers=headers)
    batches, rejected = BUILDER.build(CHAIN, [record(17), bad, record(19)])
    assert pa.Table.from_batches(batches)["_offset"].to_pylist() == [17, 19]
    assert [one.record for one in rejected] == [bad]
    assert reason in rejected[0].error


def test_rejected_records_of_several_kinds_keep_their_order():
    bad = [record(i, value=(None, b"\xff" * 9)[i % 2]) for i in range(6)]
    batches, rejected = BUILDER.build(CHAIN, bad)
    assert batches == []
    assert [one.record.offset for one in rejected] == list(range(6))


@pytest.mark.parametrize("value", [None, b"", b"\xff\x00"])
def test_a_quarantine_container_gives_the_whole_record_back(value):
    bad = record(17, value=value, key=None, timestamp=-1)
    (read,) = fastavro.reader(io.BytesIO(container(CHAIN, EVENT.name, Rejected(bad, "why"))))
    assert read == {
        "topic": "every_kind",
        "topic_id": "some-topic-id",
        "partition": 3,
        "offset": 17,
        "timestamp_ms": -1,
        "event_type": EVENT.name,
        "error": "why",
        "key": None,
        "value": value,
        "headers": [{"name": name, "value": value} for name, value in HEADERS],
    }
