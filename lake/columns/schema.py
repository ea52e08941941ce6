"""The lake's columns: from an event type's descriptor to the Arrow schema that every one of its segments has.

Types are wide, so that a change of a message that keeps old bytes readable also keeps old files readable beside new
ones; everything may be null.  ``docs/lake-types.md`` is the mapping as a table, for those who query.
"""

import hashlib
from collections.abc import Iterable, Iterator

import pyarrow as pa
from google.protobuf.descriptor import Descriptor, FieldDescriptor

#: Parquet's own place for a field's number, and Arrow's name for it.
FIELD_ID = b"PARQUET:field_id"

TIMESTAMP = pa.timestamp("us", "UTC")
UNSIGNED_64 = pa.decimal128(20, 0)

#: A message without fields.  A struct, not a bool: the day it gets a field, old files still read beside new ones.
NOTHING = pa.struct([pa.field("_present", pa.bool_())])

#: What the lake knows of every record.  ``_raw`` is the payload, byte for byte.  The last is one that takes little: of
#: each file that is being written, Arrow keeps the pages of the last column in memory.
METADATA = pa.schema(
    [
        ("_topic", pa.string()),
        ("_epoch", pa.string()),
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
        ("_timestamp", pa.timestamp("ms", "UTC")),
        ("_time", pa.timestamp("us", "UTC")),
        ("_key", pa.binary()),
        ("_headers", pa.map_(pa.string(), pa.binary())),
        ("_raw", pa.binary()),
        ("_event_id", pa.string()),
        ("_event_type", pa.string()),
        ("_source", pa.string()),
    ]
)
#: What readers' views and the folders of ``main/`` call the date of an event.
DATE = "dt"

_REPEATING = ["_topic", "_epoch", "_partition", "_event_type", "_source", "_headers.key_value.key"]

_SCALARS = {
    FieldDescriptor.TYPE_DOUBLE: pa.float64(),
    FieldDescriptor.TYPE_FLOAT: pa.float64(),
    FieldDescriptor.TYPE_INT32: pa.int64(),
    FieldDescriptor.TYPE_INT64: pa.int64(),
    FieldDescriptor.TYPE_UINT32: pa.int64(),
    FieldDescriptor.TYPE_UINT64: UNSIGNED_64,
    FieldDescriptor.TYPE_SINT32: pa.int64(),
    FieldDescriptor.TYPE_SINT64: pa.int64(),
    FieldDescriptor.TYPE_FIXED32: pa.int64(),
    FieldDescriptor.TYPE_FIXED64: UNSIGNED_64,
    FieldDescriptor.TYPE_SFIXED32: pa.int64(),
    FieldDescriptor.TYPE_SFIXED64: pa.int64(),
    FieldDescriptor.TYPE_BOOL: pa.bool_(),
    FieldDescriptor.TYPE_STRING: pa.string(),
    FieldDescriptor.TYPE_BYTES: pa.binary(),
    FieldDescriptor.TYPE_ENUM: pa.string(),
}
_WELL_KNOWN = {
    "google.protobuf.Timestamp": TIMESTAMP,
    "google.protobuf.Duration": pa.int64(),
    "google.protobuf.DoubleValue": pa.float64(),
    "google.protobuf.FloatValue": pa.float64(),
    "google.protobuf.Int32Value": pa.int64(),
    "google.protobuf.Int64Value": pa.int64(),
    "google.protobuf.UInt32Value": pa.int64(),
    "google.protobuf.UInt64Value": UNSIGNED_64,
    "google.protobuf.BoolValue": pa.bool_(),
    "google.protobuf.StringValue": pa.string(),
    "google.protobuf.BytesValue": pa.binary(),
}


def event_schema(message: Descriptor) -> pa.Schema:
    """One column a field, in the order of their numbers.

    A field that has the name of a metadata column, or ``dt``, in any case, gets its number appended.
    """
    fields = _fields(message, frozenset()) or NOTHING
    return pa.schema([field.with_name(column_name(field)) for field in fields])


