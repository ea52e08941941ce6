"""An inbox in SQLite: which events arrived, written in one transaction with what they caused.

Events arrive at least once.  Whoever asks the inbox first has their effect once.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

ARRIVALS = "CREATE TABLE IF NOT EXISTS arrivals (event_id TEXT, rpc TEXT, attempt INTEGER)"


class Inbox:
    """The consumer's own database, made with the tables of ``schema``."""

    def __init__(self, path: Path, schema: str) -> None:
        self._turn = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {ARRIVALS}; {schema}")
        self._database.execute("CREATE INDEX IF NOT EXISTS arrival ON arrivals (event_id, rpc)")

    @contextmanager
    def receive(self, context: grpc.ServicerContext, rpc: str) -> Iterator[tuple[sqlite3.Connection, bool]]:
        """A transaction, and whether the event is new to ``rpc``.  An exception takes all of it back."""
        metadata = dict(context.invocation_metadata())
        event_id, attempt = metadata["ce-id"], int(metadata["waybill-attempt"])
        with self._turn, self._database as transaction:
            before = transaction.execute("SELECT 1 FROM arrivals WHERE event_id = ? AND rpc = ?", (event_id, rpc))
            is_new = before.fetchone() is None
            transaction.execute("INSERT INTO arrivals VALUES (?, ?, ?)", (event_id, rpc, attempt))
            yield transaction, is_new
