"""The engine: Faust with record batches and commits that never pass an unfinished record.

Reading order: ``window`` (the commit rule), ``gate`` (intake and drain), ``consumer`` and ``app``
(Faust's hooks), ``pool``.
"""

from connectors.kafka.app import App, on_partition_of
from connectors.kafka.gate import Bounds, Gate
from connectors.kafka.pool import Pool
from connectors.kafka.window import Batch, HoleError, Window

__all__ = ["App", "Batch", "Bounds", "Gate", "HoleError", "Pool", "Window", "on_partition_of"]
