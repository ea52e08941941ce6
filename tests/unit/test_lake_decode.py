"""Payloads to columns, over every kind of field; the reference is protobuf's own reflection."""

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from descriptors import compiled, every_kind, pool_of
from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message_factory import GetMessageClass
from google.type import date_pb2, datetime_pb2, timeofday_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.problems import BadInput
from lake import decode, schema
from lake.decode import Decoder

EVERY_KIND = every_kind()
DECODER = Decoder(EVERY_KIND)
Message = GetMessageClass(EVERY_KIND)

INT32, INT64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
UINT32, UINT64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
SCALARS = {
    Field.TYPE_DOUBLE: st.floats(allow_nan=False),
    Field.TYPE_FLOAT: st.floats(allow_nan=False, width=32),
    Field.TYPE_INT32: INT32,
    Field.TYPE_SINT32: INT32,
    Field.TYPE_SFIXED32: INT32,
    Field.TYPE_INT64: INT64,
    Field.TYPE_SINT64: INT64,
    Field.TYPE_SFIXED64: INT64,
    Field.TYPE_UINT32: UINT32,
    Field.TYPE_FIXED32: UINT32,
    Field.TYPE_UINT64: UINT64,
    Field.TYPE_FIXED64: UINT64,
    Field.TYPE_BOOL: st.booleans(),
    Field.TYPE_STRING: st.text(max_size=5),
    Field.TYPE_BYTES: st.binary(max_size=5),
}


def values(field, depth):
    if field.enum_type is not None:
        return st.sampled_from([*field.enum_type.values_by_number, 7, 2**31 - 1, -(2**31)])
    if field.message_type is not None:
        return messages(field.message_type, depth - 1)
    return SCALARS[field.type]


@st.composite
def messages(draw, descriptor, depth=3):
    message = GetMessageClass(descriptor)()
    if descriptor.full_name == "google.protobuf.Timestamp":
        message.seconds = draw(st.integers(-62_135_596_800, 253_402_300_799))
        message.nanos = draw(st.integers(0, 999_999_999))
        return message
    if descriptor.full_name == "google.protobuf.Duration":
        message.FromNanoseconds(draw(st.integers(-(2**63), 2**63)))
        return message
    fields = [field for field in descriptor.fields if depth or field.message_type is None]
    for field in draw(st.lists(st.sampled_from(fields), max_size=6, unique=True)) if fields else []:
        put(message, field, draw, depth)
    return message


def put(message, field, draw, depth):
    if entry := schema.map_entry(field):
        key, value = entry.fields_by_number[1], entry.fields_by_number[2]
        for k, v in draw(st.dictionaries(values(key, depth), values(value, depth), max_size=2)).items():
            if value.message_type is None:
                getattr(message, field.name)[k] = v
            else:
                getattr(message, field.name)[k].CopyFrom(v)
    elif field.is_repeated:
        getattr(message, field.name).extend(draw(st.lists(values(field, depth), max_size=3)))
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(draw(values(field, depth)))
        getattr(message, field.name).SetInParent()
    else:
        setattr(message, field.name, draw(values(field, depth)))


def assert_same_message(row, message, above=frozenset()):
    descriptor = message.DESCRIPTOR
    above |= {descriptor.full_name}
    assert list(row) == [field.name for field in sorted(descriptor.fields, key=lambda field: field.number)]
    for field in descriptor.fields:
        assert_same_field(row[field.name], message, field, above)


def assert_same_field(found, message, field, above):
    if field.has_presence and not message.HasField(field.name):
        assert found is None
        return
    sent = getattr(message, field.name)
    if entry := schema.map_entry(field):
        key, value = entry.fields_by_number[1], entry.fields_by_number[2]
        assert len(found) == len(sent)
        by_key = dict(found)
        for k, v in sent.items():
            assert_same_value(by_key[Decimal(k) if key.type == Field.TYPE_UINT64 else k], v, value, above)
    elif field.is_repeated:
        assert len(found) == len(sent)
        for one, other in zip(found, sent, strict=True):
            assert_same_value(one, other, field, above)
    else:
        assert_same_value(found, sent, field, above)


