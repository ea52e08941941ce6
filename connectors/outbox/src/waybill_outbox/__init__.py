"""Save an event in the transaction of your data.

    from waybill_outbox import build_event

    with transaction.atomic():
        package.save()
        build_event(PackageDeliveredEvent(package=package.to_proto())).save()

Django saves with `save()` or `save(using="alias")`, psycopg with `save(connection)` or `await asave(connection)`.
"""

from waybill_outbox.errors import InvalidEvent, NotInTransaction, OutboxError
from waybill_outbox.event import MAX_MESSAGE_BYTES, Event, asave_many, build_event, save_many
from waybill_outbox.sql import connector_role, ddl

__all__ = [
    "MAX_MESSAGE_BYTES",
    "Event",
    "InvalidEvent",
    "NotInTransaction",
    "OutboxError",
    "asave_many",
    "build_event",
    "connector_role",
    "ddl",
    "save_many",
]
