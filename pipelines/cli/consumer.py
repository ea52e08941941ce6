"""``waybill consumer``: who delivers, and what a change of configuration asks of a consumer's offsets."""

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from connectors.problems import BadInput, Problem
from pipelines.cli import dead_letters, retire
from pipelines.cli.dead_letters import ConsumerName, Json

if TYPE_CHECKING:
    from pipelines.config import Consumer, Subscription

app = typer.Typer(help="Consumers: their workers, and their offsets.", no_args_is_help=True)

TopicName = Annotated[str, typer.Argument(metavar="TOPIC", help="One of its topics.")]


@app.command()
def ls(as_json: Json = False) -> None:
    """List all consumers and the workers that gave a sign of life in the last 90 s, with the hash of what they go by.

    Exit codes: 0, or 1 if workers of one consumer go by different configurations.
    """
    from connectors import schemas, settings
    from connectors.kafka import compacted
    from pipelines import config, names, worker_state

    told = settings.load()
    consumers = config.load(told.consumers, schemas.load(told.descriptors), told)
    now = time.time()
    workers = worker_state.alive(compacted.Table(told.kafka.access, names.STATE).refresh().rows, now)
    mixed = {worker.consumer for worker in workers if worker_state.differing(workers, worker.consumer)}
    if as_json:
        typer.echo(json.dumps([asdict(worker) for worker in workers]))
    else:
        head = ["CONSUMER", "TOPIC", "CONFIG", "HOST", "PID", "VERSION", "UP", "SEEN"]
        idle = sorted({consumer.name for consumer in consumers} - {worker.consumer for worker in workers})
        rows = [
            [worker.consumer, worker.dedicated or "-", worker.config, worker.host, str(worker.pid), worker.version]
            + [f"{now - at:.0f} s" for at in (worker.started_at, worker.seen_at)]
            for worker in workers
        ]
        for line in dead_letters.columns([head, *rows, *([name, "-", "no worker", *["-"] * 5] for name in idle)]):
            typer.echo(line)
    for name in sorted(mixed):
        typer.echo(f"workers of {name} go by different configurations; restart those of the older one", err=True)
    raise typer.Exit(1 if mixed else 0)


@app.command()
def dedicate(
    consumer: ConsumerName,
    topic: TopicName,
    *,
    undo: Annotated[bool, typer.Option("--undo", help="Back to the consumer's own group.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Carry the offsets of a topic over to the group of its own that `dedicated: true` gives it.

    Stop the consumer's workers first and start them with the changed configuration afterwards: nothing is lost and
    nothing repeated.  It can be run again at any time.
    """
    from connectors.kafka.offsets import Groups
    from pipelines import names, starts

    access, _, found = dead_letters.open_consumer(consumer)
    _subscription(found, topic)
    source, target = names.delivery_group(found.name), names.dedicated_group(found.name, topic)
    if undo:
        source, target = target, source
    groups = Groups(access)
    for group in (source, target):
        groups.refuse_members(group)
    left = groups.committed(source, topic)
    commits = starts.carried(left, groups.committed(target, topic))
    if not dry_run:
        groups.commit(target, topic, commits)
        groups.commit(source, topic, {partition: starts.moved(commit, target) for partition, commit in left.items()})
    rows = [[str(partition), str(commit.offset)] for partition, commit in commits.items()]
    for line in dead_letters.columns([["PARTITION", "OFFSET"], *rows]):
        typer.echo(line)
    if not commits:
        typer.echo(f"neither group has begun with {topic}: there is nothing to carry over", err=True)
    else:
        typer.echo(dead_letters.NOTHING_DONE if dry_run else f"{target} goes on with {topic} from here", err=True)


@app.command()
def skip(
    consumer: ConsumerName,
    topic: TopicName,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this only the gaps are shown.")] = False,
    as_json: Json = False,
) -> None:
    """Move a consumer on that is held: retention removed what it had not read, the topic was made anew, Kafka has
    forgotten its offsets.

    Shows, by partition, what it will not get, and moves it to the oldest record there is.  Its workers must be
    stopped.
    """
    from connectors.kafka import compacted
    from connectors.kafka.offsets import Commit, Groups
    from pipelines import names, starts
    from pipelines.gaps import gaps

    access, _, found = dead_letters.open_consumer(consumer)
    if topic == found.retry_topic:
        group = names.retry_group(found.name)
    else:
        group = names.group_of(found.name, topic if _subscription(found, topic).dedicated else None)
    groups = Groups(access)
    commits = groups.committed(group, topic)
    if not commits and starts.begun_key(found.name, topic) not in compacted.Table(access, names.STATE).refresh().rows:
        raise Problem(f"{found.name} has not begun with {topic}: its first worker does, at `start-from`")
    held = gaps(commits, groups.starts(topic), groups.ends(topic))
    if as_json:
        typer.echo(json.dumps([{**asdict(gap), "lost": gap.lost} for gap in held]))
    elif held:
        head = ["PARTITION", "COMMITTED", "OLDEST", "END", "LOST"]
        rows = [
            [str(each) for each in (gap.partition, "-" if gap.committed is None else gap.committed, gap.start, gap.end)]
            + [str(gap.lost)]
            for gap in held
        ]
        for line in dead_letters.columns([head, *rows]):
            typer.echo(line)
    if not held:
        typer.echo(f"no partition of {topic} is held for {found.name}: all offsets are within the log", err=True)
        return
    if lost := sum(gap.lost for gap in held):
        typer.echo(f"{found.name} does not get {lost:,} offsets of {topic}; the lake has what was there", err=True)
    if not yes:
        typer.echo("nothing was done; run it again with --yes to move on to the oldest records", err=True)
        return
    groups.commit(group, topic, {gap.partition: Commit(gap.start) for gap in held})
    typer.echo(f"{group} goes on at the oldest records; start its workers", err=True)


app.command()(retire.retire)


def _subscription(consumer: "Consumer", topic: str) -> "Subscription":
    for subscription in consumer.distribution:
        if subscription.topic == topic:
            return subscription
    topics = [subscription.topic for subscription in consumer.distribution]
    raise BadInput(f"{consumer.name} has no topic `{topic}`; it has {', '.join(topics)}")
