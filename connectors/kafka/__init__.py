"""The engine: Faust with record batches and commits that never pass an unfinished record.

Reading order: ``window`` (the commit rule), ``gate`` (intake and drain), ``thread`` and ``consumer`` (how records
come in), ``holds`` (what cannot go on), ``producer`` (hand-overs), ``rights`` (what a worker needs before it begins),
``app`` (Faust's hooks), ``pool``; ``watchdog`` (when a worker stands still) and ``guard`` (its thread).
"""

from connectors.kafka.app import App
from connectors.kafka.gate import Bounds, Gate
from connectors.kafka.pool import Pool
from connectors.kafka.rights import Needs
from connectors.kafka.tables import on_partition_of, table_bytes
from connectors.kafka.window import Batch, Forgotten, HoleError, Window

__all__ = [
    "App",
    "Batch",
    "Bounds",
    "Forgotten",
    "Gate",
    "HoleError",
    "Needs",
    "Pool",
    "Window",
    "on_partition_of",
    "table_bytes",
]
