"""Payloads to typed columns, as protobuf's own parser reads them.

That parser looks at each payload first: what it cannot read is bad.  ptars, which makes columns of a whole batch at
once, takes some of those, and unknown groups within each other a hundred thousand deep end its process.  What ptars
may read otherwise than protobuf is written anew by protobuf, in the one form that both read alike.

ptars 0.0.25 has more ways of its own, each met here: it fails a whole batch without saying which value, a panic of its
Rust code is no ``Exception``, and its null stands for the value that a map entry does not have.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from ptars import HandlerPool, PtarsConfig

from connectors.problems import BadInput
from lake.columns import schema
from lake.columns.ambiguity import Ambiguities
from lake.columns.plain import plain

_CONFIG = PtarsConfig(
    enum_repr="string",
    map_value_nullable=True,  # false panics at a map entry that has no value, which is valid protobuf
)

#: protobuf's own range, in microseconds: years 1 to 9999, and about 10,000 years either way.
TIMESTAMPS = (-62_135_596_800_000_000, 253_402_300_799_999_999)
_DURATIONS = (-315_576_000_000_999_999, 315_576_000_000_999_999)
#: Seconds that are microseconds within 64 bits, and more than either range.
_SECONDS = (-1_000_000_000_000, 1_000_000_000_000)

#: Payloads that one message object reads after each other: a new one for each is slower, and one for all keeps the
#: memory of all.
_READ_INTO_ONE = 100


@dataclass(slots=True)
class Decoded:
    """``batches``: the decodable values in their order.  ``bad``: index of each other value, and why."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)


class Decoder:
    """Decodes the payloads of one event type to its ``schema``.  Raises BadInput for a message it cannot read."""

    def __init__(self, message: Descriptor) -> None:
        self.schema = schema.event_schema(message)
        self._message = GetMessageClass(message)
        self._ambiguities = Ambiguities(message)
        taken = plain(message)
        try:
            self._handler = HandlerPool([taken.file], config=_CONFIG).get_for_message(taken)
        except BaseException as error:
            if not _is_panic(error):
                raise
            raise BadInput(f"the lake cannot decode {message.full_name}: {error}") from error
        if isinstance(reason := self._parse([]), str):
            raise BadInput(f"the lake cannot decode {message.full_name}: {reason} (messages too deep in each other?)")

    def decode(self, values: Sequence[bytes]) -> Decoded:
        """Decode all that protobuf can read.  Holds the GIL for 1 us a value: give it a few thousand at most."""
        found = Decoded(bad=self._refused(values))
        good = [i for i in range(len(values)) if i not in found.bad]
        sent = [values[i] for i in good] if found.bad else list(values)
        if not sent:
            return found
        parsed = None if self._ambiguities.everywhere else self._parse(sent)
        if isinstance(parsed, pa.RecordBatch) and not self._ambiguities.among(parsed):
            found.batches.append(self._fitted(parsed))
        else:
            known_only = self._ambiguities.closed_enums  # what they do not know is among what a message does not
            self._split([self._written_anew(value, known_only=known_only) for value in sent], good, found)
        return found

    def _refused(self, values: Sequence[bytes]) -> dict[int, str]:
        refused = {}
        for start in range(0, len(values), _READ_INTO_ONE):
            read = self._message().ParseFromString
            for i, value in enumerate(values[start : start + _READ_INTO_ONE], start):
                try:
                    read(value)
                except DecodeError as error:
                    refused[i] = str(error)
        return refused

    def _written_anew(self, value: bytes, *, known_only: bool) -> bytes:
        message = self._message.FromString(value)
        if known_only:
            message.DiscardUnknownFields()
        anew: bytes = message.SerializePartialToString(deterministic=True)
        return anew

    def _split(self, values: Sequence[bytes], places: Sequence[int], found: Decoded) -> None:
        """Halve what fails until the bad values stand alone."""
        parsed = self._parse(values)
        if isinstance(parsed, str) and len(values) == 1:
            parsed = self._parse([self._written_anew(values[0], known_only=True)])
        if isinstance(parsed, pa.RecordBatch):
            found.batches.append(self._fitted(parsed))
        elif len(values) == 1:
            found.bad[places[0]] = parsed
        else:
            middle = len(values) // 2
            self._split(values[:middle], places[:middle], found)
            self._split(values[middle:], places[middle:], found)

    def _parse(self, values: Sequence[bytes]) -> pa.RecordBatch | str:
        parsed: pa.RecordBatch
        try:
            parsed = self._handler.list_to_record_batch(values)
        except ValueError as error:
            return str(error)
        except BaseException as error:
            if not _is_panic(error):
                raise
            return f"the decoder panicked: {error}"
        return parsed

    def _fitted(self, parsed: pa.RecordBatch) -> pa.RecordBatch:
        columns = parsed.columns or [pa.repeat(True, parsed.num_rows)]
        fitted = [fit(column, target.type) for column, target in zip(columns, self.schema, strict=True)]
        return pa.RecordBatch.from_arrays(fitted, schema=self.schema)


def _is_panic(error: BaseException) -> bool:
    return type(error).__name__ == "PanicException"  # pyo3's cannot be imported


def fit(array: pa.Array, target: pa.DataType) -> pa.Array:
    """``array`` as ptars made it, in the lake's type ``target``."""
    source = array.type
    if pa.types.is_struct(source) and not pa.types.is_struct(target):
        return _fit_known(array, target)
    if pa.types.is_nested(source):
        return _fit_nested(array, target)
    if pa.types.is_binary(source) and pa.types.is_string(target):
        return text(array)
    return array.cast(target)


def _fit_known(array: pa.Array, target: pa.DataType) -> pa.Array:
    """A well-known type: one with a ``value``, or a time of ``seconds`` and ``nanos``."""
    values = dict(zip([inner.name for inner in array.type], array.flatten(), strict=True))
    if "value" in values:
        return fit(values["value"], target)
    whole = pc.multiply(within(values["seconds"], _SECONDS), 1_000_000)
    parts = pc.divide(values["nanos"].cast(pa.int64()), 1_000)
    limits = TIMESTAMPS if pa.types.is_timestamp(target) else _DURATIONS
    return within(pc.add(whole, parts), limits).cast(target)


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


def text(array: pa.Array) -> pa.Array:
    """Binaries as strings.  Bytes that are no UTF-8 stay visible as escapes."""
    try:
        return array.cast(pa.string())
    except pa.ArrowInvalid:
        texts = [value and value.decode(errors="backslashreplace") for value in array.to_pylist()]
        return pa.array(texts, pa.string())


def within(numbers: pa.Array, limits: tuple[int, int]) -> pa.Array:
    """Null where a number is outside: no time is meant."""
    least, most = limits
    span = pc.min_max(numbers).as_py()
    if span["min"] is None or least <= span["min"] <= span["max"] <= most:
        return numbers
    valid = pc.and_(pc.greater_equal(numbers, least), pc.less_equal(numbers, most))
    return pc.if_else(valid, numbers, pa.scalar(None, pa.int64()))