def assert_same_value(found, sent, field, above):
    if field.enum_type is not None:
        names = [value.name for value in field.enum_type.values if value.number == sent]
        assert found == (names[0] if names else str(sent))
    elif field.message_type is None:
        assert found == sent
    elif (name := field.message_type.full_name) == "google.protobuf.Timestamp":
        whole = timedelta(seconds=sent.seconds, microseconds=sent.nanos // 1000)
        assert found == datetime(1970, 1, 1, tzinfo=UTC) + whole
    elif name == "google.protobuf.Duration":
        assert found == int(Decimal(sent.ToNanoseconds()) / 1000)
    elif (
        name.startswith("google.protobuf.") and name.endswith("Value") and "value" in field.message_type.fields_by_name
    ):
        assert found == sent.value
    elif name in above:
        assert type(sent).FromString(found) == sent
    elif not field.message_type.fields:
        assert found == {"_present": True}
    else:
        assert_same_message(found, sent, above)


@given(st.lists(messages(EVERY_KIND), min_size=1, max_size=4))
@settings(deadline=None, max_examples=30)
def test_every_value_comes_back_from_parquet_as_the_mapping_says(tmp_path_factory, sent):
    decoded = DECODER.decode([message.SerializeToString() for message in sent])
    assert not decoded.bad
    file = tmp_path_factory.getbasetemp() / "every_kind.parquet"
    table = pa.Table.from_batches(decoded.batches)
    table.validate(full=True)
    pq.write_table(table, file)
    read = pq.read_table(file)
    assert read.schema.equals(DECODER.schema)
    for row, message in zip(read.to_pylist(), sent, strict=True):
        assert_same_message(row, message)


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


def test_a_map_entry_without_its_value_is_a_null_and_no_panic():
    no_value = bytes.fromhex("aa05020801")  # bool_to_message, an entry with the key alone
    assert (
        Message.FromString(no_value).bool_to_message[True]
        == GetMessageClass(EVERY_KIND.fields_by_name["message"].message_type)()
    )
    assert column("bool_to_message", no_value) == [[(True, None)]]


def test_not_a_number_survives():
    (found,) = column("float", Message(float=float("nan")))
    assert math.isnan(found)


TRUNCATED, NOT_TEXT, GARBAGE = b"\x72\x7fabc", b"\x72\x02\xff\xfe", b"\xff" * 20


def test_bad_values_are_found_among_good_ones_and_the_good_ones_keep_their_order():
    payloads = [Message(int32=i).SerializeToString() for i in range(100)]
    for i, bad in {0: TRUNCATED, 41: NOT_TEXT, 42: GARBAGE, 99: TRUNCATED}.items():
        payloads[i] = bad
    decoded = DECODER.decode(payloads)
    assert set(decoded.bad) == {0, 41, 42, 99}
    assert all(decoded.bad.values())
    numbers = [number for batch in decoded.batches for number in batch["int32"].to_pylist()]
    assert numbers == [i for i in range(100) if i not in decoded.bad]


@given(
    st.lists(
        st.binary(max_size=40) | messages(EVERY_KIND).map(lambda message: message.SerializeToString()), max_size=30
    )
)
@settings(deadline=None, max_examples=30)
def test_every_value_becomes_a_row_or_is_bad(payloads):
    decoded = DECODER.decode(payloads)
    assert sum(batch.num_rows for batch in decoded.batches) + len(decoded.bad) == len(payloads)


def test_a_panic_of_the_decoder_is_a_bad_value(monkeypatch):
    without_guard = decode.PtarsConfig(
        enum_repr="string", timestamp_unit="us", duration_unit="us", map_value_nullable=False
    )
    monkeypatch.setattr(decode, "_CONFIG", without_guard)
    decoded = Decoder(EVERY_KIND).decode([b"", bytes.fromhex("aa05020801"), b""])
    assert list(decoded.bad) == [1]
    assert "panicked" in decoded.bad[1]
    assert sum(batch.num_rows for batch in decoded.batches) == 2


def test_other_errors_of_the_decoder_are_not_swallowed():
    with pytest.raises(TypeError):
        DECODER.decode(["text"])


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


UNREADABLE = {
    "an edition": 'edition = "2023"; package odd; message Event { string id = 1; }',
    "a group": 'syntax = "proto2"; package odd; message Event { repeated group Line = 3 { optional uint64 n = 1; } }',
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_message_that_the_decoder_cannot_read_right_is_refused(tmp_path, what):
    (tmp_path / "odd.proto").write_text(UNREADABLE[what])
    with pytest.raises(BadInput, match=rf"cannot decode odd\.Event: .*{what}"):
        Decoder(pool_of(compiled(tmp_path)).FindMessageTypeByName("odd.Event"))


def test_a_proto2_message_decodes_with_presence(tmp_path):
    (tmp_path / "old.proto").write_text(
        'syntax = "proto2"; package old; message Event { required int32 z = 9; optional string a = 1 [default = "x"]; }'
    )
    event = pool_of(compiled(tmp_path)).FindMessageTypeByName("old.Event")
    (batch,) = Decoder(event).decode([GetMessageClass(event)(z=5).SerializeToString(), b""]).batches
    assert batch.to_pylist() == [{"a": None, "z": 5}, {"a": None, "z": None}]
