"""Whatever a configuration file says, checking it comes to findings; and with none, a worker can be made of it."""

import copy
import re
from random import Random
from typing import Any

from built_catalog import ROOT, shop
from effort import fuzz
from team_file import team_file

from connectors import machine, settings, yaml_source
from connectors.yaml_source import Document, Finding, Place
from pipelines import config, names, topology, wiring

LIMIT = 4 << 20
#: One in so many accepted configurations is made into a worker, which takes ten times as long as its check.
BUILT = 8

CONSUMER = {
    "grpc-server-hostname": "billing-host",
    "grpc-server-port": "12345",
    "grpc-service": "shop.v1.Events",
    "timeout": 0.5,
    "max-retry-attempts": 3,
    "batch-size": 10,
    "max-in-flight": 20,
    "max-message-bytes": "1 MiB",
    "retry-topic": "billing_retry",
    "dlq-topic": "billing_dlq",
    "in-memory-retry": {"attempts": 0, "initial": 0.2, "max": 2},
    "retry-backoff": {"initial": 2, "max": 60},
    "breaker": {"transport-failures": 3, "window": 10, "distinct-events": 2, "probe-interval": 1},
    "tls": {"server-name": "billing"},
    "delivery": "unary",
    "start-from": "2026-01-31T08:00:00Z",
    "owner": "team-x",
    "distribution": [
        {"topic": "order_paid", "services": ["OrderPaid"], "dedicated": True},
        {"topic": "order_placed", "services": ["shop.v1.Events/OrderPlaced"]},
    ],
}
TEAM = {"consumers": {"billing": CONSUMER, "service-a": {**CONSUMER, "retry-topic": "a_retry", "dlq-topic": "a_dlq"}}}
MAIN = {
    "kafka": {
        "bootstrap-servers": "kafka-1:9092,kafka-2:9092",
        "session-timeout": 10,
        "sasl": {"mechanism": "PLAIN", "username": "w", "password": "${env:HOME}"},
    },
    "connect": {"url": "http://connect:8083", "login": {"username": "w", "password": "${env:HOME}"}},
    "descriptors": "../proto/descriptors.binpb",
    "consumers": ["consumers/*.yaml", "more.yaml"],
    "max-message-bytes": "4MiB",
    "metrics": {"host": "127.0.0.1", "port": 9464},
    "lake": {"root": "../lake", "segment-bytes": "128MiB", "segment-age": 300, "memory-bytes": 1 << 28},
    "outboxes": {"packages": {"database": "postgresql://waybill@db:5432/packages", "password": "${env:HOME}"}},
}

#: Texts and numbers that some part, some day, took for something else.
ODD = [
    *["", " ", "a b", "on", "22:22", "010", "~", "null", "é", "\u2028", "\x00", "a\nb", "-", "_", ".", "..", "a.b"],
    *["x" * 101, "x" * 300, "1.0", "+5", "٣", "١٢٣", "0x10", "1e3", "99999", "-1", "0", "local", "::1", "a/b", "%s"],
    *["[::1]:9092", "host:", ":9092", "host:99999", "a:1,,b:2", ",", "http://a:b:c", "http://[", "kafka://h:1"],
    *["h:1 ,g:2", "h", "fe80::1%eth0", "999999999999999GiB", "10KiB", "${env:HOME}", "${env:WAYBILL_NO_SUCH}"],
    *["${file:/nowhere}", "*", "[", "~/x", "/", "replay", "lake", "replay-retry", "waybill_x", "__x", "billing.retry"],
    *["waybill-billing", "billing_retry", "order-paid", "order_paid", "order_placed", "OrderPaid", "Events/OrderPaid"],
    *["/shop.v1.Events/OrderPaid", "latest", "2026-01-31", "2026-01-31T08:00:00Z", "0001-01-01T00:00:00+14:00"],
    *["9999-12-31T23:59:59-12:00", "unary", "batch", "{}", "%", True, False, 0, 1, -1, 2, 5, 64, 10**17, -(10**17)],
    *[65535, 65536, 2**31, 2**63, 0.0, -0.5, 1e-12, 1e300],
]


def changed(rng: Random, whole: Any) -> Any:
    """A deep copy with one to three places of it changed."""
    whole = copy.deepcopy(whole)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        part, key = place(rng, whole)
        match rng.randrange(8):
            case 0 if isinstance(part, dict):
                del part[key]
            case 1 if isinstance(part, dict):
                part[str(rng.choice(ODD))] = part.pop(key)
            case 2 if isinstance(part, dict):
                part[str(rng.choice([*CONSUMER, *MAIN, *ODD]))] = copy.deepcopy(part[key])
            case 3:
                part[key] = rng.choice([[], {}, [part[key]], {"a": part[key]}, [[[]]], [part[key]] * 3])
            case _:
                part[key] = rng.choice(ODD)
    return whole


def place(rng: Random, whole: Any) -> tuple[Any, Any]:
    """A part of ``whole`` that has others, and one of their keys."""
    part = whole
    while True:
        keys = list(part) if isinstance(part, dict) else list(range(len(part)))
        key = rng.choice(keys) if keys else None
        inner = part[key] if keys else None
        if isinstance(inner, dict | list) and inner and rng.random() < 0.8:
            part = inner
        elif keys:
            return part, key
        else:
            return {"": None}, ""


