"""``waybill consumer retire``: the end of a consumer, with nothing lost."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli import dead_letters
from pipelines.cli.dead_letters import ConsumerName

if TYPE_CHECKING:
    from connectors.access import Access
    from connectors.kafka.offsets import Groups
    from pipelines.config import Consumer
    from pipelines.retirement import Retirement


def retire(
    consumer: ConsumerName,
    *,
    discard: Annotated[
        bool, typer.Option("--discard-dead-letters", help="Do not wait for open dead letters to be replayed.")
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Let it begin anew, or go on if it was not retired yet.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is missing, and do nothing.")] = False,
) -> None:
    """Retire a consumer: before it is removed from the configuration, or its topics are renamed.

    The first run fixes what must still reach it: everything that is in Kafka by then.  Let its workers run, and run
    this again until it says that they may be stopped, and once more when they are.
    Exit codes: 0 retired, 4 not yet.
    """
    from connectors.kafka.offsets import Groups
    from pipelines import retirement

    access, _, found = dead_letters.open_consumer(consumer)
    if undo:
        retirement.write(access, found.name, None)
        typer.echo(f"{found.name} is not retired", err=True)
        return
    groups = Groups(access)
    known = retirement.read(access, found.name)
    state = known or _begun(groups, found)
    missing: list[str] = []
    if state.retired_at is None:
        state, missing = _look(access, groups, found, state, discard=discard)
        if not missing:
            state = replace(state, retired_at=time.time())
    if state != known and not dry_run:
        retirement.write(access, found.name, state)
    since = datetime.fromtimestamp(state.begun_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if missing:
        typer.echo("\n".join(missing))
        typer.echo(f"{found.name} cannot be retired yet; what was saved before {since} must reach it", err=True)
        raise typer.Exit(4)
    if dry_run:
        typer.echo(dead_letters.NOTHING_DONE, err=True)
    else:
        _forget(access, groups, found)
        typer.echo(f"{found.name} is retired: it got everything that was saved before {since}", err=True)


def _forget(access: "Access", groups: "Groups", consumer: "Consumer") -> None:
    from connectors.kafka import compacted
    from pipelines import names, retirement, starts

    begun = [starts.begun_key(consumer.name, subscription.topic) for subscription in consumer.distribution]
    compacted.write(access, names.STATE, dict.fromkeys(begun))
    for group in retirement.groups(consumer):
        if group != names.retry_group(consumer.name):  # should the consumer come back, what was retried stays retried
            groups.delete(group)
    typer.echo("these topics may be deleted when nobody wants their dead letters any more:", err=True)
    for topic in (consumer.retry_topic, consumer.dlq_topic, names.retry_changelog(consumer.name)):
        typer.echo(topic)


def _begun(groups: "Groups", consumer: "Consumer") -> "Retirement":
    from pipelines.retirement import Retirement

    ends = {subscription.topic: groups.ends(subscription.topic) for subscription in consumer.distribution}
    return Retirement(consumer.name, (consumer.retry_topic, consumer.dlq_topic), time.time(), ends)


def _look(
    access: "Access", groups: "Groups", consumer: "Consumer", state: "Retirement", *, discard: bool
) -> "tuple[Retirement, list[str]]":
    """How far it is, and what is missing, in words."""
    from pipelines import names, retirement, starts

    name, missing = consumer.name, []
    for topic, ends in state.deliveries.items():
        own = (names.delivery_group(name), names.dedicated_group(name, topic))
        commits = starts.carried(*(groups.committed(group, topic) for group in own))
        left = retirement.behind(commits, ends) if commits else 0  # without any it has not begun
        if left:
            missing.append(f"{left:,} offsets of {topic} are still to be delivered; let its workers run")
    if missing:
        return state, missing
    # Only now all that was handed over is in the retry topic, but for what a replay adds.
    unsettled = _unsettled(access, consumer, discard=discard)
    ends = groups.ends(consumer.retry_topic) if unsettled or state.retries is None else state.retries
    if left := retirement.behind(groups.committed(names.retry_group(name), consumer.retry_topic), ends):
        missing.append(f"{left:,} offsets of {consumer.retry_topic} are still to be retried; let its workers run")
    missing += unsettled
    for group in retirement.groups(consumer) if not missing else ():
        if members := groups.members(group):
            missing.append(f"workers of {group} still run: {', '.join(members)}; stop them")
    return replace(state, retries=ends), missing


def _unsettled(access: "Access", consumer: "Consumer", *, discard: bool) -> list[str]:
    """Replays that have not ended, and dead letters that nobody replayed."""
    from pipelines import replay_client
    from pipelines.replay_state import State

    state = replay_client.read_state(access)
    missing = []
    for plan in replay_client.submitted(access):
        progress = state.progress(plan.id)
        if plan.consumer == consumer.name and (progress is None or progress.state is not State.ENDED):
            missing.append(f"the replay {plan.id} has not ended; see `waybill replay status`")
    still_open = sum(
        state.moved_by(dead_letter) is None for dead_letter in replay_client.dead_letters(access, consumer.dlq_topic)
    )
    if still_open and not discard:
        missing.append(f"{still_open:,} dead letters are open; replay them, or give --discard-dead-letters")
    return missing
