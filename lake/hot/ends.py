"""Where the storage has the ends of chains, or what keeps the lake from going on with a topic."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from connectors.kafka.holds import Halt
from connectors.problems import Problem
from lake import layout, segments
from lake.hot.outage import AWAY
from lake.hot.rows import RowBuilder
from lake.main import compaction
from lake.segments import Chain, Footer
from lake.storage import Storage, footer

#: Topics whose chains are looked up at once, lest the group waits for the answers of a storage one by one.
READERS = 16
#: What a person does about a partition that the lake cannot take in as it is.
WAY_OUT = "see to it, then restart the lake's workers; until then its records wait in Kafka"
BY_ITSELF = "see to the topic; the lake goes on by itself as soon as it is there"

#: By topic; a Problem says why its records cannot be rows.
Builders = Mapping[str, RowBuilder | Problem]


def places(
    storage: Storage, builders: Builders, lives: Mapping[str, str | Problem]
) -> dict[str, Mapping[int, int] | Halt]:
    """Of each topic in its life of ``lives``.  Raises what says that the storage is away."""
    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip(lives, pool.map(partial(_place, storage, builders), lives.keys(), lives.values()), strict=True))


def end_of(storage: Storage, chain: Chain) -> int:
    return _ends_of(storage, chain.topic, chain.epoch).get(chain.partition, 0)


def published(storage: Storage, key: str) -> Footer:
    return Footer.decode(key, footer(storage, key))


def _place(storage: Storage, builders: Builders, topic: str, life: str | Problem) -> Mapping[int, int] | Halt:
    """End of each chain in this life of ``topic``, or what keeps the lake from going on with it.

    Raises what says that the storage is away.
    """
    if isinstance(life, Problem):
        return Halt(None, str(life), BY_ITSELF)
    builder = builders[topic]
    if isinstance(builder, Problem):
        return Halt(None, str(builder), WAY_OUT)
    try:
        layout.declare(storage, topic, builder.schema)
        return _ends_of(storage, topic, life)
    except AWAY:
        raise
    except Problem as problem:
        return Halt(None, str(problem), WAY_OUT)


def _ends_of(storage: Storage, topic: str, epoch: str) -> dict[int, int]:
    """What was compacted may be gone from the chain, to its last segment."""
    found = {
        partition: offset
        for (life, partition), offset in compaction.newest(storage, topic).watermarks.items()
        if life == epoch
    }
    for chain, start in segments.newest(storage.keys(segments.folder(topic, epoch))).items():
        end = published(storage, segments.segment_key(chain, start)).next
        found[chain.partition] = max(end, found.get(chain.partition, 0))
    return found
