"""Payloads to columns, one case at a time; test_lake_torture.py has all of them at random."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import lake_mapping
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from descriptors import compiled, every_kind, of_tests, pool_of
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.type import date_pb2, datetime_pb2, timeofday_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.problems import BadInput
from lake.columns import decode, schema
from lake.columns.decode import Decoder

EVERY_KIND = every_kind()
DECODER = Decoder(EVERY_KIND)
Message = GetMessageClass(EVERY_KIND)

STRAIGHT = of_tests("Straight")
Straight, Stop = GetMessageClass(STRAIGHT), GetMessageClass(of_tests("Stop"))


def column(name, *payloads):
    decoded = DECODER.decode([one if isinstance(one, bytes) else one.SerializeToString() for one in payloads])
    assert not decoded.bad
    return pa.Table.from_batches(decoded.batches)[name].to_pylist()


def test_a_time_that_protobuf_does_not_have_is_null_and_not_the_nearest_number():
    at = [Message(timestamp={"seconds": seconds}) for seconds in (2**62, 253_402_300_800, -62_135_596_801, -(2**63))]
    assert column("timestamp", *at, Message(timestamp={"seconds": 1})) == [
        *[None] * 4,
        datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC),
    ]
    for_long = [Message(duration={"seconds": seconds}) for seconds in (2**62, 315_576_000_001, -(2**63))]
    assert column("duration", *for_long, Message(duration={"seconds": -2, "nanos": -1000})) == [
        None,
        None,
        None,
        -2_000_001,
    ]
    assert column("timestamps", Message(timestamps=[{"seconds": 2**60}, {}])) == [
        [None, datetime(1970, 1, 1, tzinfo=UTC)]
    ]


def varint(number):
    found = b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])


def sent(number, value):
    """A field as it is on the wire: a varint, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value % 2**64)
    return varint(number << 3 | 2) + varint(len(value)) + value


def parts(message, *fields):
    """``message`` in pieces, each with one of the fields."""
    return [type(message)(**{field: getattr(message, field)}).SerializeToString() for field in fields]


AT = Straight(at={"seconds": 5, "nanos": 6_000}).at
STOP = Stop(name="a", distance=1.0, tags={"x": "y"})

