"""How the apps of consumers and replays are put together.

A consumer has a delivery app and, as its child in the same process, a retry app with a group of its own.
"""

from random import Random
from typing import Any

from connectors import prometheus, schemas
from connectors.kafka import App, Bounds, Gate
from connectors.problems import BadInput
from connectors.schemas import Catalog
from connectors.settings import Settings
from pipelines import config, metrics, names, replay, routing, topology
from pipelines.caller import Caller, Kind
from pipelines.delivery import DeliveryAgent
from pipelines.format import Consumer
from pipelines.retry import RetryAgent

#: Seconds a drain waits on top of the longest call.
DRAIN_MARGIN = 1.0
#: A retry app's records wait, which is no work: it is bounded by bytes and by partition.
RETRY_BOUNDS = Bounds(pending=1_000_000, uncommitted=1_000_000, partition=20_000)


def replay_app(told: Settings) -> App:
    """The app of the replay agent."""
    prometheus.serve(told.metrics.host, told.metrics.port)
    return replay.build(**_options(told))


def consumer_app(name: str, told: Settings) -> App:
    """The app of the consumer whose app name is ``name``.  Raises BadInput for one that is unknown or not built yet."""
    catalog = schemas.load(told.descriptors)
    consumer = config.load_consumer(name, told, catalog)
    if missing := config.unbuilt(consumer):
        raise BadInput(f"consumer `{consumer.name}` asks for what this version cannot do yet: {', '.join(missing)}")
    prometheus.serve(told.metrics.host, told.metrics.port)
    return build(consumer, catalog, told)


def build(consumer: Consumer, catalog: Catalog, told: Settings) -> App:
    """Delivery and retry of one consumer."""
    rng = Random()  # noqa: S311 - spreads attempts, guards nothing
    routes = {route.topic: route for route in routing.routes([consumer], catalog)}
    caller = Caller(consumer, rng)
    options = {**_options(told), "drain_timeout": consumer.timeout + DRAIN_MARGIN}
    app = App(
        names.delivery_group(consumer.name),
        bounds=Bounds(),
        needs=topology.needed_by(consumer),
        **options,
    )
    retry_app = App(
        names.retry_group(consumer.name),
        bounds=RETRY_BOUNDS,
        **options,
    )
    table = retry_app.Table(names.RETRY_TABLE, key_type=bytes, value_type=bytes)
    delivering = DeliveryAgent(app, consumer, routes, caller, rng)
    retrying = RetryAgent(retry_app, consumer, routes, table, caller, rng)

    for topic in routes:
        app.consume(delivering.run, topic, name=f"deliver-{topic}")
    retry_app.consume(retrying.run, consumer.retry_topic, name="retry")
    _release_what_waits(app.gate, caller, Kind.FRESH)
    _release_what_waits(retry_app.gate, caller, Kind.RETRY)

    @retry_app.task
    async def wait_for_due() -> None:
        await retrying.wait_for_due()

    @retry_app.timer(2.0)
    async def sweep() -> None:
        retrying.sweep()

    @retry_app.timer(600.0)
    async def sweep_old() -> None:
        await retrying.sweep_old()

    @app.task
    async def start_retry_app() -> None:
        metrics.watch(consumer.name, routes, app.gate.oldest, lambda: retrying.backlog)
        retry_app.finalize()
        await app.add_runtime_dependency(retry_app)

    # Of the child, which stops last: both have drained by then.
    @retry_app.on_before_shutdown.connect
    async def close(*_: Any, **__: Any) -> None:
        await caller.close()

    return app


def _options(told: Settings) -> dict[str, Any]:
    """What all apps of the stream are told of Kafka."""
    return {
        "broker": told.kafka.bootstrap_servers,
        "max_message_bytes": told.max_message_bytes,
        "broker_session_timeout": told.kafka.session_timeout,
        "broker_heartbeat_interval": told.kafka.session_timeout / 5,
    }


def _release_what_waits(gate: Gate, caller: Caller, kind: Kind) -> None:
    """A drain waits for calls that run, not for deliveries that wait for a breaker or a free place."""

    async def release() -> None:
        caller.drain(kind)

    gate.on_drain.append(release)
    gate.on_open.append(lambda: caller.resume(kind))
