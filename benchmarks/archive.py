"""What the lake's sink and a bare loop archive: a catalog of one event type and a topic of its events."""

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka import Producer
from consumers import ROOT
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message_factory import GetMessageClass
from waybill.v1 import options_pb2

from connectors import schemas
from connectors.schemas import EventType

TOPIC = "package_delivered"
EVENTS = "logistics/v1/events.proto"


def configure(folder: Path, bootstrap: str, topic: str = TOPIC) -> Path:
    """Write the settings of a lake of one ``topic`` into ``folder``, and return their file."""
    folder.mkdir(parents=True, exist_ok=True)
    described = FileDescriptorSet.FromString((ROOT / "proto/descriptors.binpb").read_bytes())
    catalog = FileDescriptorSet()
    for file in described.file:
        if file.name == EVENTS:
            (kept,) = [message for message in file.message_type if message.name == "PackageDeliveredEvent"]
            del file.message_type[:], file.enum_type[:]
            kept.options.Extensions[options_pb2.event].topic = topic
            file.message_type.append(kept)
        if not file.service:
            catalog.file.append(file)
    (folder / "descriptors.binpb").write_bytes(catalog.SerializeToString())
    settings = {
        "kafka": {"bootstrap-servers": bootstrap},
        "descriptors": "descriptors.binpb",
        "consumers": ["consumers/*.yaml"],
        "lake": {"root": "lake"},
    }
    path = folder / "waybill.yaml"
    path.write_text(json.dumps(settings))
    return path


def fill(bootstrap: str, config: Path, topic: str, count: int) -> None:
    """Events of about 300 B, nested, with the headers of an outbox."""
    event = schemas.load(config.with_name("descriptors.binpb")).event(topic)
    assert event is not None
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "queue.buffering.max.messages": count + 1})
    for _, key, value, headers in records(event, count):
        producer.produce(topic, value, key, headers=headers)
        producer.poll(0)
    if producer.flush(120):
        raise SystemExit("Kafka did not take all events within two minutes")


def records(event: EventType, count: int) -> Iterator[tuple[int, str, bytes, list[tuple[str, bytes]]]]:
    """Of each event the time, in milliseconds, the key, the value and the headers."""
    new, rng = GetMessageClass(event.descriptor), random.Random(1)
    began = int(time.time() * 1000)
    for number in range(count):
        at = began + number
        delivered = new(
            package={
                "id": f"{rng.getrandbits(128):032x}",
                "status": 4,
                "destination": {
                    "recipient": f"Recipient {number % 5_000}",
                    "lines": [f"{number % 300} Harbour Street", "Second floor, on the left"],
                    "postal_code": f"{number % 100_000:05}",
                    "country_code": "NL",
                },
                "weight_grams": rng.randrange(20_000),
                "dimensions": {"length_mm": 300, "width_mm": 200, "height_mm": rng.randrange(100)},
                "labels": {"fragile": "yes", "channel": "web"},
                "items": [
                    {
                        "sku": f"SKU-{rng.randrange(10**6):06}",
                        "quantity": 1 + item,
                        "value": {"currency_code": "EUR", "amount_cents": rng.randrange(10**5)},
                    }
                    for item in range(3)
                ],
            },
            signature={"signed_by": f"Recipient {number % 5_000}"},
        )
        delivered.package.created_at.FromMilliseconds(at - 86_400_000)
        delivered.delivered_at.FromMilliseconds(at)
        headers = [
            ("ce_id", f"{rng.getrandbits(128):036x}".encode()),
            ("ce_type", event.name.encode()),
            ("ce_source", b"packages"),
            ("ce_time", delivered.delivered_at.ToJsonString().encode()),
        ]
        yield at, delivered.package.id, delivered.SerializeToString(), headers