#: Bytes of a Straight that few writers make, and what protobuf reads: columns that are not as in an empty one.
ODD = {
    "two members of a oneof": (sent(8, 5) + sent(10, b"x"), {"data": b"x"}),
    "two members, the other way": (sent(10, b"x") + sent(8, 5), {"count": 5}),
    "a member, another and the first again": (
        sent(9, Stop(name="a").SerializeToString()) + sent(8, 5) + sent(9, Stop(address="b").SerializeToString()),
        {"stop": {"name": "", "distance": None, "address": "b", "until": None, "tags": []}},
    ),
    "two members of a oneof in a list": (
        sent(11, sent(3, b"b") + b"\x11" + bytes(8)),
        {"stops": [{"name": "", "distance": 0.0, "address": None, "until": None, "tags": []}]},
    ),
    "two members of a oneof, one a time that is none": (
        sent(11, sent(3, b"b") + sent(4, sent(1, 2**62))),
        {"stops": [{"name": "", "distance": None, "address": None, "until": None, "tags": []}]},
    ),
    "two entries with one key": (
        sent(13, sent(1, 7) + b"\x11" + bytes(8)) + sent(13, sent(1, 7) + b"\x11" + bytes(6) + b"\xf0\x3f"),
        {"weights": [(7, 1.0)]},
    ),
    "an entry without its value": (
        sent(12, sent(1, b"k")),
        {"by_name": [("k", {"name": "", "distance": None, "address": None, "until": None, "tags": []})]},
    ),
    "an entry without its key": (sent(13, b"\x11" + bytes(6) + b"\xf0\x3f"), {"weights": [(0, 1.0)]}),
    "an entry without anything": (sent(13, b""), {"weights": [(0, 0.0)]}),
    "a time in two pieces": (b"".join(sent(5, part) for part in parts(AT, "seconds", "nanos")), {"at": 5_000_006}),
    "a time in two pieces, turned": (
        b"".join(sent(5, part) for part in parts(AT, "nanos", "seconds")),
        {"at": 5_000_006},
    ),
    "a wrapper in two pieces": (sent(7, sent(1, 5)) + sent(7, b""), {"note": 5}),
    "a message in two pieces": (
        b"".join(sent(9, part) for part in parts(STOP, "name", "distance", "tags")),
        {"stop": {"name": "a", "distance": 1.0, "address": None, "until": None, "tags": [("x", "y")]}},
    ),
    "a packed list one by one": (b"\x75\1\0\0\0\x75\2\0\0\0", {"marks": [1, 2]}),
    "a packed list in two pieces": (
        sent(14, b"\1\0\0\0") + b"\x75\3\0\0\0" + sent(14, b"\2\0\0\0"),
        {"marks": [1, 3, 2]},
    ),
    "a number in more bytes than it needs": (b"\x40\x81\x80\x80\x80\x80\x80\x80\x80\x80\0", {"count": 1}),
    "a tag in more bytes than it needs": (b"\xc0\x80\x80\x80\0\5", {"count": 5}),
    "a negative number in ten bytes": (sent(8, -1), {"count": -1}),
    "a negative number in five bytes": (b"\x40\xff\xff\xff\xff\x0f", {"count": -1}),
    "a number of 64 bits in a field of 32": (sent(8, 2**40 + 5), {"count": 5}),
    "a number of 65 bits": (b"\x40\x85" + b"\x80" * 8 + b"\2", {"count": 5}),
    "a bool above one": (sent(15, 2**40), {"maybe": True}),
    "a number that an enum does not have": (sent(4, 99), {"color": "99"}),
    "a negative number that an enum does not have": (sent(4, -3), {"color": "-3"}),
    "an enum's number above 32 bits": (sent(4, 2**32 + 1), {"color": "COLOR_RED"}),
    "a number for a text": (sent(1, 5), {}),
    "a text for a number": (sent(2, b"x"), {}),
    "a text for a message": (b"\x49" + bytes(8), {}),
    "a field twice": (sent(2, 2) + sent(2, 4), {"number": 2}),
    "fields that it does not have": (
        sent(999, 1) + sent(998, b"x") + b"\xbb\x3e\x08\1\xbc\x3e" + sent(2, 2),
        {"number": 1},
    ),
}
REFUSED = {
    "text that is no UTF-8": sent(1, b"\xff\xfe"),
    "half a surrogate": sent(1, b"\xed\xa0\x80"),
    "a key that is no UTF-8": sent(12, sent(1, b"\xff")),
    "a payload cut off": sent(1, b"abc")[:-1],
    "a length beyond the end": b"\x0a\xff\xff\xff\xff\x07",
    "a length that overflows": b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    "a number of eleven bytes": b"\x40" + b"\x80" * 10 + b"\1",
    "a tag of more than 32 bits": b"\xc0\x80\x80\x80\x80\x01\5",
    "a packed list with half a number": sent(14, bytes(6)),
    "an end without a group": b"\x3c",
    "a group that ends as another": b"\xbb\x3e\xc4\x3e",
    "a group without an end": b"\xbb\x3e\x08\1",
    "field number 0": b"\0\0",
}


@pytest.mark.parametrize("what", ODD)
def test_odd_bytes_are_what_protobuf_reads_alone_and_beside_others(what):
    payload, expected = ODD[what]
    decoder, empty = Decoder(STRAIGHT), lake_mapping.row(Straight())
    if isinstance(expected.get("at"), int):
        expected = {"at": datetime.fromtimestamp(0, UTC).replace(second=5, microsecond=6)}
    assert lake_mapping.row(Straight.FromString(payload)) == empty | expected
    for beside in ([], [Straight(id="other").SerializeToString()]):
        decoded = decoder.decode([payload, *beside])
        assert not decoded.bad
        assert pa.Table.from_batches(decoded.batches).to_pylist()[0] == empty | expected