def as_document(whole: Any, file: str) -> Document:
    """What reading YAML makes of a file that holds ``whole``; ten times as quick."""
    document = Document(file, None, {}, {})

    def read(value: Any, path: tuple) -> Any:
        document.values[path] = document.keys[path] = Place(file, 1, 1)
        match value:
            case dict():
                return {key: read(inner, (*path, key)) for key, inner in value.items()}
            case list():
                return tuple(read(inner, (*path, index)) for index, inner in enumerate(value))
            case _:
                return value

    return Document(file, read(whole, ()), document.keys, document.values)


def assert_sound(findings: tuple[Finding, ...]) -> None:
    assert all(finding.line >= 1 and finding.column >= 1 for finding in findings)
    assert all(str(finding).isprintable() for finding in findings)


TOLD, _ = settings.inspect(as_document({**MAIN, "kafka": {"bootstrap-servers": "h:9092"}}, "config/waybill.yaml"), {})
LEGAL = re.compile(r"[a-zA-Z0-9._-]{1,249}")


@fuzz(4000)
def test_a_consumer_that_is_accepted_can_be_run(rng: Random) -> None:
    consumers, findings = config.inspect([as_document(changed(rng, TEAM), "t.yaml")], shop(), LIMIT)
    assert_sound(findings)
    if findings:
        return
    for consumer in consumers:
        groups = [names.group_of(consumer.name, None), names.retry_group(consumer.name)]
        topics = [topic.name for topic in topology.wanted([consumer], shop(), LIMIT)]
        assert [name for name in (*groups, *topics) if not LEGAL.fullmatch(name)] == []
        dedicated = [each.topic for each in consumer.distribution if each.dedicated]
        for topic in (None, *dedicated):
            assert names.app_name(consumer.name, topic).isidentifier()
            if not config.unbuilt(consumer) and rng.randrange(BUILT) == 0:
                wiring.build(consumer.model_copy(update={"tls": None}), shop(), TOLD, topic)  # certificates take long


@fuzz(1000)
def test_a_settings_file_that_is_accepted_can_be_run_with(rng: Random) -> None:
    document = as_document(changed(rng, MAIN), "config/waybill.yaml")
    told, findings = settings.inspect(document, {})
    assert_sound(findings)
    if told is None or findings:
        return
    assert isinstance(told.consumers, tuple)
    [consumer, *_], _ = config.inspect([as_document(TEAM, "t.yaml")], shop(), told.max_message_bytes)
    assert int(topology.wanted([consumer], shop(), told.max_message_bytes)[0].at_least["max.message.bytes"]) < 2**31
    missing = [*machine.missing(told, document)]  # what a check on the worker's machine would find
    another_kafka = told.kafka.servers not in {settings.LOCAL, MAIN["kafka"]["bootstrap-servers"]}
    if not missing and (another_kafka or rng.randrange(BUILT) == 0) and told.kafka.servers != settings.LOCAL:
        wiring.build(consumer.model_copy(update={"tls": None}), shop(), told)


SEEDS = [
    *(file.read_text() for file in sorted((ROOT / "config").rglob("*.yaml"))),
    team_file().replace("▸", ""),
    "consumers: &all\n  a: &a {grpc-server-port: 1, <<: *all}\n  'b': *a\n",
    "a: |\n  text\n  more\nb: >-\n  folded\n? key\n: !!str value\n--- \n%YAML 1.1\n",
]
PIECES = [
    *[":", ": ", "- ", "\t", "\n", "\r\n", "\n  ", "&a ", "*a", "<<: *a\n", "!!int ", "!!python/name:os.system "],
    *["\ufeff", "\x00", "\x85", "\u2028", "\U0001f600", "é", "{", "}", "[", "]", ",", '"', "'", "|", ">", "%YAML 9\n"],
    *["---\n", "...\n", "#", "? ", "\\", '"\\ud800"', '"\\U00110000"', "~", ".inf", "0b1", "1:60:60", "0o7", "@", "`"],
    *["[" * 400, "{a: " * 400, "- " * 400, "a: &b [*b]\n", "9" * 5000, "1:" * 5000, "0x" + "f" * 5000, "!<x> ", "%"],
]


@fuzz(1000)
def test_any_text_of_a_file_comes_to_findings(rng: Random) -> None:
    text = rng.choice(SEEDS)
    start = rng.randint(0, len(text))
    text = text[start : start + 600] if rng.random() < 0.5 else text[:600]
    for _ in range(rng.choice([1, 1, 2, 4])):
        start, end = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        match rng.randrange(4):
            case 0:
                text = text[:start] + text[end:]
            case 1:
                text = text[:end] + text[start:]
            case _:
                text = text[:start] + rng.choice(PIECES) + text[start:]
    document = yaml_source.parse(text, "t.yaml")
    assert_sound(document.findings)
    consumers, findings = config.inspect([document], shop(), LIMIT)
    assert_sound(findings)
    assert findings or consumers
    assert_sound(settings.inspect(document, {})[1])
