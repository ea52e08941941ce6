"""Kafka records to rows of the lake."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import accumulate
from itertools import chain as flatten
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from connectors.problems import Problem
from connectors.schemas import EventType
from lake.columns import schema
from lake.columns.decode import TIMESTAMPS, Decoder, text, within
from lake.segments import Chain

#: Milliseconds of the years 1970 to 9999; what lies outside is no time that a reader could show.
_TIMES = (0, 253_402_300_799_999)


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
        headers, values = _Headers(records), [record.value for record in records]
        errors = {i: "no payload: the record's value is null" for i, value in enumerate(values) if value is None}
        errors.update(self._of_other_types(headers.text("ce_type")))
        left = [i for i in range(len(records)) if i not in errors] if errors else range(len(records))
        decoded = self._decoder.decode([values[i] for i in left] if errors else values)
        errors.update({left[i]: error for i, error in decoded.bad.items()})
        known = self._metadata(chain, records, headers, values)
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

    def _metadata(
        self, chain: Chain, records: Sequence[Any], headers: "_Headers", values: Sequence[bytes | None]
    ) -> pa.RecordBatch:
        count = len(records)
        timestamps = pa.array([record.timestamp for record in records], pa.int64())
        columns = {
            "_topic": pa.repeat(chain.topic, count),
            "_epoch": pa.repeat(chain.epoch, count),
            "_partition": pa.repeat(pa.scalar(chain.partition, pa.int32()), count),
            "_offset": pa.array([record.offset for record in records], pa.int64()),
            "_timestamp": within(timestamps, _TIMES).cast(schema.METADATA.field("_timestamp").type),
            "_time": _times(headers.text("ce_time")),
            "_key": pa.array([record.key for record in records], pa.binary()),
            "_event_id": _ids(chain, records, headers.text("ce_id")),
            "_event_type": pa.repeat(self.event_type.name, count),
            "_source": headers.text("ce_source"),
            "_headers": headers.column,
            "_raw": pa.array(values, pa.binary()),
        }
        return pa.RecordBatch.from_arrays([columns[name] for name in schema.METADATA.names], schema=schema.METADATA)


def builder_of(event: EventType) -> RowBuilder | Problem:
    """One event type that the lake cannot decode must not keep it from the others."""
    try:
        return RowBuilder(event)
    except Problem as problem:
        return problem
    except Exception as error:  # noqa: BLE001 - a defect, told again and again where it holds the topic
        return Problem(f"the lake cannot make rows of {event.name}: {error!r}")


class _Headers:
    """Those of some records.  ``column`` has all of them, in their order, repeated names too."""

    def __init__(self, records: Sequence[Any]) -> None:
        each = [record.headers for record in records]
        pairs = list(flatten.from_iterable(each))
        names, values = [name for name, _ in pairs], pa.array([value for _, value in pairs], pa.binary())
        self._names = names[: len(each[0])] if each else []
        self._by_place: pa.FixedSizeListArray | None = None
        if self._names and {*map(len, each)} == {len(self._names)} and names == self._names * len(each):
            # A topic's records have the same headers, as a rule: each is found by its place, a tenth of the work.
            repeated = _repeated(tuple(self._names), 1 << len(each).bit_length())
            ends, keys = repeated.offsets[: len(each) + 1], repeated.values[: len(names)]
            self._by_place = pa.FixedSizeListArray.from_arrays(values, len(self._names))
        else:
            ends, keys = pa.array(accumulate(map(len, each), initial=0), pa.int32()), pa.array(names, pa.string())
        self.column = pa.MapArray.from_arrays(ends, keys, values)

    def text(self, name: str) -> pa.Array:
        """The first of that name, null where there is none."""
        return text(self._first(name))

    def _first(self, name: str) -> pa.Array:
        if self._by_place is None:
            return pc.map_lookup(self.column, pa.scalar(name), "first")
        if name not in self._names:
            return pa.nulls(len(self.column), pa.binary())
        return pc.list_element(self._by_place, self._names.index(name))


@lru_cache(32)
def _repeated(names: tuple[str, ...], count: int) -> pa.ListArray:
    return pa.repeat(pa.scalar(names, pa.list_(pa.string())), count)


def _times(texts: pa.Array) -> pa.Array:
    """ISO 8601, in UTC where it names no zone; null where there is none, or something else."""
    kind = schema.METADATA.field("_time").type
    try:
        found = texts.cast(kind)
    except pa.ArrowInvalid:
        found = pa.array([_time(one) for one in texts.to_pylist()], kind)
    return within(found.cast(pa.int64()), TIMESTAMPS).cast(kind)


def _time(sent: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat(sent or "")
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _ids(chain: Chain, records: Sequence[Any], sent: pa.Array) -> pa.Array:
    """What no producer has identified, its place identifies."""
    if not sent.null_count and pc.all(pc.greater(pc.binary_length(sent), 0)).as_py():
        return sent
    places = [f"{chain.topic}/{chain.partition}/{record.offset}" for record in records]
    return pa.array([one or place for one, place in zip(sent.to_pylist(), places, strict=True)], pa.string())
