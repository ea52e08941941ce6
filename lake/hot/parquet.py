"""A Parquet file of the lake, being written in the scratch folder."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.hot.rows import RowBuilder
from lake.hot.spool import Spool

#: Columns that grow within a segment: written as differences, and with the limits by which a reader passes over rows.
#: Limits of the others cost a tenth of the time, and exclude next to nothing.
_GROWING = ["_offset", "_timestamp", "_time"]
#: Values between two looks at a page's size.
_STRIDE = 16_384
#: Bytes that Arrow keeps of each column of each row group until the file is closed, measured.
_COLUMN_MEMORY = 560
#: Bytes that it keeps of the last column in the last row group, for a row and at most.
_VALUE_MEMORY, _PAGE_MEMORY = 26, 256 << 10


class SegmentFile:
    """Of one segment.  ``spool`` is where it goes: whether its disk has room does not matter before that ends."""

    def __init__(self, scratch: Path, builder: RowBuilder) -> None:
        self.path = scratch / f".{uuid.uuid4().hex}.tmp"
        self.spool = Spool(self.path)
        self.rows = 0
        #: Bytes in memory until it is closed; what ``spool`` holds is not among them.
        self.memory = self._group_memory = 0
        self._schema = builder.schema
        self._parquet = pq.ParquetWriter(
            pa.PythonFile(self.spool, "w"),
            builder.schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=builder.repeating_columns,
            write_statistics=_GROWING,
            column_encoding=dict.fromkeys(_GROWING, "DELTA_BINARY_PACKED"),
            write_batch_size=_STRIDE,
        )

    @property
    def size(self) -> int:
        """Bytes written."""
        return self.spool.tell()

    def write(self, table: pa.Table) -> None:
        """One row group."""
        self._parquet.write_table(table)
        self.rows += table.num_rows
        self._group_memory += _COLUMN_MEMORY * sum(map(_columns, self._schema.types))
        self.memory = self._group_memory + min(_VALUE_MEMORY * table.num_rows, _PAGE_MEMORY)

    def close(self, metadata: dict[str, str]) -> None:
        self._parquet.add_key_value_metadata(metadata)
        self._parquet.close()
        self.memory = 0

    def tables_from(self, offset: int) -> Iterator[pa.Table]:
        """Of the closed file, the rows at ``offset`` and above."""
        with pq.ParquetFile(self.path) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                if (rest := table.filter(pc.greater_equal(table["_offset"], offset))).num_rows:
                    yield rest.cast(self._schema)

    def discard(self) -> None:
        self.spool.discard()
        self._parquet.close()


def _columns(kind: pa.DataType) -> int:
    """How many of Parquet's columns it takes."""
    return sum(_columns(kind.field(i).type) for i in range(kind.num_fields)) or 1
