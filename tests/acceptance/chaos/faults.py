"""What each kind of fault does to what runs.  Each ends what it began: processes killed start again by themselves."""

import threading
from collections.abc import Callable, Mapping

from confluent_kafka.admin import AdminClient
from harness import wait_until

from chaos.ledger import Cause
from chaos.rig import STATUSES, TEMPERS, TOPICS, Rig
from chaos.schedule import Fault, Kind
from connectors.local import kafka

#: The largest file, in bytes, that a sink can write on a full disk: empty ones fit, segments do not.
FULL = 512
#: What it says then.
TAKES_NOTHING = "The lake's storage takes nothing"
#: Seconds in which a fault must have begun to hurt, and a command to succeed, though Kafka may be away.
PATIENCE = 120.0
#: Seconds that a part of the stack may take to start again, on a machine with much else to do.
RESTART = 300.0
#: Seconds that a worker stays which joined, or stays away which left.
STAY = 15.0


def last(seconds: float) -> None:
    threading.Event().wait(seconds)


def inflict(rig: Rig, fault: Fault) -> None:
    """Begin the fault, let it last, end it.  Raises what went wrong with that."""
    _HOW[fault.kind](rig, fault)


def _kill(rig: Rig, fault: Fault) -> None:
    rig.fleet.kill(rig.fleet.pick(_group(fault), fault.choice))


def _terminate(rig: Rig, fault: Fault) -> None:
    rig.fleet.terminate(rig.fleet.pick(fault.target, fault.choice))


def _join(rig: Rig, fault: Fault) -> None:
    joined = rig.join(fault.target)
    last(STAY)
    rig.fleet.leave(joined)


def _leave(rig: Rig, fault: Fault) -> None:
    rig.fleet.leave(rig.fleet.pick(fault.target, fault.choice))
    last(STAY)
    rig.join(fault.target)


def _freeze(rig: Rig, fault: Fault) -> None:
    with rig.fleet.frozen(rig.fleet.pick(_group(fault), fault.choice)):
        last(fault.seconds)


def _fill_disk(rig: Rig, fault: Fault) -> None:
    """Until a sink has met it: while Kafka is away, none writes.  It waits, and goes on by itself."""
    before = rig.fleet.said("lake", TAKES_NOTHING)
    with rig.fleet.full_disk("lake", FULL):
        last(fault.seconds)
        wait_until(lambda: rig.fleet.said("lake", TAKES_NOTHING) > before, PATIENCE, "a sink meets the full disk")


def _group(fault: Fault) -> str:
    return {Kind.SINK_KILL: "lake", Kind.SINK_FREEZE: "lake", Kind.REPLAY_KILL: "replay"}.get(fault.kind, fault.target)


def _part(name: str, cause: Cause | None = None) -> Callable[[Rig, Fault], None]:
    return lambda rig, _: _kill_part(rig, name, cause)


def _leader(rig: Rig, fault: Fault) -> None:
    topic = TOPICS[fault.choice % len(TOPICS)]
    partitions = AdminClient({"bootstrap.servers": rig.stack.kafka}).list_topics(topic, 20).topics[topic].partitions
    leader = partitions[fault.choice % len(partitions)].leader
    _kill_part(rig, kafka.names(rig.cast.brokers)[leader - 1], Cause.BROKER)


def _kill_part(rig: Rig, name: str, cause: Cause | None) -> None:
    with rig.journal.during(f"{name} is killed and starts again", cause):
        rig.stack.kill(name)
        rig.stack.wait_ready(RESTART)


def _take_down(rig: Rig, fault: Fault) -> None:
    service = rig.services[fault.target]
    with rig.journal.during(f"{fault.target} is down", Cause.ANSWER_LOST, consumer=fault.target):
        service.stop()
        last(fault.seconds)
        service.start()


def _behaviour(how: str, **behaviour: object) -> Callable[[Rig, Fault], None]:
    def behave(rig: Rig, fault: Fault) -> None:
        service, temper = rig.services[fault.target], TEMPERS[fault.target]
        with rig.journal.during(f"{fault.target} {how}"):
            service.tell(**behaviour)
            last(fault.seconds)
            service.tell(**{key: temper[key] for key in behaviour})

    return behave


def _replay(rig: Rig, fault: Fault) -> None:
    """The command fails while Kafka is away: who gave it sees that and gives it again."""
    command = ("dlq", "replay", fault.target, "--yes", "--no-wait")
    with rig.journal.during(f"dead letters of {fault.target} are replayed"):
        wait_until(lambda: rig.world.waybill(*command, check=False).returncode == 0, PATIENCE, "a plan is submitted")


_HOW: Mapping[Kind, Callable[[Rig, Fault], None]] = {
    Kind.WORKER_KILL: _kill,
    Kind.WORKER_TERM: _terminate,
    Kind.WORKER_JOIN: _join,
    Kind.WORKER_LEAVE: _leave,
    Kind.WORKER_FREEZE: _freeze,
    Kind.SINK_KILL: _kill,
    Kind.SINK_FREEZE: _freeze,
    Kind.LAKE_FULL: _fill_disk,
    Kind.REPLAY_KILL: _kill,
    Kind.KAFKA_KILL: _part("kafka", Cause.BROKER),
    Kind.LEADER_KILL: _leader,
    Kind.CONNECT_KILL: _part("connect"),
    Kind.POSTGRES_KILL: _part("postgres"),
    Kind.CONSUMER_DOWN: _take_down,
    Kind.CONSUMER_HANG: _behaviour("hangs", default="hang"),
    Kind.CONSUMER_SLOW: _behaviour("is slow", delay=[0.5, 3]),
    Kind.CONSUMER_RESET: _behaviour("resets connections", resets=0.05),
    Kind.CONSUMER_STATUSES: _behaviour("answers at random", random=[0.5, STATUSES]),
    Kind.REPLAY: _replay,
}
