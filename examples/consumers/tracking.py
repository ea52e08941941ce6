"""tracking: knows where each package is.

python -m examples.consumers.tracking HOST:PORT DATABASE
"""

# ruff: noqa: N802 - methods are called as the RPCs

import sqlite3
import sys
from pathlib import Path

import grpc
from google.protobuf.empty_pb2 import Empty
from logistics.v1 import events_pb2
from logistics.v1.events_api_pb2_grpc import EventsAPIServicer

from examples.consumers.inbox import Inbox
from examples.consumers.serving import serve

SCHEMA = "CREATE TABLE IF NOT EXISTS progress (package_id TEXT PRIMARY KEY, stage INTEGER)"
CREATED, ON_TOUR, DELIVERED = range(3)


class Tracking(EventsAPIServicer):
    """Events come in any order: what was delivered stays delivered, even if "created" arrives later."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox

    def PackageCreated(self, event: events_pb2.PackageCreatedEvent, context: grpc.ServicerContext) -> Empty:
        with self.inbox.receive(context, "PackageCreated") as (transaction, _):
            advance(transaction, event.package.id, CREATED)
        return Empty()

    def RouteAssigned(self, event: events_pb2.RouteAssignedEvent, context: grpc.ServicerContext) -> Empty:
        with self.inbox.receive(context, "RouteAssigned") as (transaction, _):
            for stop in event.stops:
                advance(transaction, stop.package_id, ON_TOUR)
        return Empty()

    def PackageDelivered(self, event: events_pb2.PackageDeliveredEvent, context: grpc.ServicerContext) -> Empty:
        with self.inbox.receive(context, "PackageDelivered") as (transaction, _):
            advance(transaction, event.package.id, DELIVERED)
        return Empty()


def advance(transaction: sqlite3.Connection, package_id: str, stage: int) -> None:
    """Twice is as good as once, so this consumer need not ask whether an event is new."""
    transaction.execute(
        "INSERT INTO progress VALUES (?, ?) ON CONFLICT (package_id) DO UPDATE SET stage = max(stage, excluded.stage)",
        (package_id, stage),
    )


if __name__ == "__main__":
    address, database = sys.argv[1:]
    serve(Tracking(Inbox(Path(database), SCHEMA)), address)
