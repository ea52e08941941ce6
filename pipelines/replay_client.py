"""Dead letters seen from outside the replay worker: read them, plan their replay, submit the plan and watch it."""

import time
from collections.abc import Iterator
from datetime import datetime
from secrets import token_hex
from typing import Any, ClassVar

from confluent_kafka import KafkaException, Producer

from connectors.access import Access
from connectors.kafka import reader
from connectors.problems import Problem, Unreachable
from pipelines import dlq, replay_state
from pipelines import plan as plans
from pipelines.config import Consumer
from pipelines.dlq import DeadLetter, Filter
from pipelines.plan import CHANNEL, Channel, Plan, Ranges
from pipelines.replay_state import Fate, Progress, ReplayState
from pipelines.versions import NewerVersion

#: Seconds without a sign of life, on top of the pause that the rate itself makes.
QUIET = 15.0
_POLL = 0.5


class NoWorker(Problem):
    """A plan was submitted, but nobody seems to run it."""

    exit_code: ClassVar[int] = 4


def read_state(access: Access, channel: Channel = CHANNEL) -> ReplayState:
    """All plans' progress, and which dead letters they moved."""
    ranges = reader.ends(access, channel.changelog)
    return replay_state.state_of(reader.scan(access, channel.changelog, ranges))


def dead_letters(access: Access, topic: str, ranges: Ranges | None = None) -> Iterator[DeadLetter]:
    """Those of a DLQ topic, all or between offsets."""
    return map(dlq.read, reader.scan(access, topic, reader.ends(access, topic) if ranges is None else ranges))


def make_plan(access: Access, consumer: Consumer, meant: Filter, rate: float, now: datetime) -> Plan:
    """A plan up to the present end of the consumer's DLQ.  MissingTopic if a topic it needs is not there."""
    reader.ends(access, consumer.retry_topic)
    return Plan(
        id=plans.new_id(now, token_hex(4)),
        consumer=consumer.name,
        dlq_topic=consumer.dlq_topic,
        retry_topic=consumer.retry_topic,
        filter=meant,
        rate=rate,
        ranges=reader.ends(access, consumer.dlq_topic),
        made_at=now,
    )


def covered(access: Access, plan: Plan, state: ReplayState) -> Iterator[DeadLetter]:
    """The dead letters that ``plan`` would move now, and the malformed ones it would skip."""
    for dead_letter in dead_letters(access, plan.dlq_topic, plan.ranges):
        if state.fate(plan, dead_letter) in {Fate.MOVE, Fate.SKIP}:
            yield dead_letter


def submit(access: Access, plan: Plan, channel: Channel = CHANNEL) -> None:
    """Write ``plan`` to the commands topic, acknowledged by all in-sync brokers."""
    reader.ends(access, channel.commands)
    producer = access.open(Producer, {"enable.idempotence": True}).client
    failed: list[Any] = []
    producer.produce(
        channel.commands,
        plan.to_bytes(),
        plan.id.encode(),
        partition=channel.partition_of(plan.consumer),
        on_delivery=lambda error, _: failed.append(error) if error else None,
    )
    if producer.flush(reader.TIMEOUT) or failed:
        reason = KafkaException(failed[0]) if failed else f"no answer in {reader.TIMEOUT:g} s"
        raise Unreachable(
            f"the plan could not be written to {channel.commands}: {reason}; nothing was started, try again"
        )


def submitted(access: Access, channel: Channel = CHANNEL) -> Iterator[Plan]:
    """The plans in the commands topic, as far as they can be read."""
    for record in reader.scan(access, channel.commands, reader.ends(access, channel.commands)):
        try:
            yield Plan.from_bytes(record.value)
        except (plans.UnreadablePlan, NewerVersion):
            continue  # the worker has logged it


def watch(access: Access, plan: Plan, channel: Channel = CHANNEL, quiet: float = QUIET) -> Iterator[Progress | None]:
    """The progress of ``plan`` twice a second until it has ended; None while it waits for its turn.

    Raises NoWorker when nothing that a replay worker writes has come for ``quiet`` seconds and one move's time.
    """
    partition = channel.partition_of(plan.consumer)
    progress: Progress | None = None
    reached, heard = 0, time.monotonic()
    while progress is None or progress.state is not replay_state.State.ENDED:
        _, end = reader.ends(access, channel.changelog)[partition]
        if end > reached:
            news = replay_state.state_of(reader.scan(access, channel.changelog, {partition: (reached, end)}))
            progress = news.progress(plan.id) or progress
            reached, heard = end, time.monotonic()
        elif time.monotonic() - heard > quiet + 1 / plan.rate:
            raise NoWorker(
                f"plan {plan.id} is submitted, but nothing has moved for {quiet:g} s: no replay worker seems to run; "
                "start one with `waybill worker replay`, it takes the plan up where it stands"
            )
        yield progress
        time.sleep(_POLL)
