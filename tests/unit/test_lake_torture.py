"""Payloads with anything in them against protobuf's own parser: rows, values, and who accepts what."""

import importlib
import itertools
import pkgutil
from functools import cache
from random import Random

import duckdb
import google.api
import google.longrunning
import google.rpc
import google.type
import lake_mapping
import payloads
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from descriptors import every_kind, of_tests
from effort import examples
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

from connectors.problems import BadInput
from lake.columns import schema
from lake.columns.decode import Decoder

KINDS = [
    kind.removeprefix("TYPE_").lower()
    for kind in FieldDescriptorProto.Type.keys()  # noqa: SIM118 - no dictionary, though it has keys
    if kind != "TYPE_GROUP"
]
KEYS = [kind for kind in KINDS if kind not in {"double", "float", "bytes", "enum", "message"}]


@cache
def all_fields():
    """A message with each kind of field in each of the ways a field can be, and each kind of map."""
    file = FileDescriptorProto(name="all_fields.proto", package="torture", syntax="proto3")
    inner = file.message_type.add(name="Inner")
    inner.field.add(name="number", number=1, type=FieldDescriptorProto.TYPE_INT32, label=1)
    inner.field.add(name="inner", number=2, type=FieldDescriptorProto.TYPE_MESSAGE, label=1, type_name=".torture.Leaf")
    file.message_type.add(name="Leaf").field.add(name="text", number=3, type=FieldDescriptorProto.TYPE_STRING, label=1)
    enum = file.enum_type.add(name="Enum")
    for name, number in (("ZERO", 0), ("ONE", 1), ("MINUS", -1)):
        enum.value.add(name=name, number=number)
    types = {"enum": ".torture.Enum", "message": ".torture.Inner"}
    every = file.message_type.add(name="All")
    number = itertools.count(1)

    def add(to, name, kind, number, label=FieldDescriptorProto.LABEL_OPTIONAL, **more):
        code = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
        return to.field.add(name=name, number=number, type=code, label=label, type_name=types.get(kind), **more)

    every.oneof_decl.add(name="one")
    for kind in KINDS:
        add(every, f"one_{kind}", kind, next(number), oneof_index=0)
        add(every, f"plain_{kind}", kind, next(number))
        for packed in (True, False) if kind not in {"string", "bytes", "message"} else (False,):
            field = add(every, f"many_{kind}_{packed}", kind, next(number), FieldDescriptorProto.LABEL_REPEATED)
            field.options.packed = packed
        if kind != "message":
            add(every, f"maybe_{kind}", kind, next(number), proto3_optional=True, oneof_index=len(every.oneof_decl))
            every.oneof_decl.add(name=f"_maybe_{kind}")
    for key, value in itertools.product(KEYS, KINDS):
        entry = every.nested_type.add(name=f"Map{key.title()}{value.title()}Entry")
        entry.options.map_entry = True
        add(entry, "key", key, 1)
        add(entry, "value", value, 2)
        types["map"] = f".torture.All.{entry.name}"
        every.field.add(
            name=f"map_{key}_{value}",
            number=next(number),
            type=FieldDescriptorProto.TYPE_MESSAGE,
            label=FieldDescriptorProto.LABEL_REPEATED,
            type_name=types["map"],
        )
    pool = DescriptorPool()
    pool.Add(file)
    return pool.FindMessageTypeByName("torture.All")


def google_messages():
    """Every message of googleapis-common-protos."""
    for package in (google.api, google.longrunning, google.rpc, google.type):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith("_pb2"):
                yield from importlib.import_module(module.name).DESCRIPTOR.message_types_by_name.values()


TORTURED = {
    "every kind": every_kind,
    "all fields": all_fields,
    "straight": lambda: of_tests("Straight"),
    "proto2": lambda: of_tests("OldKind"),
}
#: Times, and payloads decoded together: few, so that what is wrong with one does not decide the way of all.
MUTANTS = {"every kind": (55, 200), "all fields": (5, 100), "straight": (1_250, 4), "proto2": (18, 200)}


