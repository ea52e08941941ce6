"""The lake: events as Parquet files."""

import os

# Before anything imports Arrow: its own allocator keeps what it has had, a fifth of a sink's memory.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
