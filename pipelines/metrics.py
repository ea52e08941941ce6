"""Every metric of the stream, by name.  Times are in seconds.

``consumer`` and ``endpoint`` are written as in the headers of a hand-over.  ``endpoint=""`` is the consumer as a whole.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial

from prometheus_client import Counter, Gauge, Histogram

CALL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0)

ATTEMPTS = Counter(
    "waybill_attempts",
    "Attempts by what came of them: delivered, retryable, rejected, or cut off (by a breaker, hence not spent).",
    ["consumer", "endpoint", "outcome", "status"],
)
ATTEMPT_SECONDS = Histogram(
    "waybill_attempt_seconds",
    "How long attempts took, whatever came of them.",
    ["consumer", "endpoint"],
    buckets=CALL_BUCKETS,
)
HAND_OVERS = Counter(
    "waybill_hand_overs",
    "Deliveries handed over to the retry topic.",
    ["consumer", "endpoint"],
)
DEAD_LETTERS = Counter(
    "waybill_dead_letters",
    "Deliveries that became dead letters; the reason is a gRPC status or Waybill's own.",
    ["consumer", "endpoint", "reason"],
)
RETRY_BACKLOG = Gauge(
    "waybill_retry_backlog",
    "Deliveries of the retry topic that wait in this process.",
    ["consumer"],
)
READ_AGAIN = Counter(
    "waybill_retries_read_again",
    "Retries whose payloads this process could not hold while they waited, and read again.",
    ["consumer"],
)
OLDEST_UNDELIVERED = Gauge(
    "waybill_oldest_undelivered_seconds",
    "Age of the oldest event that this process has read and not committed; 0 without any.",
    ["consumer", "topic"],
)
IN_FLIGHT = Gauge(
    "waybill_in_flight",
    "Calls in flight, by kind: fresh or retry.",
    ["consumer", "kind"],
)
IN_FLIGHT_LIMIT = Gauge(
    "waybill_in_flight_limit",
    "Calls that may be in flight now; 0 while the consumer's breaker is not closed.",
    ["consumer"],
)
WAITING = Gauge(
    "waybill_waiting",
    "Deliveries that wait for a breaker or for a free place in flight.",
    ["consumer"],
)
BREAKER_STATE = Gauge(
    "waybill_breaker_state",
    "0 closed, 1 half-open, 2 open.",
    ["consumer", "endpoint"],
)
BREAKER_OPENINGS = Counter(
    "waybill_breaker_openings",
    "How often a breaker opened after it was closed.",
    ["consumer", "endpoint"],
)
CONFIG_MIXED = Gauge(
    "waybill_config_mixed",
    "1 while workers of a consumer go by different configurations: a rollout that is not done.",
    ["consumer"],
)


def watch(consumer: str, topics: Iterable[str], oldest: Callable[[str], float | None]) -> None:
    """Read these when they are asked for.  ``oldest``: since when an event of a topic waits, or None."""

    def age(topic: str) -> float:
        since = oldest(topic)
        return 0.0 if since is None else max(0.0, time.time() - since)

    for topic in topics:
        OLDEST_UNDELIVERED.labels(consumer, topic).set_function(partial(age, topic))


class EndpointMetrics:
    """The metrics of one endpoint's attempts, bound once: an attempt must not look labels up."""

    __slots__ = ("_labels", "delivered", "seconds")

    def __init__(self, consumer: str, endpoint: str) -> None:
        self._labels = (consumer, endpoint)
        self.delivered: Callable[[], None] = ATTEMPTS.labels(consumer, endpoint, "delivered", "OK").inc
        self.seconds: Callable[[float], None] = ATTEMPT_SECONDS.labels(consumer, endpoint).observe

    def attempt(self, outcome: str, status: str) -> None:
        """One attempt that came to something else than a plain OK."""
        ATTEMPTS.labels(*self._labels, outcome, status).inc()
