"""Payloads to typed columns: ptars parses a batch at once, and what it gives is made to fit the lake's schema.

ptars 0.0.25 has ways of its own, each met here: it fails a whole batch without saying which value; a panic of its Rust
code is no ``Exception``; it cannot parse files of an edition, and drops groups; it reads ``google.type.Date`` as a
date, and a date without a day as 1970.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from ptars import HandlerPool, PtarsConfig

from connectors.problems import BadInput
from lake import schema

_CONFIG = PtarsConfig(
    enum_repr="string",
    timestamp_unit="us",
    duration_unit="us",
    map_value_nullable=True,  # false panics at a map entry that has no value, which is valid protobuf
)

_GOOGLE_TYPE = re.compile(r"^(\.?)google\.type(?![^.])")

#: protobuf's own range: years 1 to 9999, and about 10,000 years either way.  ptars answers its nearest number beyond.
TIMESTAMPS = (-62_135_596_800_000_000, 253_402_300_799_999_999)
_DURATIONS = (-315_576_000_000_999_999, 315_576_000_000_999_999)


@dataclass(slots=True)
class Decoded:
    """``batches``: the decodable values in their order.  ``bad``: index of each other value, and why."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)


class Decoder:
    """Decodes the payloads of one event type to its ``schema``.  Raises BadInput for a message it cannot read."""

    def __init__(self, message: Descriptor) -> None:
        self.schema = schema.event_schema(message)
        if reason := _unreadable(message):
            raise BadInput(f"the lake cannot decode {message.full_name}: {reason}")
        plain = _plain(message)
        self._handler = HandlerPool([plain.file], config=_CONFIG).get_for_message(plain)

    def decode(self, values: Sequence[bytes]) -> Decoded:
        """Decode all that can be.  ptars holds the GIL for about 0.6 us a value: give it a few thousand at most."""
        found = Decoded()
        self._split(values, 0, found)
        return found

    def _split(self, values: Sequence[bytes], at: int, found: Decoded) -> None:
        """Halve what fails until the bad values stand alone."""
        if not values:
            return
        parsed = self._parse(values)
        if isinstance(parsed, pa.RecordBatch):
            found.batches.append(parsed)
        elif len(values) == 1:
            found.bad[at] = parsed
        else:
            middle = len(values) // 2
            self._split(values[:middle], at, found)
            self._split(values[middle:], at + middle, found)

    def _parse(self, values: Sequence[bytes]) -> pa.RecordBatch | str:
        try:
            parsed = self._handler.list_to_record_batch(list(values))
        except ValueError as error:
            return str(error)
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # pyo3's cannot be imported
                raise
            return f"the decoder panicked: {error}"
        columns = {name.name: column for name, column in zip(parsed.schema, parsed.columns, strict=True)}
        fitted = [fit(columns[source], target.type) for source, target in zip(columns, self.schema, strict=True)]
        return pa.RecordBatch.from_arrays(fitted, schema=self.schema)


def fit(array: pa.Array, target: pa.DataType) -> pa.Array:
    """``array`` as ptars made it, in the lake's type ``target``."""
    source = array.type
    if pa.types.is_duration(source):
        return within(array.cast(pa.int64()), _DURATIONS)
    if pa.types.is_timestamp(source):
        return within(array.cast(pa.int64()), TIMESTAMPS).cast(target)
    return _fit_nested(array, target) if pa.types.is_nested(source) else array.cast(target)


def _fit_nested(array: pa.Array, target: pa.DataType) -> pa.Array:
    absent = array.is_null()
    if pa.types.is_map(target):
        keys, items = fit(array.keys, target.key_type), fit(array.items, target.item_type)
        return pa.MapArray.from_arrays(array.offsets, keys, items, type=target, mask=absent)
    if pa.types.is_list(target):
        values = fit(array.values, target.value_type)
        return pa.ListArray.from_arrays(array.offsets, values, type=target, mask=absent)
    if target == schema.NOTHING:
        children = [array.is_valid()]
    else:
        children = [fit(array.field(inner.name), inner.type) for inner in target]
    return pa.StructArray.from_arrays(children, fields=list(target), mask=absent)


def within(numbers: pa.Array, limits: tuple[int, int]) -> pa.Array:
    """Null where protobuf has no such time; the number that ptars puts there is not the one that was sent."""
    least, most = limits
    span = pc.min_max(numbers).as_py()
    if span["min"] is None or least <= span["min"] <= span["max"] <= most:
        return numbers
    valid = pc.and_(pc.greater_equal(numbers, least), pc.less_equal(numbers, most))
    return pc.if_else(valid, numbers, pa.scalar(None, pa.int64()))


def _files(file: FileDescriptor) -> list[FileDescriptor]:
    """``file`` and all it depends on, dependencies first."""
    found: dict[str, FileDescriptor] = {}

    def visit(one: FileDescriptor) -> None:
        for dependency in one.dependencies:
            if dependency.name not in found:
                visit(dependency)
        found[one.name] = one

    visit(file)
    return list(found.values())


def _copy(file: FileDescriptor) -> FileDescriptorProto:
    copy = FileDescriptorProto()
    file.CopyToProto(copy)
    return copy


def _unreadable(message: Descriptor) -> str | None:
    """What ptars cannot parse at all, or parses to nothing without a word."""
    for file in _files(message.file):
        if _copy(file).syntax == "editions":
            return f'{file.name} is written in an edition of protobuf; declare it `syntax = "proto3"`'
    for inner in _messages(message, {}).values():
        for one in inner.fields:
            if one.type == FieldDescriptor.TYPE_GROUP:
                return f"{one.full_name} is a group; make it an ordinary message field"
    return None


def _messages(message: Descriptor, found: dict[str, Descriptor]) -> dict[str, Descriptor]:
    """``message`` and all that it holds, by full name."""
    if message.full_name not in found:
        found[message.full_name] = message
        for one in message.fields:
            if one.message_type is not None:
                _messages(one.message_type, found)
    return found


def _plain(message: Descriptor) -> Descriptor:
    """``message`` in a pool of its own, where ``google.type`` has another name and so nothing that ptars knows."""
    pool = DescriptorPool()
    for file in _files(message.file):
        copy = _copy(file)
        copy.package = _renamed(copy.package)
        copy.ClearField("service")
        copy.ClearField("extension")
        for top in copy.message_type:
            _rename_types(top)
        pool.Add(copy)
    return pool.FindMessageTypeByName(_renamed(message.full_name))


def _rename_types(message: DescriptorProto) -> None:
    message.ClearField("extension")
    for one in message.field:
        if one.type_name:
            one.type_name = _renamed(one.type_name)
    for nested in message.nested_type:
        _rename_types(nested)


def _renamed(name: str) -> str:
    return _GOOGLE_TYPE.sub(r"\1google.Type", name)
