"""``waybill check --against``: what a change does to events on their way."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from connectors.problems import BadInput, Problem
from connectors.yaml_source import ConfigError, Finding, Place

if TYPE_CHECKING:
    from connectors.schemas import Catalog
    from pipelines.config import Consumer


@dataclass(frozen=True, slots=True)
class Side:
    """A whole configuration; ``places`` says where each consumer is written."""

    consumers: "Mapping[str, Consumer]"
    catalog: "Catalog"
    places: Mapping[str, Place]


def findings(path: Path, deployed: Path) -> Iterator[Finding]:
    """What would lose or repeat events if ``path`` took the place of ``deployed``; other changes are told as notes.

    Raises BadInput if one of them cannot be read, and ConfigError if one has findings of its own.
    """
    from pipelines import changes

    old, new = _side(deployed), _side(path)
    for change in changes.changes(old.consumers.values(), old.catalog, new.consumers.values(), new.catalog):
        message = f"consumer `{change.consumer}`: {change.message}"
        if change.retires:
            if _is_retired(path, old.consumers[change.consumer]):
                continue
            message += f"; run `waybill consumer retire {change.consumer}` first, by the deployed configuration"
        if change.loses:
            yield (new.places.get(change.consumer) or old.places[change.consumer]).finding(message)
        else:
            typer.echo(f"note: {message}", err=True)


def _side(path: Path) -> Side:
    from connectors import schemas, settings, yaml_source
    from pipelines import config

    document = yaml_source.read(path)
    sources = settings.sources(document)
    if sources is None:
        raise BadInput(f"{path} is no waybill.yaml that can be compared; `waybill check {path}` says why")
    catalog = schemas.load(sources.descriptors)
    files = [yaml_source.read(file) for file in sources.consumers]
    consumers, wrong = config.inspect(files, catalog, sources.max_message_bytes)
    if wrong:
        raise ConfigError(wrong)
    places = {
        consumer.name: file.keys["consumers", consumer.name]
        for consumer in consumers
        for file in files
        if ("consumers", consumer.name) in file.keys
    }
    return Side({consumer.name: consumer for consumer in consumers}, catalog, places)


def _is_retired(path: Path, consumer: "Consumer") -> bool:
    """Whether Kafka has it that the consumer, with these topics, was retired."""
    from connectors import settings
    from pipelines import retirement

    try:
        found = retirement.read(settings.load(path).kafka.access, consumer.name)
    except Problem as problem:
        typer.echo(f"whether {consumer.name} was retired is not known: {problem}", err=True)
        return False
    return bool(found and found.retired_at and found.topics == (consumer.retry_topic, consumer.dlq_topic))
