"""What an attempt came to: the meaning of a gRPC status.

| gRPC status                                          | outcome                                                      |
|------------------------------------------------------|--------------------------------------------------------------|
| OK, ALREADY_EXISTS                                   | delivered                                                    |
| UNAVAILABLE, and no connection                       | retryable; counts towards the consumer's breaker             |
| DEADLINE_EXCEEDED, UNKNOWN, INTERNAL, ABORTED,       | retryable; counts towards the endpoint's breaker             |
| CANCELLED, UNAUTHENTICATED, PERMISSION_DENIED        |                                                              |
| UNIMPLEMENTED                                        | the same, without in-memory attempts: it is not deployed yet |
| RESOURCE_EXHAUSTED                                   | retryable; halves what is in flight                          |
| INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION,    | rejected                                                     |
| OUT_OF_RANGE, DATA_LOSS                              |                                                              |

A consumer overrides this with the trailer ``waybill-action: retry | reject | done``.
"""

from dataclasses import dataclass
from enum import Enum

ACTION_TRAILER = "waybill-action"
ACTIONS = frozenset({"retry", "reject", "done"})

_DELIVERED = frozenset({"OK", "ALREADY_EXISTS"})
_REJECTED = frozenset({"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "OUT_OF_RANGE", "DATA_LOSS"})


class Against(Enum):
    """What a failed attempt speaks against."""

    CONSUMER = "consumer"
    ENDPOINT = "endpoint"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class Delivered:
    """The consumer has the event."""


@dataclass(frozen=True, slots=True)
class Retryable:
    """Another attempt may succeed; ``in_memory``: even at once."""

    status: str
    message: str
    against: Against
    in_memory: bool = True


@dataclass(frozen=True, slots=True)
class Rejected:
    """No attempt will ever succeed."""

    status: str
    message: str


@dataclass(frozen=True, slots=True)
class CutOff:
    """No attempt was spent: a breaker is open, or, if ``drained``, what waits was told to let go.

    ``openings``: how often the consumer's breaker opened while this delivery was in flight.
    """

    openings: int = 0
    drained: bool = False


Outcome = Delivered | Retryable | Rejected

DELIVERED = Delivered()


def classify(status: str, action: str | None = None, message: str = "") -> Outcome:
    """The outcome of an attempt; ``action`` is the consumer's trailer, whose unknown values count for nothing."""
    if action == "done" or (action not in ACTIONS and status in _DELIVERED):
        return DELIVERED
    if action == "reject" or (action not in ACTIONS and status in _REJECTED):
        return Rejected(status, message)
    if status == "RESOURCE_EXHAUSTED":
        against = Against.LIMIT
    elif status == "UNAVAILABLE" and action not in ACTIONS:
        against = Against.CONSUMER
    else:
        # Among them UNAVAILABLE with a trailer: whoever sends one is there.
        against = Against.ENDPOINT
    return Retryable(status, message, against, in_memory=status != "UNIMPLEMENTED")