@pytest.mark.parametrize("what", REFUSED)
def test_bytes_that_protobuf_refuses_are_bad_with_the_reason_and_what_is_beside_them_is_not(what):
    with pytest.raises(DecodeError) as refusal:
        Straight.FromString(REFUSED[what])
    good = Straight(id="other").SerializeToString()
    decoded = Decoder(STRAIGHT).decode([good, REFUSED[what], good])
    assert decoded.bad == {1: str(refusal.value)}
    assert pa.Table.from_batches(decoded.batches)["id"].to_pylist() == ["other"] * 2


def test_pieces_of_a_message_within_itself_are_put_together():
    inner = Message(int32=5).SerializeToString(), Message(string="a").SerializeToString()
    (found,) = column("itself", sent(21, inner[0]) + sent(21, inner[1]))
    assert Message.FromString(found) == Message(int32=5, string="a")


GROUPS = """
from descriptors import of_tests
from lake.columns.decode import Decoder
decoded = Decoder(of_tests("Straight")).decode([b"", bytes.fromhex("bb3e") * 400_000, b""])
print(list(decoded.bad), sum(batch.num_rows for batch in decoded.batches))
"""


def test_groups_within_each_other_without_end_do_not_end_the_process():
    tests = Path(__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-c", GROUPS],
        capture_output=True,
        check=False,
        text=True,
        cwd=tests.parent,
        env={"PYTHONPATH": f"{tests}:."},
    )
    assert (run.returncode, run.stdout) == (0, "[1] 2\n"), run.stderr


TRUNCATED, NOT_TEXT, GARBAGE = b"\x72\x7fabc", b"\x72\x02\xff\xfe", b"\xff" * 20


def test_bad_values_are_found_among_good_ones_and_the_good_ones_keep_their_order():
    payloads = [Message(int32=i).SerializeToString() for i in range(300)]
    for i, bad in {0: TRUNCATED, 41: NOT_TEXT, 42: GARBAGE, 299: TRUNCATED}.items():
        payloads[i] = bad
    decoded = DECODER.decode(payloads)
    assert set(decoded.bad) == {0, 41, 42, 299}
    assert all(decoded.bad.values())
    numbers = [number for batch in decoded.batches for number in batch["int32"].to_pylist()]
    assert numbers == [i for i in range(300) if i not in decoded.bad]


@given(st.lists(st.binary(max_size=40), max_size=30))
@settings(deadline=None, max_examples=30)
def test_every_value_becomes_a_row_or_is_bad(payloads):
    decoded = DECODER.decode(payloads)
    assert sum(batch.num_rows for batch in decoded.batches) + len(decoded.bad) == len(payloads)


def test_a_panic_of_the_decoder_is_no_end_of_what_protobuf_reads(monkeypatch):
    without_guard = decode.PtarsConfig(enum_repr="string", map_value_nullable=False)
    monkeypatch.setattr(decode, "_CONFIG", without_guard)
    decoded = Decoder(STRAIGHT).decode([b"", sent(12, sent(1, b"k")), b""])
    assert not decoded.bad
    assert [len(row) for row in pa.Table.from_batches(decoded.batches)["by_name"].to_pylist()] == [0, 1, 0]


def test_what_ptars_cannot_read_in_any_form_is_bad_and_all_else_is_not():
    old = of_tests("OldKind")
    key_no_text = sent(1, b"x") + sent(8, sent(1, b"\xff") + sent(2, 1))
    GetMessageClass(old).FromString(key_no_text)
    good = [sent(1, str(i).encode()) for i in range(9)]
    decoded = Decoder(old).decode([*good[:5], key_no_text, *good[5:]])
    assert list(decoded.bad) == [5]
    assert "invalid UTF-8" in decoded.bad[5]
    assert pa.Table.from_batches(decoded.batches)["id"].to_pylist() == [str(i) for i in range(9)]


def test_other_errors_of_the_decoder_are_not_swallowed(monkeypatch):
    with pytest.raises(TypeError):
        DECODER.decode(["text"])
    decoder = Decoder(STRAIGHT)
    monkeypatch.setattr(decoder, "_handler", None)
    with pytest.raises(AttributeError):
        decoder.decode([b""])


