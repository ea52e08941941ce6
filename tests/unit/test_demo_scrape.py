"""The demo reads the metrics under the names that the workers give them."""

import pytest
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import lake.metrics
from examples.demo.scrape import Archiving, Delivering, archiving, delivering
from pipelines import metrics


@pytest.fixture(scope="module")
def scraped():
    """What a worker would serve that did a little of everything."""
    for outcome, times in {"delivered": 3, "retryable": 2, "rejected": 1}.items():
        metrics.ATTEMPTS.labels("demo", "E", outcome, "STATUS").inc(times)
    metrics.HAND_OVERS.labels("demo", "E").inc(4)
    metrics.RETRY_BACKLOG.labels("demo").set(5)
    metrics.DEAD_LETTERS.labels("demo", "E", "STATUS").inc(6)
    metrics.OLDEST_UNDELIVERED.labels("demo", "topic_a").set(7)
    metrics.OLDEST_UNDELIVERED.labels("demo", "topic_b").set(8)
    metrics.BREAKER_STATE.labels("demo", "").set(1)
    metrics.BREAKER_STATE.labels("demo", "E").set(2)
    metrics.BREAKER_OPENINGS.labels("demo", "").inc(9)
    metrics.BREAKER_OPENINGS.labels("demo", "E").inc(1)
    lake.metrics.ROWS.labels("demo").inc(10)
    lake.metrics.FILES.labels("demo", "age").inc(11)
    lake.metrics.COMMIT_AGE.set(12)
    families = list(text_string_to_metric_families(generate_latest(REGISTRY).decode()))
    for family in families:  # other tests of this process have counted, too
        family.samples = [sample for sample in family.samples if not sample.labels or "demo" in sample.labels.values()]
    return families


def test_a_worker_of_a_consumer_is_read(scraped):
    assert delivering(scraped) == Delivering(
        delivered=3, failed=2, retried=4, waiting=5, dead=6, oldest=8.0, breaker="open", openings=9
    )


def test_the_worker_of_the_lake_is_read(scraped):
    assert archiving(scraped) == Archiving(rows=10, files=11, age=12.0)


def test_a_worker_without_any_samples_is_idle():
    assert delivering([]) == Delivering()
    assert archiving([]) == Archiving()
