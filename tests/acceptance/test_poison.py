"""Records that nobody should write and somebody will: each is answered for, and the events around them arrive."""

import asyncio
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from confluent_kafka import Producer
from harness import World, wait_until

from pipelines import handover, names, retry_state
from pipelines.handover import HandOver

QUICK = {
    "timeout": 5,
    "in-memory-retry": {"attempts": 0},
    "retry-backoff": {"initial": 0.1, "max": 0.2},
    "max-retry-attempts": 5,
}
TYPE = b"logistics.v1.PackageDeliveredEvent"
ENDPOINT = "logistics.v1.EventsAPI/PackageDelivered"
LIMIT = 4 << 20
KIB = 1 << 10
#: What no compression makes smaller.
NOISE = Random(4).randbytes(5 << 20)


@dataclass(frozen=True)
class Poison:
    """``status`` and ``error`` (a pattern) of the dead letter; none: it is delivered, ``known_as`` what is given."""

    name: str
    headers: list[tuple[str, bytes | None]]
    status: str = ""
    error: str = ""
    key: bytes | None = b"k"
    value: bytes | None = b"v"
    known_as: str = ""


def event(name: str, *headers: tuple[str, bytes | None], **told: object) -> Poison:
    return Poison(name, [*headers, ("ce_id", name.encode())], **told)


#: Records of a source topic.  The consumer answers INVALID_ARGUMENT to those whose error says so.
EVENTS = [
    event("null", status="REFUSED", error="no payload", value=None),
    event("nothing-at-all", status="REFUSED", error="no payload", key=None, value=None),
    event("other-type", ("ce_type", b"logistics.v1.Else"), status="REFUSED", error="unexpected type: 'logistics.v1.E"),
    event("binary-type", ("ce_type", b"\xff\x00"), status="REFUSED", error=r"unexpected type: '\\\\xff"),
    event("no-type", ("ce_type", b"")),
    event("null-type", ("ce_type", None)),
    event("two-types", ("ce_type", TYPE), ("ce_type", b"logistics.v1.Else")),
    Poison("two-ids", [("ce_id", None), ("ce_id", b"first"), ("ce_id", b"second")], known_as="first"),
    event("no-names", ("", b""), ("", None), ("ce_time", None)),
    event("binary-source", ("ce_source", bytes(range(256)))),
    event("binary-headers", ("x", b"\xff\xfe"), ("traceparent", b"\r\n\0")),
    event("long-trace", ("tracestate", b"a=1," * 5000)),
    event("long-source", ("ce_source", b"s" * 20 * KIB), status="REFUSED", error="too much metadata: .* in ce-source"),
    Poison(
        "long-id",
        [("ce_id", b"long-id" + b"i" * 20 * KIB)],
        status="REFUSED",
        error="too much metadata: .* in ce-id",
        known_as="long-id" + "i" * 20 * KIB,
    ),
    event("too-large", value=NOISE[: LIMIT + 1], status="REFUSED", error="too large: 4194305 bytes"),
    event("huge-once-unpacked", value=b"x" * 5 * LIMIT, status="REFUSED", error="too large: 20971520 bytes"),
    event("as-large-as-any", ("x", NOISE[: 60 * KIB]), value=NOISE[:LIMIT], status="INVALID_ARGUMENT"),
    event("large-key", key=NOISE[: 1024 * KIB], value=NOISE[: 3072 * KIB], status="INVALID_ARGUMENT"),
    event("large-headers", ("x", NOISE[: 500 * KIB]), ("y" * 100 * KIB, b""), status="INVALID_ARGUMENT"),
    event("many-headers", *[("x", b"1")] * 20_000, status="INVALID_ARGUMENT"),
    event("large-retry", ("x", NOISE[: 60 * KIB]), value=NOISE[:LIMIT]),
]


def retries(consumer: str) -> Iterable[Poison]:
    """Records of a retry topic."""
    given = HandOver(consumer, ENDPOINT, "package_delivered", 0, 0)

    def retry(name: str, delivery: HandOver = given, leave_out: str = "", **told: object) -> Poison:
        written = handover.headers([("ce_id", name.encode())], name, delivery)
        return Poison(name, [(header, value) for header, value in written if header != leave_out], **told)

    def with_header(name: str, header: str, value: bytes, error: str = "is no number") -> Poison:
        made = retry(name, leave_out=header, status="MALFORMED", error=f"malformed retry record: .*{error}")
        return replace(made, headers=[*made.headers, (header, value)])

    for field in handover.FIELDS:
        header = handover.PREFIX + field
        yield retry(f"without-{field}", leave_out=header, status="MALFORMED", error=f"no header {header}")
    for field in ("partition", "offset", "generation", "attempts", "format"):
        header = handover.PREFIX + field
        yield with_header(f"no-number-{field}", header, b"x")
        yield with_header(f"negative-{field}", header, b"-1")
        yield with_header(f"huge-{field}", header, b"9" * 5000)
        yield with_header(f"arabic-{field}", header, "\u0663".encode())
    yield with_header("long-error", "waybill_error", b"e" * 20 * KIB, "longer than")
    yield retry("nowhere", replace(given, endpoint="p.S/Nowhere"), status="GONE", error="endpoint p.S/Nowhere is not")
    yield retry("of-another", replace(given, consumer="another"), status="MALFORMED", error="it is of consumer another")
    yield retry("null-retry", value=None, status="MALFORMED", error="its value is null")
    yield retry("large-retry-record", value=NOISE[: LIMIT + 126 * KIB], status="REFUSED", error="too large")
    yield retry("many-attempts", replace(given, attempts=10**18, generation=10**18))
    yield retry("row-is-garbage")


