from django.db import models

from waybill_outbox.ids import uuid7


class OutboxEvent(models.Model):
    """A saved event, for reading; `build_event(...).save()` writes it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    topic = models.TextField()
    key = models.TextField()
    type = models.TextField()
    payload = models.BinaryField()
    source = models.TextField()
    created_at = models.DateTimeField()
    traceparent = models.TextField(null=True)  # noqa: DJ001  # NULL is an absent header, "" would be an empty one
    tracestate = models.TextField(null=True)  # noqa: DJ001  # same
    specversion = models.TextField(default="1.0")

    class Meta:  # noqa: D106  # Django's word for options
        db_table = "outbox_event"

    def __str__(self) -> str:
        return f"{self.type} {self.id}"
