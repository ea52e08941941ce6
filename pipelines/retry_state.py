"""One row of the ``retry-state`` table: how far a waiting delivery has come.

The record in the retry topic is the truth; the row is an index to it.  It keeps the budget across crashes, and it keeps
a record that is read again from being delivered again.

A change of what is written here needs a higher FORMAT and a golden file of it (tests/golden).
"""

import json
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter, ValidationError

from pipelines import versions
from pipelines.handover import HandOver
from pipelines.versions import UnreadableRow

#: The version of a row that is written, and the newest that is read.
FORMAT = 1


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
        return json.dumps({"format": FORMAT, **asdict(self)}).encode()

    @staticmethod
    def from_bytes(row: bytes) -> "RetryState":
        """Raises UnreadableRow, and NewerVersion."""
        try:
            return _STATE.validate_python(versions.fields("a row of the retry table", row, FORMAT))
        except ValidationError as error:
            raise UnreadableRow(f"a row of the retry table does not fit: {error.errors()[0]['msg']}") from None


_STATE = TypeAdapter(RetryState)


def key(event_id: str, endpoint: str, generation: int) -> bytes:
    """The row of one delivery: copies of its record share it, a replay gets a new one."""
    return json.dumps([event_id, endpoint, generation]).encode()


def event_id(row_key: bytes) -> str:
    """Raises UnreadableRow if nobody here wrote that key."""
    match versions.fields("a key of the retry table", row_key, FORMAT):
        case [str(found), *_]:
            return found
        case _:
            raise UnreadableRow("a key of the retry table is none")
