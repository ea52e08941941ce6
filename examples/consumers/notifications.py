"""notifications: sends messages to recipients.  Its first version has two bugs; ``--mended`` is the second version.

python -m examples.consumers.notifications HOST:PORT DATABASE [--mended]
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

SCHEMA = "CREATE TABLE IF NOT EXISTS messages (recipient TEXT, text TEXT)"

ARRIVED = {
    "DE": "Ihr Paket ist da.",
    "FR": "Votre colis est arrivé.",
    "GB": "Your parcel is here.",
    "NL": "Uw pakket is er.",
}
ARRIVED_MENDED = {**ARRIVED, "PT": "A sua encomenda chegou."}


class Notifications(EventsAPIServicer):
    """Two ways to fail: a rejected event becomes a dead letter, one that fails otherwise is tried again."""

    def __init__(self, inbox: Inbox, *, mended: bool) -> None:
        self.inbox, self.mended = inbox, mended
        self.arrived = ARRIVED_MENDED if mended else ARRIVED

    def PackageDelivered(self, event: events_pb2.PackageDeliveredEvent, context: grpc.ServicerContext) -> Empty:
        address = event.package.destination
        if address.country_code not in self.arrived:
            # Trying again is in vain: INVALID_ARGUMENT rejects the event, and abort() raises.
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no text for country {address.country_code}")
        with self.inbox.receive(context, "PackageDelivered") as (transaction, is_new):
            if is_new:
                text = self.arrived[address.country_code]
                transaction.execute("INSERT INTO messages VALUES (?, ?)", (address.phone, text))
                self.ask_gateway(address.phone, context)
        return Empty()

    def PackageDelayed(self, event: events_pb2.PackageDelayedEvent, context: grpc.ServicerContext) -> Empty:
        with self.inbox.receive(context, "PackageDelayed") as (transaction, is_new):
            if is_new:
                text = f"Delayed by {event.delay.ToSeconds() // 3600} h."
                transaction.execute("INSERT INTO messages VALUES (?, ?)", (event.package_id, text))
                self.ask_gateway(event.package_id, context)
        return Empty()

    def ask_gateway(self, recipient: str, context: grpc.ServicerContext) -> None:
        """Stands for an SMS gateway that, before it was mended, took some messages only at the fifth attempt."""
        attempt = int(dict(context.invocation_metadata())["waybill-attempt"])
        if not self.mended and recipient.endswith("7") and attempt < 5:
            context.abort(grpc.StatusCode.INTERNAL, "the SMS gateway does not answer")


if __name__ == "__main__":
    address, database, *options = sys.argv[1:]
    serve(Notifications(Inbox(Path(database), SCHEMA), mended=options == ["--mended"]), address)