def google_types():
    pool = pool_of(b"")
    file = FileDescriptorProto(name="dates.proto", package="lake_test", syntax="proto3")
    message = file.message_type.add(name="Dates")
    for number, (name, module) in enumerate(
        [("Date", date_pb2), ("TimeOfDay", timeofday_pb2), ("DateTime", datetime_pb2)], 1
    ):
        file.dependency.append(module.DESCRIPTOR.name)
        message.field.add(
            name=name.lower(), number=number, type=Field.TYPE_MESSAGE, label=1, type_name=f".google.type.{name}"
        )
        for needed in [*module.DESCRIPTOR.dependencies, module.DESCRIPTOR]:
            pool.AddSerializedFile(needed.serialized_pb)
    pool.Add(file)
    return pool.FindMessageTypeByName("lake_test.Dates")


def test_a_date_without_a_day_stays_one():
    dates = google_types()
    sent = GetMessageClass(dates)(date={"year": 2024, "month": 5}, timeofday={"hours": 24})
    (batch,) = Decoder(dates).decode([sent.SerializeToString()]).batches
    assert batch["date"].to_pylist() == [{"year": 2024, "month": 5, "day": 0}]
    assert batch["timeofday"].to_pylist() == [{"hours": 24, "minutes": 0, "seconds": 0, "nanos": 0}]


def described(*fields, more=()):
    """A message of fields (name, number, type)."""
    file = FileDescriptorProto(name="odd.proto", package="odd", syntax="proto3")
    for name, inner in {"Event": fields, **dict(more)}.items():
        message = file.message_type.add(name=name)
        for field, number, kind in inner:
            one = message.field.add(name=field, number=number, label=1)
            if isinstance(kind, str):
                one.type, one.type_name = Field.TYPE_MESSAGE, f".odd.{kind}"
            else:
                one.type = kind
    pool = DescriptorPool()
    pool.Add(file)
    return pool.FindMessageTypeByName("odd.Event")


def nested(depth):
    more = {f"M{i}": [("n", 1, Field.TYPE_INT32), ("m", 2, f"M{i + 1}")] for i in range(depth)}
    more[f"M{depth}"] = [("n", 1, Field.TYPE_INT32)]
    return described(("m", 1, "M0"), more=more)


