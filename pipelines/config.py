"""The consumers' files: what a team writes to receive events.

``load`` and ``inspect`` look at all files together, as ``waybill check`` does; ``load_consumer`` is for a worker, which
another team's broken file must not stop.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import structlog

from connectors import machine, schemas, settings, yaml_source
from connectors.problems import BadInput
from connectors.schemas import Catalog
from connectors.settings import Settings
from connectors.shapes import did_you_mean
from connectors.yaml_source import ConfigError, Document, Finding
from pipelines import checks, drafts, names
from pipelines.format import DEFAULT_MAX_MESSAGE_BYTES, Consumer, ConsumerFormat, ConsumersFile, Subscription

__all__ = ["Consumer", "Subscription", "findings", "inspect", "load", "load_consumer", "schema", "unbuilt"]

log = structlog.get_logger()


def load(files: Iterable[Path], catalog: Catalog, settings: Settings) -> tuple[Consumer, ...]:
    """All consumers of some files; ConfigError with every finding, BadInput if a file cannot be read."""
    consumers, findings = inspect([yaml_source.read(file) for file in files], catalog, settings.max_message_bytes)
    if findings:
        raise ConfigError(findings)
    return consumers


def load_consumer(name: str, settings: Settings, catalog: Catalog) -> Consumer:
    """One consumer, by its name or its app's.  Raises as ``load_app``."""
    return load_app(name, settings, catalog)[0]


def load_app(name: str, settings: Settings, catalog: Catalog) -> tuple[Consumer, str | None]:
    """The consumer that an app is for, and the topic if it is the app of a dedicated one.

    Only the consumer's file must be right; what is wrong with others is logged.  Raises BadInput if no file holds it,
    naming those there are, and ConfigError if its file has findings or two files hold it.
    """
    documents = [document for file in settings.consumers if (document := _readable(file))]
    apps = {document.file: drafts.apps(document) for document in documents}
    app = names.app_name(name)
    holders = [document for document in documents if app in apps[document.file]]
    if not holders:
        known = sorted({app if topic else name for held in apps.values() for app, (name, topic) in held.items()})
        hint = did_you_mean(name, known) or f"; there are {', '.join(known) or 'none'}"
        raise BadInput(f"no consumer is called `{name}` in the files of {settings.path}{hint}")
    if len(holders) > 1:
        raise ConfigError(tuple(checks.app_names(drafts.drafts(holders))))
    consumers, findings = inspect(holders, catalog, settings.max_message_bytes)
    if findings:
        raise ConfigError(findings)
    holder, topic = apps[holders[0].file][app]
    return next(consumer for consumer in consumers if consumer.name == holder), topic


def _readable(file: Path) -> Document | None:
    try:
        document = yaml_source.read(file)
    except BadInput as problem:
        log.warning("a consumers' file is left out", reason=str(problem))
        return None
    for finding in document.findings:
        log.warning("a consumers' file has a finding", finding=str(finding))
    return document


def inspect(
    documents: Sequence[Document], catalog: Catalog, max_message_bytes: int
) -> tuple[tuple[Consumer, ...], tuple[Finding, ...]]:
    """The consumers of some documents and everything wrong with them; with findings the consumers are incomplete.

    ``max_message_bytes`` is the largest event that topics take.
    """
    findings = {finding for document in documents for finding in document.findings}
    consumers: list[Consumer] = []
    for document in documents:
        file, wrong = ConsumersFile.read(document, max_message_bytes=max_message_bytes)
        findings.update(wrong)
        if file:
            consumers += [_consumer(name, written, max_message_bytes) for name, written in file.consumers.items()]
    findings.update(checks.findings(drafts.drafts(documents), catalog))
    return tuple(consumers), tuple(sorted(findings))


def findings(documents: Iterable[Document], *, here: bool = True) -> tuple[Finding, ...]:
    """Everything wrong with some files, and, if the workers run ``here``, what this machine lacks for them.

    Consumers' files are checked together with those that a waybill.yaml among the files names; without one, on their
    own, against the catalog of the default one.
    """
    teams: list[Document] = []
    mains: list[Document] = []
    for document in documents:
        (teams if _is_of_a_team(document) else mains).append(document)
    found: set[Finding] = set()
    for document in mains:
        told, wrong = settings.inspect(document)
        found.update(wrong, machine.missing(told, document) if here else ())
    for sources in map(settings.sources, mains) if mains else [settings.load()]:
        if sources is None:
            found.update(finding for document in teams for finding in document.findings)
            continue
        named = [yaml_source.read(file) for file in sources.consumers] if mains else []
        together = {document.file: document for document in [*named, *teams]}
        catalog = schemas.load(sources.descriptors)
        found.update(inspect(tuple(together.values()), catalog, sources.max_message_bytes)[1])
        for document in together.values() if here else ():
            file, _ = ConsumersFile.read(document, max_message_bytes=sources.max_message_bytes)
            found.update(machine.missing(file, document))
    return tuple(sorted(found))


def _is_of_a_team(document: Document) -> bool:
    if not isinstance(document.value, dict):
        return False
    return isinstance(document.value.get("consumers"), dict) or not settings.KEYS & set(document.value)


def _consumer(name: str, written: ConsumerFormat, max_message_bytes: int) -> Consumer:
    fields: dict[str, Any] = dict(written)
    fields["max_message_bytes"] = written.max_message_bytes or min(max_message_bytes, DEFAULT_MAX_MESSAGE_BYTES)
    return Consumer(name=name, **fields)


def unbuilt(consumer: Consumer) -> tuple[str, ...]:
    """What the format has and this version cannot do yet; a worker does not start on it."""
    return ("`delivery: batch`",) if consumer.delivery == "batch" else ()


def schema() -> dict[str, Any]:
    """The JSON schema of a consumers' file, for editors."""
    return ConsumersFile.model_json_schema(by_alias=True)
