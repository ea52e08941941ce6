"""How the apps of consumers and replays are put together.

A consumer has a delivery app and, as its child in the same process, a retry app with a group of its own.  A dedicated
topic has a delivery app alone, in a process of its own: what it hands over is retried by the consumer's.
"""

import asyncio
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from connectors import prometheus, schemas
from connectors.kafka import App, Bounds
from connectors.problems import BadInput
from connectors.schemas import Catalog
from connectors.settings import Settings
from pipelines import config, metrics, names, presence, replay, routing, starts, topology, worker_state
from pipelines.backlog import RECHECK
from pipelines.caller import Caller, Kind
from pipelines.delivery import DeliveryAgent
from pipelines.format import Consumer
from pipelines.retry import RetryAgent
from pipelines.routing import Route

#: Seconds a drain waits on top of the longest call.
DRAIN_MARGIN = 1.0
#: How much of a worker's memory each part of it may take.  Both apps fetch ahead, and may take in so much more than
#: they should once: the sum is the whole.
DELIVERY_SHARE, RETRY_SHARE, FETCH_SHARE = 1 / 4, 1 / 2, 1 / 16
#: Seconds between two looks at whether what waits for an open breaker must make way.
MAKE_WAY = 0.2
#: Records that wait are no work: the retry app is bounded by bytes alone.
UNBOUNDED = 1 << 60


def replay_app(told: Settings) -> App:
    """The app of the replay agent."""
    prometheus.serve(told.metrics.host, told.metrics.port)
    return replay.build(**_options(told))


def consumer_app(name: str, told: Settings) -> App:
    """The app called ``name``, of a consumer or of a dedicated topic of one.

    Raises BadInput for one that is unknown or not built yet.
    """
    catalog = schemas.load(told.descriptors)
    consumer, dedicated = config.load_app(name, told, catalog)
    if missing := config.unbuilt(consumer):
        raise BadInput(f"consumer `{consumer.name}` asks for what this version cannot do yet: {', '.join(missing)}")
    prometheus.serve(told.metrics.host, told.metrics.port)
    return build(consumer, catalog, told, dedicated)


def build(consumer: Consumer, catalog: Catalog, told: Settings, dedicated: str | None = None) -> App:
    """Delivery of what is not dedicated, and all retries of one consumer; or delivery of one ``dedicated`` topic."""
    rng = Random()  # noqa: S311 - spreads attempts, guards nothing
    routes = routing.routes([consumer], catalog)
    own = [route for route in routes if route.topic in consumer.topics(dedicated)]
    caller, memory = Caller(consumer, rng), told.worker.memory_bytes
    options = {
        **_options(told),
        "drain_timeout": consumer.timeout + DRAIN_MARGIN,
        # The longest that one delivery may take on its first way, without a wait in between.
        "stall_timeout": told.worker.stall_timeout + consumer.timeout * (1 + consumer.in_memory_retry.attempts),
        "needs": topology.needed_by(consumer, dedicated),
        "fetch_bytes": int(told.worker.memory_bytes * FETCH_SHARE),
    }
    apps = []
    if own:
        apps.append(_deliveries(consumer, own, caller, rng, names.group_of(consumer.name, dedicated), memory, options))
        apps[0].prepare.append(starts.Start(told.kafka.access, consumer, dedicated))
    if dedicated is None:
        apps.append(_retries(consumer, routes, caller, rng, memory, options))
    for child in apps[1:]:
        _start_beneath(apps[0], child)
    process = presence.this_process(consumer.name, dedicated, worker_state.config_hash(consumer, routes))
    sign_of_life = presence.Presence(told.kafka.access, process)

    @apps[0].task
    async def show() -> None:
        sign_of_life.start()

    # Of the one that stops last: all have drained by then.
    @apps[-1].on_before_shutdown.connect
    async def close(*_: Any, **__: Any) -> None:
        await caller.close()
        await asyncio.to_thread(sign_of_life.stop)

    return apps[0]


def _deliveries(
    consumer: Consumer,
    routes: Sequence[Route],
    caller: Caller,
    rng: Random,
    group: str,
    memory: int,
    options: Mapping[str, Any],
) -> App:
    app = App(group, bounds=Bounds(held=int(memory * DELIVERY_SHARE)), **options)
    by_topic = {route.topic: route for route in routes}
    delivering = DeliveryAgent(app, consumer, by_topic, caller, rng)
    for topic in by_topic:
        app.consume(delivering.run, topic, name=f"deliver-{topic}")
    _release_what_waits(app, caller, Kind.FRESH)

    @app.timer(MAKE_WAY)
    async def make_way() -> None:
        caller.ask_again()

    metrics.watch(consumer.name, by_topic, app.gate.oldest)
    return app


def _start_beneath(app: App, child: App) -> None:
    @app.task
    async def start() -> None:
        child.finalize()
        await app.add_runtime_dependency(child)


def _retries(
    consumer: Consumer, routes: Sequence[Route], caller: Caller, rng: Random, memory: int, options: Mapping[str, Any]
) -> App:
    """Retries of dedicated topics are among them."""
    bounds = Bounds(UNBOUNDED, UNBOUNDED, UNBOUNDED, int(memory * RETRY_SHARE))
    retry_app = App(names.retry_group(consumer.name), bounds=bounds, **options)
    table = retry_app.Table(names.RETRY_TABLE, key_type=bytes, value_type=bytes)
    by_topic = {route.topic: route for route in routes}
    retrying = RetryAgent(retry_app, consumer, by_topic, table, caller, rng)
    retry_app.consume(retrying.run, consumer.retry_topic, name="retry")
    _release_what_waits(retry_app, caller, Kind.RETRY)
    retry_app.on_purpose.append(lambda: f"{waiting} retries wait" if (waiting := retrying.waiting) else None)
    metrics.RETRY_BACKLOG.labels(consumer.name).set_function(lambda: len(retrying.backlog))

    @retry_app.task
    async def wait_for_due() -> None:
        await retrying.backlog.run()

    @retry_app.timer(RECHECK)
    async def knock() -> None:
        retrying.backlog.knock()

    @retry_app.timer(2.0)
    async def sweep() -> None:
        retrying.sweep()

    @retry_app.timer(30.0)
    async def alarm() -> None:
        retrying.alarm()

    @retry_app.timer(600.0)
    async def sweep_old() -> None:
        await retrying.rows.sweep_old()

    @retry_app.on_before_shutdown.connect
    async def close(*_: Any, **__: Any) -> None:
        await retrying.backlog.close()

    return retry_app


def _options(told: Settings) -> dict[str, Any]:
    """What all apps of the stream are told of Kafka."""
    return {
        "broker": told.kafka.access,
        "broker_session_timeout": told.kafka.session_timeout,
        "broker_heartbeat_interval": told.kafka.session_timeout / 5,
        "stall_timeout": told.worker.stall_timeout,
    }


def _release_what_waits(app: App, caller: Caller, kind: Kind) -> None:
    """A drain waits for calls that run, not for deliveries that wait for a breaker or a free place."""

    async def release() -> None:
        caller.drain(kind)

    app.gate.on_drain.append(release)
    app.gate.on_open.append(lambda: caller.resume(kind))
    app.on_purpose.append(
        lambda: f"{caller.waiting} calls wait for their turn or a breaker" if caller.waiting else None
    )
