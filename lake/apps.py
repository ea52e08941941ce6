"""The sink's Faust app, made from the settings when it is asked for: ``faust -A lake.apps:sink worker``."""

import sys
from typing import Any

from connectors import prometheus, schemas, settings
from connectors.kafka import App, Bounds
from connectors.problems import Problem
from lake.hot.chains import chains_of
from lake.hot.sink import Sink
from lake.layout import prepare

#: Seconds to publish all open segments before partitions are given up; 500 of them took 4.
DRAIN_TIMEOUT = 30.0
#: What a person does about a held partition: the lake itself says where it goes on, not the group.
WAY_OUT = "these records are in Kafka no more; `waybill lake skip` lets the lake go on behind them"
#: Not records but memory bounds a sink: a crash repeats reading, never output.
UNBOUNDED = 1 << 60


def __getattr__(name: str) -> App:
    if name != "sink":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its app is `sink`")
    try:
        config = settings.load()
        prometheus.serve(config.metrics.host, config.metrics.port)
        app = globals()["sink"] = build(config)
    except Problem as problem:
        sys.stderr.write(f"error: {problem}\n")  # Faust's command line would show a traceback
        raise SystemExit(problem.exit_code) from problem
    return app


def build(config: settings.Settings, **options: Any) -> App:
    """The app of one sink process, which holds a scratch folder of the lake until it ends; ``options`` are Faust's."""
    catalog = schemas.load(config.descriptors)
    chains = chains_of(config, catalog.events)
    topics = [event.topic for event in catalog.events]
    defaults = {
        "id": "waybill-lake",
        "broker": config.kafka.access,
        "broker_heartbeat_interval": config.kafka.session_timeout / 5,
        "broker_max_poll_records": 2_000,
        "broker_session_timeout": config.kafka.session_timeout,
    }
    app = App(
        bounds=Bounds(UNBOUNDED, UNBOUNDED, UNBOUNDED, config.lake.memory_bytes * 3 // 4),
        fetch_bytes=config.lake.memory_bytes // 4,
        fetch_together=True,
        drain_timeout=DRAIN_TIMEOUT,
        wants=topics,
        read_only=True,
        way_out=WAY_OUT,
        stall_timeout=config.worker.stall_timeout,
        **{**defaults, **options},
    )
    app.prepare.append(lambda: prepare(chains.storage, catalog.events))
    sink = Sink(chains)
    sink.bind(app)
    app.consume(sink.archive, *topics, name="archive")
    return app
