"""What the workers' Prometheus endpoints say, in the few numbers that the demo shows."""

import http.client
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

BREAKER = {0: "closed", 1: "half-open", 2: "open"}


@dataclass(frozen=True)
class Delivering:
    """A consumer's worker.

    ``breaker``: the worst state of its breakers; ``openings``: of the consumer's own; ``oldest``: seconds the oldest
    event waits.
    """

    delivered: int = 0
    failed: int = 0
    retried: int = 0
    waiting: int = 0
    dead: int = 0
    oldest: float = 0.0
    breaker: str = "closed"
    openings: int = 0


@dataclass(frozen=True)
class Archiving:
    """The lake's worker.  ``age``: seconds since the oldest record was read that is in no file yet."""

    rows: int = 0
    files: int = 0
    age: float = 0.0


def fetch(port: int) -> tuple[Metric, ...] | None:
    """The metrics of the worker that serves them there; None while it does not."""
    with suppress(OSError, http.client.HTTPException, ValueError):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
            return tuple(text_string_to_metric_families(answer.read().decode()))
    return None


def delivering(metrics: Iterable[Metric]) -> Delivering:
    values = Values(metrics)
    return Delivering(
        delivered=int(values.total("waybill_attempts_total", outcome="delivered")),
        failed=int(values.total("waybill_attempts_total", outcome="retryable")),
        retried=int(values.total("waybill_hand_overs_total")),
        waiting=int(values.total("waybill_retry_backlog")),
        dead=int(values.total("waybill_dead_letters_total")),
        oldest=values.largest("waybill_oldest_undelivered_seconds"),
        breaker=BREAKER[int(values.largest("waybill_breaker_state"))],
        openings=int(values.total("waybill_breaker_openings_total", endpoint="")),
    )


def archiving(metrics: Iterable[Metric]) -> Archiving:
    values = Values(metrics)
    return Archiving(
        rows=int(values.total("waybill_lake_rows_total")),
        files=int(values.total("waybill_lake_files_total")),
        age=values.largest("waybill_lake_commit_age_seconds"),
    )


class Values:
    """Samples by name and labels."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._samples = [sample for metric in metrics for sample in metric.samples]

    def matching(self, name: str, **labels: str) -> list[float]:
        return [
            sample.value
            for sample in self._samples
            if sample.name == name and all(sample.labels.get(label) == value for label, value in labels.items())
        ]

    def total(self, name: str, **labels: str) -> float:
        return sum(self.matching(name, **labels))

    def largest(self, name: str, **labels: str) -> float:
        return max(self.matching(name, **labels), default=0.0)
