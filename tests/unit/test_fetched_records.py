"""Records as the engine takes them from a fetch, beside aiokafka's own way, and how much is fetched ahead."""

from types import SimpleNamespace

import pytest
from aiokafka.consumer import fetcher as stock
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.kafka import records
from connectors.kafka.records import Fetcher

TP = TopicPartition("parcel", 3)
CODECS = [0, 1, 4]  # none, gzip, zstd
READ_COMMITTED = 1


#: aiokafka's, in whose place the engine has put its own.
STOCK = records._PartitionRecords.__base__


def batch(first, count, codec=0):
    """The bytes of one batch, at the offset ``first``."""
    builder = DefaultRecordBatchBuilder(2, codec, 1, 7, 0, 0, 1 << 20)
    for i in range(count):
        headers = [("ce_id", b"%d" % (first + i)), ("x", None)][: i % 3]
        builder.append(i, 1_700_000_000_000 + first + i, b"k" if i % 2 else None, b"v" * (i % 5), headers)
    found = builder.build()
    found[0:8] = first.to_bytes(8, "big")
    return bytes(found)


def taken(part, count):
    """All of ``part``, ``count`` at a time, and where it goes on after each time."""
    found = []
    while True:
        some = part.take(count)
        found.append(([tuple(one) for one in some], part.next_fetch_offset))
        if len(some) < count:
            return found


def one_by_one(part, count):
    """The same by aiokafka."""
    found = []
    while True:
        some = []
        for one in part:
            some.append((*TP, one.offset, one.timestamp, one.key, one.value, one.headers))
            if len(some) == count:
                break
        found.append((some, part.next_fetch_offset))
        if len(some) < count:
            return found


BATCHES = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6), st.sampled_from(CODECS)), max_size=4)


@settings(max_examples=examples(150))
@given(BATCHES, st.integers(0, 8), st.integers(1, 7), st.sets(st.integers(0, 30), max_size=2))
def test_records_and_positions_are_those_of_aiokafka_taken_one_by_one(batches, start, count, aborted):
    data, at = b"", 0
    for gap, length, codec in batches:
        data += batch(at + gap, length, codec)
        at += gap + length
    told = (sorted((7, offset) for offset in aborted), start, None, None, True, READ_COMMITTED)
    ours = records._PartitionRecords(TP, records._Records(data), *told)
    theirs = STOCK(TP, MemoryRecords(data), *told)
    assert taken(ours, count) == one_by_one(theirs, count)


@pytest.mark.parametrize(
    ("waiting", "in_flight", "sent"),
    [(0, 0, 3), (1000, 0, 3), (2000, 0, 2), (2001, 0, 1), (0, 2, 2), (3001, 0, 0), (9000, 0, 0), (4000, 1, 0)],
)
def test_no_more_is_fetched_ahead_than_the_bound_says(monkeypatch, waiting, in_flight, sent):
    monkeypatch.setattr(
        stock.Fetcher, "_get_actions_per_node", lambda *_: ([(1, "a"), (2, "b"), (3, "c")], {}, 0.1, False, [])
    )
    fetcher = Fetcher.__new__(Fetcher)
    fetcher.bound, fetcher._fetch_max_bytes, fetcher._in_flight = 4000, 1000, set(range(in_flight))
    part = SimpleNamespace(_records=SimpleNamespace(size_in_bytes=lambda: waiting))
    fetcher._records = {TP: records._FetchResult(TP, assignment=None, partition_records=part, backoff=0)}
    requests, *others = fetcher._get_actions_per_node(None)
    assert len(requests) == sent
    assert others == [{}, 0.1, False, []]
    fetcher.bound = None
    assert len(fetcher._get_actions_per_node(None)[0]) == 3
