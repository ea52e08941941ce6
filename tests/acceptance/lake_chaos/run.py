"""One run: events into a topic, two lakes that archive it while they are broken, then the count."""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import s3fs
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from descriptors import compiled
from harness import wait_until
from object_store import KEY_ID, REGION, SECRET, ObjectStore

from connectors import settings
from connectors.local.state import Stack
from lake import storage
from lake.reading.query import query
from lake_chaos import files, readers, truth
from lake_chaos.lakes import Lake, Topic
from lake_chaos.schedule import Fault, faults

ROOT = Path(__file__).parents[3]
PARTITIONS = 6
#: Events a second; of transactions of which some are aborted; of records that are no protobuf.
RATE, ABORTED, BAD = 400, 0.1, 0.002
#: Seconds in which a lake must have everything once nobody breaks it any more.
SETTLING = 90.0

PROTO = """
syntax = "proto3";
package lake_chaos.v1;
import "waybill/v1/options.proto";
message ParcelWeighed {{
  option (waybill.v1.event) = {{topic: "{topic}"}};
  uint64 number = 1;
  string note = 2;
}}
"""


@dataclass(frozen=True)
class Result:
    events: int
    quarantined: int
    looks: int
    met: Mapping[Fault, int]
    ended: tuple[str, ...]
    failures: tuple[str, ...]


def run(stack: Stack, folder: Path, seed: int, seconds: float, say: Callable[[str], None]) -> Result:
    """Break both lakes for ``seconds``.  Raises AssertionError if something stalls."""
    topic = _topic(stack, folder)
    with ExitStack() as open_:
        store = open_.enter_context(ObjectStore(folder))
        s3 = {"key": KEY_ID, "secret": SECRET, "endpoint_url": store.endpoint, "client_kwargs": {"region_name": REGION}}
        bucket = s3fs.S3FileSystem(**s3, use_listings_cache=False, skip_instance_cache=True)
        roots: dict[str, files.Root] = {
            "local": files.Local(folder / "local" / "lake"),
            "s3": files.Bucket(bucket, store.root),
        }
        lakes = {
            "local": Lake("local", topic, folder / "local", {"root": "lake"}, seed),
            "s3": Lake("s3", topic, folder / "s3", {"root": store.root, "s3": store.settings}, seed),
        }
        watching = {}
        for name, lake in lakes.items():
            open_.callback(lake.close)
            lake.start()
            opened = storage.of(settings.load(lake.config).lake)
            wait_until(lambda opened=opened: opened.keys("_lake/topics"), 60, f"there is a lake: {name}")
            watching[name] = readers.Readers(_looks(opened, roots[name], topic.name))
            open_.callback(watching[name].stop)
        with _producing(topic, seed):
            _break(lakes, seed, seconds, say)
        there = truth.of(topic)
        say(f"{len(there.values):,} events are in Kafka; nobody breaks anything any more")
        _settle(lakes, watching, there)
        failures: list[str] = []
        for name, lake in lakes.items():
            watching[name].stop()
            lake.stop()
            failures += [f"{name}: {wrong}" for wrong in _weigh(lake, roots[name], folder, topic.name, there)]
            failures += [f"{name}: {wrong}" for wrong in watching[name].judge(there)]
        return Result(
            len(there.values),
            list(there.values.values()).count(truth.BAD),
            sum(len(each.seen) for each in watching.values()),
            sum((lake.met for lake in lakes.values()), Counter()),
            tuple(what for lake in lakes.values() for what in lake.ended),
            tuple(failures),
        )


def _topic(stack: Stack, folder: Path) -> Topic:
    name = f"parcel_weighed_{uuid.uuid4().hex[:8]}"
    protos, descriptors = folder / "protos", folder / "descriptors.binpb"
    (protos / "waybill/v1").mkdir(parents=True)
    (protos / "waybill/v1/options.proto").write_bytes((ROOT / "proto/waybill/v1/options.proto").read_bytes())
    (protos / "parcels.proto").write_text(PROTO.format(topic=name))
    descriptors.write_bytes(compiled(protos))
    admin = AdminClient({"bootstrap.servers": stack.kafka})
    admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(20)
    return Topic(stack.kafka, name, PARTITIONS, descriptors)


def _looks(opened: storage.Storage, root: files.Root, topic: str) -> list[Callable[[], readers.Look]]:
    return [
        lambda: readers.main(root, topic),
        lambda: readers.fresh(lambda sql: list(query(opened, sql).rows), topic),
    ]


@contextmanager
def _producing(topic: Topic, seed: int) -> Iterator[None]:
    """Transactions of ten, at a steady rate, until the block ends."""
    stopped, random = threading.Event(), Random(f"{seed}/producer")
    producer = Producer({"bootstrap.servers": topic.bootstrap, "transactional.id": uuid.uuid4().hex, "linger.ms": 5})
    producer.init_transactions(30)

    def produce() -> None:
        number, start = 0, time.monotonic()
        while not stopped.wait(max(0.0, start + number / RATE - time.monotonic())):
            producer.begin_transaction()
            for _ in range(10):
                number += 1
                note = random.randbytes(random.choice((10, 100, 1000))).hex().encode()
                # Written by hand: the count must know nothing of the code under test.
                value = truth.BAD if random.random() < BAD else b"\x08%c\x12%c%b" % (number % 128, 20, note[:20])
                headers = [("ce_id", b"%d" % number), ("ce_type", b"lake_chaos.v1.ParcelWeighed")]
                producer.produce(topic.name, value, note, random.randrange(topic.partitions), headers=headers)
            producer.flush(30)
            producer.abort_transaction(30) if random.random() < ABORTED else producer.commit_transaction(30)

    thread = threading.Thread(target=produce, name="producer")
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _break(lakes: Mapping[str, Lake], seed: int, seconds: float, say: Callable[[str], None]) -> None:
    began = time.monotonic()

    def work(name: str, lake: Lake) -> None:
        for pause, fault in faults(seed, name):
            time.sleep(max(0.0, min(pause, began + seconds - time.monotonic())))
            if time.monotonic() >= began + seconds:
                return
            say(f"{time.monotonic() - began:6.1f} s  {name}: {fault}")
            lake.inflict(fault)

    threads = [threading.Thread(target=work, args=each, name=f"faults of {each[0]}") for each in lakes.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _settle(lakes: Mapping[str, Lake], watching: Mapping[str, readers.Readers], there: truth.Truth) -> None:
    """Until readers have seen, and compactors moved, every row."""
    wanted = sum(map(len, there.good.values()))

    def whole(name: str, what: str) -> bool:
        seen = [look for look in watching[name].seen if look.what == what]
        return bool(seen) and sum(rows for _, rows, _, _ in seen[-1].seen) >= wanted

    for name in lakes:
        for what in ("the fresh view", "main"):
            wait_until(lambda name=name, what=what: whole(name, what), SETTLING, f"{name}: {what} has everything")


def _weigh(lake: Lake, root: files.Root, folder: Path, topic: str, there: truth.Truth) -> list[str]:
    """Waybill's own verdict, and a count that knows nothing of it."""
    verdict = lake.waybill("verify")
    told = [what for what in lake.ended if "compactor" in what]
    told += [] if verdict.returncode == 0 else [f"verify: {verdict.stdout}{verdict.stderr}"]
    return told + files.count(root, folder / f"copy-{lake.name}", topic, there)
