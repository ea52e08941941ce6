"""The lake: events as Parquet files."""

import os

# Before anything imports Arrow: mimalloc keeps what it has had, and glibc's heap would be full of holes between Arrow's
# buffers and Python's; either is a fifth of a sink's memory.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")
