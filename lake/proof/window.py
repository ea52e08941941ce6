"""What is held of a topic at a time: segments, and of their rows the places and digests alone."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from lake.proof.findings import Place, Segment, repeated

#: Rows whose offsets are held at once; a segment that has more is held whole.
WINDOW_ROWS = 2_000_000
#: Segments held at once, however few rows they have.
WINDOW_SEGMENTS = 10_000


class Window:
    """Segments that are looked at together, and their rows: partition, offset and digest, by epoch."""

    def __init__(self) -> None:
        self.segments: defaultdict[Place, list[Segment]] = defaultdict(list)
        self.steps: set[int] = set()
        self.rows: defaultdict[str, list[pa.RecordBatch]] = defaultdict(list)
        self._size = self._count = 0

    def add(self, segment: Segment) -> None:
        one = segment.told
        self.segments[one.epoch, one.partition].append(segment)
        self._size += one.rows
        self._count += 1

    def is_full_with(self, rows: int) -> bool:
        return bool(self._count) and (self._size + rows > WINDOW_ROWS or self._count >= WINDOW_SEGMENTS)

    def span(self, place: Place) -> tuple[int, int]:
        """Of a chain's segments, which follow each other."""
        held = self.segments[place]
        return held[0].told.start, max(one.told.next for one in held)

    def within(self, step: int, epoch: str, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Those rows, all of ``epoch``, that lie in the span of what ``step`` took of their chain."""
        held = {
            partition: [one.told for one in told if one.step == step]
            for (of, partition), told in self.segments.items()
            if of == epoch
        }
        spans = {partition: (told[0].start, told[-1].next) for partition, told in held.items() if told}
        at = pc.index_in(rows["_partition"], value_set=pa.array(list(spans), pa.int32()))
        low = pa.array([low for low, _ in spans.values()], pa.int64()).take(at)
        high = pa.array([high for _, high in spans.values()], pa.int64()).take(at)
        offsets = rows["_offset"]
        return rows.filter(pc.and_(pc.greater_equal(offsets, low), pc.less(offsets, high)))

    def sorted_rows(self) -> Iterator[tuple[Place, pa.Table]]:
        """Offsets and digests of each chain that has rows.  The window keeps none of them."""
        while self.rows:
            epoch, batches = self.rows.popitem()
            table = pa.Table.from_batches(batches)
            del batches
            order = pc.sort_indices(table, [("_partition", "ascending"), ("_offset", "ascending")])
            table = table.take(order).combine_chunks()
            del order
            runs = pc.run_end_encode(table["_partition"].combine_chunks())
            start = 0
            for partition, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
                yield (epoch, partition), table.slice(start, end - start)
                start = end


def once(rows: pa.Table | None, quarantined: Mapping[int, int], *, digests: bool) -> tuple[pa.Array, pa.Array | None]:
    """Every offset of a chain that is in the lake, in order, and the digests of the payloads."""
    kinds = {"_offset": pa.int64()} | ({"_digest": pa.uint64()} if digests else {})
    others = {"_offset": list(quarantined), "_digest": list(quarantined.values())}
    tables = [pa.table({name: pa.array(others[name], kind) for name, kind in kinds.items()})]
    if rows is not None:
        tables.append(rows.select(list(kinds)))
    table = pa.concat_tables(tables).sort_by("_offset").combine_chunks()
    if len(repeated(table["_offset"].combine_chunks())):
        table = table.take(pc.index_in(pc.unique(table["_offset"]), value_set=table["_offset"])).combine_chunks()
    return table["_offset"].combine_chunks(), table["_digest"].combine_chunks() if digests else None
