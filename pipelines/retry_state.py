"""One row of the ``retry-state`` table: how far a waiting delivery has come.

The record in the retry topic is the truth; the row is an index to it.  It keeps the budget across crashes, and it keeps
a record that is read again from being delivered again.
"""

import json
from dataclasses import asdict, dataclass

from pipelines.handover import HandOver


@dataclass(frozen=True, slots=True)
class RetryState:
    """``delivery`` with what was tried since; ``due`` and ``at`` (last change) in seconds since the epoch.

    ``done`` says how the delivery ended: delivered, dead, or "" while it waits.
    """

    delivery: HandOver
    due: float
    at: float
    done: str = ""

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def from_bytes(row: bytes) -> "RetryState":
        values = json.loads(row)
        return RetryState(**{**values, "delivery": HandOver(**values["delivery"])})


def key(event_id: str, endpoint: str, generation: int) -> bytes:
    """The row of one delivery: copies of its record share it, a replay gets a new one."""
    return json.dumps([event_id, endpoint, generation]).encode()


def event_id(row_key: bytes) -> str:
    found: str = json.loads(row_key)[0]
    return found