INT = Field.TYPE_INT32
UNREADABLE = {
    "a high number": (lambda: described(("a", 2**29 - 1, INT)), r"the number of odd\.Event\.a is above 1000000"),
    "names that differ in case": (lambda: described(("foo", 1, INT), ("FOO", 2, INT)), "two columns named foo"),
    "names that differ in case, inside": (
        lambda: described(("i", 1, "I"), more={"I": [("a_b", 1, INT), ("A_B", 2, INT)]}),
        r"odd\.I has two fields named a_b",
    ),
    "a name as the lake's, and what becomes of it": (
        lambda: described(("_topic", 3, INT), ("_topic_3", 4, INT)),
        "two columns named _topic_3",
    ),
    "too deep": (lambda: nested(70), "Recursion level .* too deep"),
}
WRITTEN = {
    "a group": 'syntax = "proto2"; package odd; message Event { repeated group Line = 3 { optional uint64 n = 1; } }',
    "a group, too": """edition = "2023"; package odd;
        message L {} message Event { L l = 1 [features.message_encoding = DELIMITED]; }""",
    "the first value must be zero": """edition = "2023"; package odd;
        enum E { option features.enum_type = CLOSED; E_ONE = 1; }
        message Event { int32 a = 1 [features.field_presence = IMPLICIT]; E e = 2; }""",
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_message_that_cannot_be_a_table_is_refused(what):
    make, reason = UNREADABLE[what]
    with pytest.raises(BadInput, match=rf"the lake cannot decode odd\.Event: .*{reason}"):
        Decoder(make())


@pytest.mark.parametrize("what", WRITTEN)
def test_a_message_that_ptars_would_not_read_right_is_refused(tmp_path, what):
    (tmp_path / "odd.proto").write_text(WRITTEN[what])
    with pytest.raises(BadInput, match=rf"cannot decode odd\.Event: .*{what.removesuffix(', too')}"):
        Decoder(pool_of(compiled(tmp_path)).FindMessageTypeByName("odd.Event"))


#: What Arrow, Parquet or a reader has a meaning of its own for.
SPECIAL = (
    "list element key value key_value map struct items item array entries offset null select true index a_b schema"
)
LARGE = {
    "1,000 fields": lambda: described(*((f"f{i}", i + 1, [INT, Field.TYPE_STRING][i % 2]) for i in range(1_000))),
    "60 messages in each other": lambda: nested(58),
    "a field with the highest number": lambda: described(("a", 1_000_000, INT)),
    "no fields": described,
    "names that others use": lambda: described(
        *((name, i, "I") for i, name in enumerate(SPECIAL.split(), 1)),
        more={"I": [(name, i, INT) for i, name in enumerate(SPECIAL.split(), 1)]},
    ),
}


@pytest.mark.parametrize("what", LARGE)
def test_a_large_or_strange_message_is_a_table_that_readers_read(tmp_path, what):
    event = LARGE[what]()
    decoded = Decoder(event).decode([b"", b""])
    table = pa.Table.from_batches(decoded.batches)
    assert table.num_rows == 2
    pq.write_table(table, tmp_path / "one.parquet")
    assert pq.read_table(tmp_path / "one.parquet").equals(table)
    found = duckdb.read_parquet(str(tmp_path / "one.parquet"))
    assert found.columns == schema.event_schema(event).names
    assert len(found.fetchall()) == 2


PRESENCE = """
  string id = 1;
  Closed closed = 2;
  Inner inner = 3;
  repeated Closed many = 4;
  oneof choice { int32 number = 5; string text = 6; }
  map<string, Inner> inners = 7;
  string bytes_as_text = 8 [features.utf8_validation = NONE];
  int32 needed = 9 [features.field_presence = LEGACY_REQUIRED];
"""
EDITIONS = {
    "all with presence": ("", {"id": None, "closed": None, "needed": None}),
    "some without": (
        "int32 plain = 20 [features.field_presence = IMPLICIT];",
        {"id": None, "closed": None, "needed": None, "plain": 0},
    ),
}


@pytest.mark.parametrize("what", EDITIONS)
def test_a_file_of_an_edition_is_read_as_it_says(tmp_path, what):
    more, absent = EDITIONS[what]
    (tmp_path / "new.proto").write_text(
        f"""edition = "2023"; package new;
        enum Closed {{ option features.enum_type = CLOSED; CLOSED_ZERO = 0; CLOSED_ONE = 1; }}
        message Inner {{ int32 n = 1; }}
        message Event {{ {PRESENCE} {more} extensions 100 to 200; }}"""
    )
    event = pool_of(compiled(tmp_path)).FindMessageTypeByName("new.Event")
    full = GetMessageClass(event)(id="", closed=1, inner={"n": 0}, text="", inners={"a": {}}, many=[1, 0], needed=0)
    sent_ = [b"", full.SerializeToString(), sent(2, 9) + sent(4, 9) + sent(4, 1), sent(8, b"a\xffb")]
    decoded = Decoder(event).decode(sent_)
    assert not decoded.bad
    rows = pa.Table.from_batches(decoded.batches).to_pylist()
    assert rows == [lake_mapping.row(GetMessageClass(event).FromString(one)) for one in sent_]
    assert {name: rows[0][name] for name in absent} == absent
    assert (rows[2]["closed"], rows[2]["many"]) == (None, ["CLOSED_ONE"])
    assert rows[3]["bytes_as_text"] == "a\\xffb"


def test_a_proto2_message_decodes_with_presence(tmp_path):
    (tmp_path / "old.proto").write_text(
        'syntax = "proto2"; package old; message Event { required int32 z = 9; optional string a = 1 [default = "x"]; }'
    )
    event = pool_of(compiled(tmp_path)).FindMessageTypeByName("old.Event")
    (batch,) = Decoder(event).decode([GetMessageClass(event)(z=5).SerializeToString(), b""]).batches
    assert batch.to_pylist() == [{"a": None, "z": 5}, {"a": None, "z": None}]
