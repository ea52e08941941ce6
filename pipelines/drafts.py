"""Consumers as far as they can be read: every text where a text belongs, with its place; the rest is left out.

So a consumer that lacks one key, or has one wrong, still has its topics and endpoints checked.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from connectors.yaml_source import Document, Finding, KeyPath, Place
from pipelines.names import app_name


@dataclass(frozen=True, slots=True)
class Said:
    """A text that a consumer's file says, and where."""

    text: str
    consumer: str
    place: Place

    def finding(self, message: str) -> Finding:
        return self.place.finding(f"consumer `{self.consumer}`: {message}")

    @property
    def where(self) -> str:
        return f"{self.place.file}:{self.place.line}"


@dataclass(frozen=True, slots=True)
class DraftSubscription:
    topic: Said | None
    services: tuple[Said, ...]
    dedicated: bool


@dataclass(frozen=True, slots=True)
class Draft:
    name: Said
    retry_topic: Said | None
    dlq_topic: Said | None
    grpc_service: Said | None
    subscriptions: tuple[DraftSubscription, ...]


def names(document: Document) -> tuple[str, ...]:
    """The consumers a document defines, right or wrong."""
    consumers = _at(document, ("consumers",))
    return tuple(consumers) if isinstance(consumers, dict) else ()


def apps(document: Document) -> dict[str, tuple[str, str | None]]:
    """The consumer of each app, right or wrong, and its topic if that is dedicated."""
    found = drafts([document])
    own = {app_name(draft.name.text): (draft.name.text, None) for draft in found}
    dedicated = {
        app_name(draft.name.text, subscription.topic.text): (draft.name.text, subscription.topic.text)
        for draft in found
        for subscription in draft.subscriptions
        if subscription.dedicated and subscription.topic
    }
    return {**dedicated, **own}


def drafts(documents: Iterable[Document]) -> tuple[Draft, ...]:
    return tuple(_draft(document, name) for document in documents for name in names(document))


def _draft(document: Document, name: str) -> Draft:
    path: KeyPath = ("consumers", name)
    distribution = (*path, "distribution")
    return Draft(
        name=Said(name, name, document.keys[path]),
        retry_topic=_said(document, (*path, "retry-topic")),
        dlq_topic=_said(document, (*path, "dlq-topic")),
        grpc_service=_said(document, (*path, "grpc-service")),
        subscriptions=tuple(
            DraftSubscription(
                topic=_said(document, (*distribution, index, "topic")),
                services=tuple(
                    said
                    for service in _indices(document, (*distribution, index, "services"))
                    if (said := _said(document, (*distribution, index, "services", service)))
                ),
                dedicated=_at(document, (*distribution, index, "dedicated")) is True,
            )
            for index in _indices(document, distribution)
        ),
    )


def _said(document: Document, path: KeyPath) -> Said | None:
    text = _at(document, path)
    if not isinstance(text, str) or not text or document.is_misread(path):
        return None
    return Said(text, str(path[1]), document.values[path])


def _indices(document: Document, path: KeyPath) -> range:
    items = _at(document, path)
    return range(len(items) if isinstance(items, tuple) else 0)


def _at(document: Document, path: KeyPath) -> Any:
    value = document.value
    for step in path:
        match value, step:
            case dict(), str():
                value = value.get(step)
            case tuple(), int():
                value = value[step]
            case _:
                return None
    return value
