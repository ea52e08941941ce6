"""How a delivery is given up: a record in the consumer's DLQ topic, a line in the log, a count in the metrics."""

import structlog

from connectors.kafka import App, Batch
from pipelines import handover, metrics
from pipelines.events import Event
from pipelines.format import Consumer
from pipelines.handover import HandOver

log = structlog.get_logger()

#: Statuses under which a metric names no endpoint: what a broken record says would make series without end.
_NO_ENDPOINT = frozenset({"MALFORMED", "GONE"})


async def bury(app: App, batch: Batch, consumer: Consumer, event: Event, delivery: HandOver) -> bool:
    """True when the brokers have the dead letter; False if the partition of ``batch`` is no longer ours."""
    headers = handover.headers(event.headers, event.id, delivery)
    if not await app.hand_over(batch, consumer.dlq_topic, event.key, event.value, headers):
        return False
    endpoint = "" if delivery.status in _NO_ENDPOINT else delivery.endpoint
    metrics.DEAD_LETTERS.labels(consumer.name, endpoint, delivery.status).inc()
    log.warning(
        "a delivery became a dead letter",
        consumer=consumer.name,
        endpoint=delivery.endpoint,
        event_id=event.id,
        attempts=delivery.attempts,
        status=delivery.status,
        error=delivery.error,
    )
    return True