def segment_schema(message: Descriptor) -> pa.Schema:
    """The columns of a segment: the event's, then the metadata."""
    return pa.schema([*event_schema(message), *METADATA])


def column_name(field: pa.Field) -> str:
    taken = field.name.lower() in {*METADATA.names, DATE}
    return f"{field.name}_{field.metadata[FIELD_ID].decode()}" if taken else field.name


def fingerprint(schema: pa.Schema) -> str:
    """Sixteen characters that differ when a column's name or type does."""
    text = "\n".join(f"{field.name} {field.type}" for field in schema)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def conflicts(known: pa.Schema, new: pa.Schema) -> list[str]:
    """A sentence for each column, whatever its case, whose type is another one now.

    Of two types for one column Polars reads neither, and Arrow takes the first file's: a bool of 5 is true.
    """
    return list(_conflicts(known, new, ""))


def repeating_columns(message: Descriptor) -> list[str]:
    """Parquet paths of the columns with few distinct values, enums and some metadata: those worth a dictionary."""
    return [*_enum_paths(message, "", frozenset()), *_REPEATING]


def _conflicts(known: Iterable[pa.Field], new: Iterable[pa.Field], path: str) -> Iterator[str]:
    before = {field.name.lower(): field.type for field in known}
    for field in new:
        if field.name.lower() in before:
            yield from _conflict(before[field.name.lower()], field.type, f"{path}{field.name}")


def _conflict(known: pa.DataType, new: pa.DataType, path: str) -> Iterator[str]:
    if pa.types.is_struct(known) and pa.types.is_struct(new):
        yield from _conflicts(known, new, f"{path}.")
    elif pa.types.is_map(known) and pa.types.is_map(new):
        yield from _conflict(known.key_type, new.key_type, f"{path}.key")
        yield from _conflict(known.item_type, new.item_type, f"{path}.value")
    elif pa.types.is_list(known) and pa.types.is_list(new):
        yield from _conflict(known.value_type, new.value_type, f"{path}.element")
    elif known != new:
        yield f"column {path} was {known} and now is {new}"


def _fields(message: Descriptor, above: frozenset[str]) -> list[pa.Field]:
    within = above | {message.full_name}
    return [
        pa.field(field.name, _field_type(field, within), metadata={FIELD_ID: str(field.number)})
        for field in _by_number(message)
    ]


def _by_number(message: Descriptor) -> list[FieldDescriptor]:
    return sorted(message.fields, key=lambda field: field.number)


def _field_type(field: FieldDescriptor, above: frozenset[str]) -> pa.DataType:
    if entry := map_entry(field):
        key, value = entry.fields_by_number[1], entry.fields_by_number[2]
        return pa.map_(_one_type(key, above), _one_type(value, above))
    one = _one_type(field, above)
    return pa.list_(pa.field("element", one)) if field.is_repeated else one


def map_entry(field: FieldDescriptor) -> Descriptor | None:
    message = field.message_type
    return message if message is not None and message.GetOptions().map_entry else None


def _one_type(field: FieldDescriptor, above: frozenset[str]) -> pa.DataType:
    """``above`` are the messages on the way down to here: a field of one of those would never end and stays bytes."""
    message = field.message_type
    if message is None:
        return _SCALARS[field.type]
    if known := _WELL_KNOWN.get(message.full_name):
        return known
    if message.full_name in above:
        return pa.binary()
    return pa.struct(_fields(message, above)) if message.fields else NOTHING


def _enum_paths(message: Descriptor, prefix: str, above: frozenset[str]) -> Iterator[str]:
    within = above | {message.full_name}
    for field in _by_number(message):
        path = f"{prefix}{field.name}"
        one = field
        if entry := map_entry(field):
            path, one = f"{path}.key_value.value", entry.fields_by_number[2]
        elif field.is_repeated:
            path = f"{path}.list.element"
        if one.enum_type is not None:
            yield path
        elif one.message_type is not None and one.message_type.full_name not in within | _WELL_KNOWN.keys():
            yield from _enum_paths(one.message_type, f"{path}.", within)
