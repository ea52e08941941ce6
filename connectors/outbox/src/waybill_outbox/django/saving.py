"""Saving through Django's database connections."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, connections

from waybill_outbox.errors import NotInTransaction, OutboxError
from waybill_outbox.saving import inserts

if TYPE_CHECKING:
    from waybill_outbox.event import Event


def save(events: "Sequence[Event]", using: str | None) -> None:
    """Insert in the transaction of the database alias; NotInTransaction if it has none."""
    connection = connections[using or DEFAULT_DB_ALIAS]
    if connection.vendor != "postgresql":
        raise OutboxError(f"the outbox needs PostgreSQL; {connection.alias!r} is {connection.display_name}")
    if not in_transaction(connection):
        raise NotInTransaction(
            "save the event where its data is saved: "
            f"there is no transaction.atomic(using={connection.alias!r}) around this save()"
        )
    with connection.cursor() as cursor:
        for sql, parameters in inserts(events):
            cursor.execute(sql, parameters)


def in_transaction(connection: Any) -> bool:
    """Whether the service itself opened a transaction.

    Django's TestCase wraps each test in atomic blocks of its own; they must not hide a missing one.
    """
    if connection.atomic_blocks:
        return not all(block._from_testcase for block in connection.atomic_blocks)  # noqa: SLF001  # as atomic() does
    return not connection.get_autocommit()
