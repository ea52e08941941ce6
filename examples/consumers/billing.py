"""billing: books what every event costs.

python -m examples.consumers.billing HOST:PORT DATABASE
"""

# ruff: noqa: N802 - methods are called as the RPCs

import sys
from pathlib import Path

import grpc
from google.protobuf.empty_pb2 import Empty
from logistics.v1 import events_pb2
from logistics.v1.events_api_pb2_grpc import EventsAPIServicer

from examples.consumers.inbox import Inbox
from examples.consumers.serving import serve

SCHEMA = "CREATE TABLE IF NOT EXISTS bookings (account TEXT, cents INTEGER)"


class Billing(EventsAPIServicer):
    """Returning is the answer "handled"."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox

    def PackageCreated(self, event: events_pb2.PackageCreatedEvent, context: grpc.ServicerContext) -> Empty:
        with self.inbox.receive(context, "PackageCreated") as (transaction, is_new):
            if is_new:
                cents = 390 + event.package.weight_grams // 10
                transaction.execute("INSERT INTO bookings VALUES (?, ?)", (event.sender_id, cents))
        return Empty()

    def PackageDelivered(self, event: events_pb2.PackageDeliveredEvent, context: grpc.ServicerContext) -> Empty:
        with self.inbox.receive(context, "PackageDelivered") as (transaction, is_new):
            if is_new:
                transaction.execute("INSERT INTO bookings VALUES ('deliveries', 1)")
        return Empty()

    def PackageDelayed(self, event: events_pb2.PackageDelayedEvent, context: grpc.ServicerContext) -> Empty:
        with self.inbox.receive(context, "PackageDelayed") as (transaction, is_new):
            if is_new:
                transaction.execute("INSERT INTO bookings VALUES ('refunds', -100)")
        return Empty()

    def RouteAssigned(self, event: events_pb2.RouteAssignedEvent, context: grpc.ServicerContext) -> Empty:
        with self.inbox.receive(context, "RouteAssigned") as (transaction, is_new):
            if is_new:
                pay = -250 * len(event.stops)
                transaction.execute("INSERT INTO bookings VALUES (?, ?)", (event.driver_id, pay))
        return Empty()


if __name__ == "__main__":
    address, database = sys.argv[1:]
    serve(Billing(Inbox(Path(database), SCHEMA)), address)
