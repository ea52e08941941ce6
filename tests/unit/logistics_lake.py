"""A small lake of the logistics events, by the real sink and compactor: what docs/lake.md asks its questions to."""

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from aiokafka.structs import ConsumerRecord
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

from connectors import schemas
from lake import layout
from lake.hot.chains import Chains
from lake.hot.fetches import Fetch
from lake.main import compact
from lake.segments import Limits
from lake.storage.local import LocalStorage

ROOT = Path(__file__).parents[2]
DE, FR = (
    {"recipient": "Ada", "country_code": code, "postal_code": postal}
    for code, postal in [("DE", "10115"), ("FR", "69002")]
)


@dataclass(frozen=True)
class Event:
    id: str
    topic: str
    time: str
    """``DD hh:mm`` of November 2026."""
    message: dict[str, Any]
    source: str = "packages"


def package(number: int, address: dict[str, str], grams: int, created: str, **more: Any) -> dict[str, Any]:
    return {"id": f"P-{number}", "destination": address, "weight_grams": grams, "created_at": iso(created), **more}


def iso(time: str) -> str:
    return datetime.strptime(f"2026-11-{time}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC).isoformat()


P1 = package(1, DE, 1200, "02 08:05", labels={"fragile": "yes"}, items=[{"sku": "cup", "quantity": 4}, {"sku": "pot"}])
P2 = package(2, DE, 800, "02 09:40")
P3 = package(3, FR, 15000, "02 09:55")
P4 = package(4, FR, 300, "03 10:20")
P5 = package(5, DE, 2500, "03 21:10")

EVENTS = [
    Event("e-01", "package_created", "02 08:05", {"package": P1, "sender_id": "S-1"}),
    Event("e-02", "package_created", "02 09:40", {"package": P2, "sender_id": "S-1"}),
    Event("e-03", "package_created", "02 09:55", {"package": P3, "sender_id": "S-2"}),
    Event("e-04", "package_created", "03 10:20", {"package": P4, "sender_id": "S-2"}, "web-shop"),
    Event(
        "e-05",
        "package_delivered",
        "03 11:30",
        {"package": P1, "delivered_at": iso("03 11:28"), "signature": {"signed_by": "Ada"}},
    ),
    Event("e-06", "package_delivered", "03 14:02", {"package": P2, "delivered_at": iso("03 14:00"), "pin_code": 4711}),
    Event(
        "e-07",
        "package_delayed",
        "03 18:00",
        {
            "package_id": "P-3",
            "delay": "129600s",
            "reason": "DELAY_REASON_WEATHER",
            "minutes_lost_by_hub": {"lyon": 95, "paris": 40},
        },
    ),
    Event("e-08", "package_created", "03 21:10", {"package": P5, "sender_id": "S-1"}),
    Event(
        "e-09",
        "route_assigned",
        "04 06:30",
        {
            "route_id": 17,
            "driver_id": "D-1",
            "stops": [
                {"package_id": "P-4", "planned_at": iso("04 15:00")},
                {"package_id": "P-5", "planned_at": iso("04 15:40")},
            ],
        },
        "routes",
    ),
    Event(
        "e-10",
        "package_delayed",
        "04 07:00",
        {"package_id": "P-3", "delay": "43200s", "reason": "DELAY_REASON_CUSTOMS", "minutes_lost_by_hub": {"lyon": 30}},
    ),
    Event(
        "e-11",
        "package_delayed",
        "04 12:00",
        {"package_id": "P-5", "delay": "7200s", "reason": "DELAY_REASON_TRAFFIC", "note": "A7 closed"},
    ),
    Event(
        "e-12",
        "package_delivered",
        "04 16:47",
        {"package": P4, "delivered_at": iso("04 16:45"), "photo_key": "p/4.jpg"},
    ),
    Event("e-06", "package_delivered", "03 14:02", {"package": P2, "delivered_at": iso("03 14:00"), "pin_code": 4711}),
    Event(
        "e-13",
        "package_delivered",
        "05 09:16",
        {"package": {**P3, "weight_grams": 15200}, "delivered_at": iso("05 09:15"), "photo_key": "p/3.jpg"},
    ),
]
#: So many of them are compacted; the rest is in segments.
COMPACTED = 9


class Window:
    live = True


def build(root: Path) -> LocalStorage:
    storage, catalog = LocalStorage(root), schemas.load(ROOT / "proto/descriptors.binpb")
    layout.prepare(storage, catalog.events)
    limits = Limits(1 << 30, 60.0, 1 << 30)
    for events in (EVENTS[:COMPACTED], EVENTS[COMPACTED:]):
        sink = Chains(storage, catalog.events, limits, lambda topics: dict.fromkeys(topics, "an-epoch"))
        by_topic = {topic: list(those) for topic, those in groupby(sorted(events, key=_topic), key=_topic)}
        starts = sink.assign([(topic, 0) for topic in by_topic])
        for topic, those in by_topic.items():
            start = int(starts[topic, 0])
            records = [_record(catalog, event, start + number) for number, event in enumerate(those)]
            end = start + len(records)
            sink.step([Fetch(Window(), topic, 0, records, start, end, 1000)])
            sink.flush()
        sink.close()
        if events[0].id == EVENTS[0].id:
            compact.run(storage, sorted(by_topic), compact.Policy(1 << 27, 0.0, 86400.0), everything=True)
    return storage


def _topic(event: Event) -> str:
    return event.topic


def _record(catalog: schemas.Catalog, event: Event, offset: int) -> ConsumerRecord:
    kind = catalog.event(event.topic)
    assert kind
    value = ParseDict(event.message, GetMessageClass(kind.descriptor)()).SerializeToString()
    told = {
        "ce_id": event.id,
        "ce_type": kind.name,
        "ce_source": event.source,
        "ce_time": iso(event.time),
        "traceparent": f"00-{int(event.id[2:]):032x}-0000000000000001-01",
    }
    headers = tuple((name, text.encode()) for name, text in told.items())
    arrived = int(datetime.fromisoformat(iso(event.time)).timestamp() * 1000) + 500
    return ConsumerRecord(event.topic, 0, offset, arrived, 0, None, value, None, 0, 0, headers)
