"""Kafka records to rows of the lake."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from itertools import chain as flatten
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from connectors.schemas import EventType
from lake import schema
from lake.decode import TIMESTAMPS, Decoder, within
from lake.segments import Chain

#: Milliseconds of the years 1970 to 9999; what lies outside is no time that a reader could show.
_TIMES = range(253_402_300_800_000)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot be a row, and why."""

    record: Any
    error: str


class RowBuilder:
    """Rows of one event type, in its segments' ``schema``."""

    def __init__(self, event_type: EventType) -> None:
        self.event_type = event_type
        self.schema = schema.segment_schema(event_type.descriptor)
        self.fingerprint = schema.fingerprint(self.schema)
        self.repeating_columns = schema.repeating_columns(event_type.descriptor)
        self._decoder = Decoder(event_type.descriptor)

    def build(self, chain: Chain, records: Sequence[Any]) -> tuple[list[pa.RecordBatch], list[Rejected]]:
        """Every record of ``chain`` becomes a row or is rejected; both stay in their order."""
        headers = _headers(records)
        errors = {i: "no payload: the record's value is null" for i, one in enumerate(records) if one.value is None}
        errors.update(self._of_other_types(_text(headers, "ce_type")))
        left = [i for i in range(len(records)) if i not in errors]
        decoded = self._decoder.decode([records[i].value for i in left])
        errors.update({left[i]: error for i, error in decoded.bad.items()})
        known = self._metadata(chain, records, headers)
        if errors:
            known = known.take(pa.array([i for i in left if i not in errors], pa.int64()))
        batches, at = [], 0
        for batch in decoded.batches:
            those = known.slice(at, batch.num_rows)
            batches.append(pa.RecordBatch.from_arrays([*batch.columns, *those.columns], schema=self.schema))
            at += batch.num_rows
        return batches, [Rejected(records[i], errors[i]) for i in sorted(errors)]

    def _of_other_types(self, types: pa.Array) -> dict[int, str]:
        """Bytes of another type may well parse, to values that nobody sent."""
        expected = self.event_type.name
        if not pc.any(pc.not_equal(types, expected)).as_py():
            return {}
        found = enumerate(types.to_pylist())
        return {
            i: f"unexpected type: {one!r} on a topic of {expected}"
            for i, one in found
            if one not in {None, "", expected}
        }

    def _metadata(self, chain: Chain, records: Sequence[Any], headers: pa.MapArray) -> pa.RecordBatch:
        count = len(records)
        columns = {
            "_topic": pa.repeat(chain.topic, count),
            "_epoch": pa.repeat(chain.epoch, count),
            "_partition": pa.repeat(pa.scalar(chain.partition, pa.int32()), count),
            "_offset": pa.array([record.offset for record in records], pa.int64()),
            "_timestamp": pa.array(
                [record.timestamp if record.timestamp in _TIMES else None for record in records],
                pa.timestamp("ms", "UTC"),
            ),
            "_time": _times(_text(headers, "ce_time")),
            "_key": pa.array([record.key for record in records], pa.binary()),
            "_event_id": _ids(chain, records, _text(headers, "ce_id")),
            "_event_type": pa.repeat(self.event_type.name, count),
            "_source": _text(headers, "ce_source"),
            "_headers": headers,
            "_raw": pa.array([record.value for record in records], pa.binary()),
        }
        return pa.RecordBatch.from_arrays([columns[name] for name in schema.METADATA.names], schema=schema.METADATA)


def _headers(records: Sequence[Any]) -> pa.MapArray:
    """All of them, in their order, repeated names too."""
    ends = pa.array(accumulate((len(record.headers) for record in records), initial=0), pa.int32())
    pairs = list(flatten.from_iterable(record.headers for record in records))
    names, values = [name for name, _ in pairs], [value for _, value in pairs]
    return pa.MapArray.from_arrays(ends, pa.array(names, pa.string()), pa.array(values, pa.binary()))


def _text(headers: pa.MapArray, name: str) -> pa.Array:
    """The first header of that name, null where there is none.  Bytes that are no UTF-8 stay visible as escapes."""
    found = pc.map_lookup(headers, pa.scalar(name), "first")
    try:
        return found.cast(pa.string())
    except pa.ArrowInvalid:
        texts = [value and value.decode(errors="backslashreplace") for value in found.to_pylist()]
        return pa.array(texts, pa.string())


def _times(texts: pa.Array) -> pa.Array:
    """ISO 8601 in UTC; null where there is none, or something else."""
    kind = schema.METADATA.field("_time").type
    try:
        found = texts.cast(kind)
    except pa.ArrowInvalid:
        found = pa.array([_time(text) for text in texts.to_pylist()], kind)
    return within(found.cast(pa.int64()), TIMESTAMPS).cast(kind)


def _time(text: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat(text or "")
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _ids(chain: Chain, records: Sequence[Any], sent: pa.Array) -> pa.Array:
    """What no producer has identified, its place identifies."""
    if not sent.null_count and pc.all(pc.greater(pc.binary_length(sent), 0)).as_py():
        return sent
    places = [f"{chain.topic}/{chain.partition}/{record.offset}" for record in records]
    return pa.array([one or place for one, place in zip(sent.to_pylist(), places, strict=True)], pa.string())
