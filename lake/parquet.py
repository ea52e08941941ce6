"""A Parquet file of the lake, being written in the scratch folder."""

import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.rows import RowBuilder


class SegmentFile:
    """Of one segment."""

    def __init__(self, scratch: Path, builder: RowBuilder) -> None:
        self.path = scratch / f".{uuid.uuid4().hex}.tmp"
        self.rows = 0
        self._schema = builder.schema
        self._out = pa.OSFile(str(self.path), "wb")
        self._parquet = pq.ParquetWriter(
            self._out,
            builder.schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=builder.repeating_columns,
        )

    @property
    def size(self) -> int:
        """Bytes written, until it is closed."""
        return int(self._out.tell())

    def write(self, table: pa.Table) -> None:
        """One row group."""
        self._parquet.write_table(table)
        self.rows += table.num_rows

    def close(self, metadata: dict[str, str]) -> None:
        self._parquet.add_key_value_metadata(metadata)
        self._close()

    def tables_from(self, offset: int) -> Iterator[pa.Table]:
        """Of the closed file, the rows at ``offset`` and above."""
        with pq.ParquetFile(self.path) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                if (rest := table.filter(pc.greater_equal(table["_offset"], offset))).num_rows:
                    yield rest.cast(self._schema)

    def discard(self) -> None:
        if not self._out.closed:
            with suppress(OSError):  # the disk may be full: why it is discarded
                self._close()
        self.path.unlink()

    def _close(self) -> None:
        self._parquet.close()
        self._out.close()