def decoded_alike(decoder, descriptor, sent):
    """The table of ``sent`` payloads, after each row was compared with what protobuf reads, and who accepts it."""
    read = GetMessageClass(descriptor).FromString
    found = decoder.decode(sent)
    table = pa.Table.from_batches(found.batches, decoder.schema)
    table.validate(full=True)
    rows = iter(table.to_pylist())
    for i, payload in enumerate(sent):
        try:
            message = read(payload)
        except DecodeError:
            assert i in found.bad, payload.hex()
            continue
        if "invalid UTF-8" in found.bad.get(i, "") and descriptor is of_tests("OldKind"):
            continue  # the key of a map, which in proto2 is any bytes: text that ptars does not read
        assert i not in found.bad, (payload.hex(), found.bad[i])
        row = next(rows)
        if not sets_entries_aside(message):
            assert not (where := lake_mapping.difference(row, lake_mapping.row(message))), (where, payload.hex())
    assert next(rows, None) is None
    return table


def sets_entries_aside(message):
    """Whether ``message`` has an entry of a map that has more than key and value, which is not in the map then."""
    unknown = [message.DESCRIPTOR.fields_by_number.get(one.field_number) for one in UnknownFieldSet(message)]
    if any(field and schema.map_entry(field) for field in unknown):
        return True
    for field, value in message.ListFields():
        entry = schema.map_entry(field)
        if (entry.fields_by_number[2] if entry else field).message_type is not None:
            parts = value.values() if entry else value if field.is_repeated else [value]
            if any(map(sets_entries_aside, parts)):
                return True
    return False


@pytest.mark.parametrize("what", TORTURED)
def test_every_value_of_every_kind_of_field_is_what_protobuf_reads_and_survives_parquet(tmp_path, what):
    descriptor = TORTURED[what]()
    decoder, random = Decoder(descriptor), Random(what)
    for i in range(examples(6)):
        sent = [payloads.message(random, descriptor, most=30) for _ in range(60)]
        table = decoded_alike(decoder, descriptor, [message.SerializePartialToString() for message in sent])
        pq.write_table(table, tmp_path / "one.parquet")
        read = pq.read_table(tmp_path / "one.parquet")
        assert read.schema.equals(decoder.schema)
        assert lake_mapping.difference(read.to_pylist(), table.to_pylist()) is None
        if i == 0:
            assert len(duckdb.read_parquet(str(tmp_path / "one.parquet")).fetchall()) == len(sent)


#: Of the messages of googleapis-common-protos, those that are refused, and why.
REFUSED: dict[str, str] = {}


def test_every_message_of_googles_common_ones_is_read_as_protobuf_reads_it_or_refused_with_a_reason():
    found, refused = 0, {}
    for descriptor in google_messages():
        try:
            decoder = Decoder(descriptor)
        except BadInput as error:
            refused[descriptor.full_name] = str(error)
            continue
        random = Random(descriptor.full_name)
        sent = [payloads.message(random, descriptor).SerializePartialToString() for _ in range(examples(5))]
        decoded_alike(decoder, descriptor, [*sent, payloads.mutated(random, sent[0], sent[1])])
        found += 1
    assert refused == REFUSED
    assert found > 100


@pytest.mark.parametrize("what", TORTURED)
def test_what_protobuf_refuses_is_bad_and_all_else_a_row_of_what_protobuf_reads(what):
    descriptor = TORTURED[what]()
    decoder, random = Decoder(descriptor), Random(what)
    times, together = MUTANTS[what]
    for i in range(examples(times)):
        if i * together % 1_000 == 0:
            whole = [payloads.message(random, descriptor, most=5).SerializePartialToString() for _ in range(100)]
        sent = [payloads.mutated(random, random.choice(whole), random.choice(whole)) for _ in range(together)]
        decoded_alike(decoder, descriptor, sent)