@pytest.mark.timeout(180)
def test_every_poison_is_answered_for_and_the_events_around_it_arrive(world: World) -> None:
    service = world.consumer("calm", {"package_delivered": ["PackageDelivered"]}, **QUICK)
    world.apply()
    # Compressed, so that a source topic takes what is over the limit once it is unpacked.
    world.producer = Producer(
        {"bootstrap.servers": world.stack.kafka, "compression.type": "zstd", "message.max.bytes": 64 << 20}
    )
    name, source, retry_topic = world.name("calm"), world.topic("package_delivered"), world.topic("calm_retry")
    waiting = list(retries(name))
    table = names.changelog(names.retry_group(name), names.RETRY_TABLE)
    put(world, table, b"\xff{", key=retry_state.key("row-is-garbage", ENDPOINT, 0), partition=place("row-is-garbage"))
    newer = json.dumps({"format": retry_state.FORMAT + 1}).encode()
    put(world, table, newer, key=retry_state.key("row-is-newer", ENDPOINT, 0), partition=place("row-is-newer"))
    service.tell(
        events={p.name: ["INVALID_ARGUMENT"] for p in EVENTS if p.status == "INVALID_ARGUMENT"}
        | {"large-retry": ["UNKNOWN"] * 3}
    )

    good = world.produce("package_delivered", 50)
    for poison in EVENTS:
        put(world, source, poison.value, poison.key, poison.headers)
    asyncio.run(put_a_name_that_is_no_text(world, source))
    for poison in waiting:
        put(world, retry_topic, poison.value, poison.key, poison.headers, place(poison.name))
    for left in ("row-is-newer", "newer"):
        headers = handover.headers([], left, HandOver(name, ENDPOINT, "t", 0, 0))
        if left == "newer":
            headers = [h for h in headers if h[0] != handover.FORMAT_HEADER] + [(handover.FORMAT_HEADER, b"2")]
        put(world, retry_topic, b"v", b"k", headers, place(left))
    good += world.produce("package_delivered", 50)

    worker = world.worker("calm")
    wait_until(lambda: world.lag(f"waybill-{name}", source) == 0, 60, "all events are settled")
    dead_ones = {p.known_as or p.name: p for p in [*EVENTS, *waiting] if p.status}
    wait_until(lambda: len(world.records(world.topic("calm_dlq"))) >= len(dead_ones), 30, "all dead letters are there")
    wait_until(lambda: world.lag(f"waybill-{name}-retry", retry_topic) == 2, 30, "all but what is left is settled")

    assert worker.alive
    dead = dict(world.dead_letters("calm"))
    assert {event: d.status for event, d in dead.items()} == {event: p.status for event, p in dead_ones.items()}
    wrong = {event: dead[event].error for event, p in dead_ones.items() if not re.search(p.error, dead[event].error)}
    assert wrong == {}
    assert len(world.records(world.topic("calm_dlq"))) == len(dead_ones), "each of them once"
    delivered = {p.known_as or p.name for p in [*EVENTS, *waiting] if not p.status} | {"bad-name"}
    assert service.accepted() == dict.fromkeys([*good, *delivered], 1)
    alarms = [line for line in worker.log.read_text().splitlines() if "retries cannot be read and wait" in line]
    assert len(alarms) >= 2
    assert all("format version 2" in line for line in alarms)


def place(event: str) -> int:
    return handover.retry_partition(event, 12)


def put(
    world: World,
    topic: str,
    value: bytes | None,
    key: bytes | None = b"k",
    headers: Iterable[tuple[str, bytes | None]] = (),
    partition: int = 0,
) -> None:
    def written(error: object, _: object) -> None:
        assert error is None, (topic, error)

    world.producer.produce(topic, value, key, partition, written, headers=list(headers))
    world.producer.poll(0)


class Latin(str):
    """Text that no Python client writes, but others do."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return super().encode("latin-1")


async def put_a_name_that_is_no_text(world: World, topic: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=world.stack.kafka) as producer:
        batch = producer.create_batch()
        batch._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, -1, 1 << 20)
        now = int(datetime.now(UTC).timestamp() * 1000)
        batch.append(key=b"k", value=b"v", timestamp=now, headers=[(Latin("\xe9\xff"), b"1"), ("ce_id", b"bad-name")])
        batch.close()
        await (await producer.send_batch(batch, topic, partition=0))
