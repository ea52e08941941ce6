"""What consumers' files must be beyond their shape: every name known, unique and usable."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from connectors.schemas import Catalog, EventType, Method
from connectors.shapes import did_you_mean
from connectors.yaml_source import Finding
from pipelines import names
from pipelines.drafts import Draft, Said

_CONSUMER = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_RESERVED = re.compile(r"waybill[._-]|__|\.{1,2}$")
_MOST_LISTED = 8


def findings(drafts: tuple[Draft, ...], catalog: Catalog) -> Iterator[Finding]:
    """Everything wrong with the consumers of all files together."""
    yield from app_names(drafts)
    unique = tuple({draft.name.text: draft for draft in reversed(drafts)}.values())[::-1]
    for draft in unique:
        yield from _consumer_name(draft)
        yield from _topic_names(draft)
        yield from _subscriptions(draft, catalog)
    yield from _taken(_groups(unique), {names.LAKE_GROUP: "the lake", names.REPLAY_GROUP: "the replay agent"})
    yield from _taken(_topics(unique), _source_topics(unique, catalog), _as_kafka_tells)


def app_names(drafts: Iterable[Draft]) -> Iterator[Finding]:
    """Consumers that two files define, and apps that would have the same name."""
    first: dict[str, Draft] = {}
    for draft in drafts:
        name = draft.name
        other = first.setdefault(names.app_name(name.text), draft).name
        if other is not name and other.text == name.text:
            yield name.finding(f"is defined in {other.where} already; remove one, or give it another name")
        elif other is not name:
            yield name.finding(
                f"its app would be called like that of `{other.text}` ({other.where}); rename one of them"
            )
    held = {app: f"the app of consumer `{draft.name.text}` ({draft.name.where})" for app, draft in first.items()}
    yield from _taken(_dedicated_apps(first.values()), held)


def _consumer_name(draft: Draft) -> Iterator[Finding]:
    if not _CONSUMER.fullmatch(draft.name.text):
        yield draft.name.finding("a name is a letter, then up to 99 letters, digits, `-` and `_`; give it another name")


def _topic_names(draft: Draft) -> Iterator[Finding]:
    for said in (draft.retry_topic, draft.dlq_topic):
        if said and not _TOPIC.fullmatch(said.text):
            yield said.finding(f"`{said.text}` is no topic name; use up to 249 letters, digits, `_`, `-` and `.`")
        elif said and _RESERVED.match(said.text):
            yield said.finding(f"`{said.text}` is a reserved topic name; write one such as `{_suggested(draft, said)}`")


def _suggested(draft: Draft, said: Said) -> str:
    return f"{names.app_name(draft.name.text)}_{'retry' if said is draft.retry_topic else 'dlq'}"


def _subscriptions(draft: Draft, catalog: Catalog) -> Iterator[Finding]:
    topics: dict[str, Said] = {}
    service = draft.grpc_service
    services = {method.service for method in catalog.methods}
    if service and service.text not in services:
        yield service.finding(f"no gRPC service is called `{service.text}`{_suggest(service.text, services)}")
        service = None
    for subscription in draft.subscriptions:
        topic = subscription.topic
        event = catalog.event(topic.text) if topic else None
        if topic and (first := topics.setdefault(topic.text, topic)) is not topic:
            yield topic.finding(f"the topic `{topic.text}` stands on line {first.place.line} already; merge the two")
        if topic and not event:
            hint = _suggest(topic.text, {event.topic for event in catalog.events})
            yield topic.finding(f"no event type has the topic `{topic.text}`{hint}")
        yield from _endpoints(subscription.services, event, service.text if service else None, catalog)


def _endpoints(
    services: Iterable[Said], event: EventType | None, grpc_service: str | None, catalog: Catalog
) -> Iterator[Finding]:
    seen: dict[str, Said] = {}
    for said in services:
        named = catalog.named(said.text, grpc_service)
        fitting = catalog.receiving(event, said.text, grpc_service) if event else named
        if problem := _endpoint_problem(said.text, named, fitting, event, catalog):
            yield said.finding(problem)
        same = fitting[0].path if len(fitting) == 1 else said.text
        if (first := seen.setdefault(same, said)) is not said:
            yield said.finding(f"`{said.text}` is the same endpoint as `{first.text}` before it; remove one")


def _endpoint_problem(
    text: str, named: tuple[Method, ...], fitting: tuple[Method, ...], event: EventType | None, catalog: Catalog
) -> str | None:
    match named, fitting, event:
        case (), _, _:
            known = {method.path.removeprefix("/") if "/" in text else method.name for method in catalog.methods}
            return f"no unary gRPC method is called `{text}`{_suggest(text, known)}"
        case _, (), EventType():
            takes = ", ".join(sorted({method.input for method in named}))
            fit = [method.path.removeprefix("/") for method in catalog.methods if method.input == event.name]
            hint = f"; what takes that: {_list(fit)}" if fit else "; no method takes that yet"
            return f"`{text}` takes {takes}, but the topic `{event.topic}` carries {event.name}{hint}"
        case _, (_, _, *_), EventType():
            full = _list(method.path.removeprefix("/") for method in fitting)
            return f"`{text}` can be any of {full}; write one of them, or set `grpc-service`"
        case _:
            return None


def _suggest(word: str, known: set[str]) -> str:
    return did_you_mean(word, sorted(known)) or f"; there are {_list(sorted(known))}"


def _list(words: Iterable[str]) -> str:
    first, *others = [f"`{word}`" for word in words] or ["none"]
    more = f" and {len(others) - _MOST_LISTED} more" if len(others) > _MOST_LISTED else ""
    return ", ".join([first, *others[:_MOST_LISTED]]) + more


@dataclass(frozen=True, slots=True)
class Claim:
    """A name that only one may have, who takes it, and what to write when it is taken."""

    text: str
    owner: str
    said: Said
    advice: str


def _taken(claims: Iterable[Claim], held: Mapping[str, str], key: Callable[[str], str] = str) -> Iterator[Finding]:
    """Claims on a name that is held already, or whose ``key`` is the same as that of a held one."""
    holders = {key(text): (text, owner) for text, owner in held.items()}
    for claim in claims:
        if (same := key(claim.text)) in holders:
            text, owner = holders[same]
            near = "" if text == claim.text else f", too close to `{text}`,"
            yield claim.said.finding(f"`{claim.text}` is{near} {owner} already; {claim.advice}")
        else:
            holders[same] = (claim.text, f"{claim.owner} ({claim.said.where})")


def _groups(drafts: Iterable[Draft]) -> Iterator[Claim]:
    advice = "a consumer group has one owner; give the consumer another name"
    for draft in drafts:
        name = draft.name.text
        yield Claim(names.delivery_group(name), f"the group of consumer `{name}`", draft.name, advice)
        yield Claim(names.retry_group(name), f"the retry group of consumer `{name}`", draft.name, advice)
        for topic in _distinct(subscription.topic for subscription in draft.subscriptions):
            # Claimed before it is needed, so that `dedicated` can be switched on, and its offsets are no other's.
            group = names.dedicated_group(name, topic.text)
            yield Claim(group, f"the group of the topic `{topic.text}` of `{name}` when dedicated", topic, advice)


def _dedicated_apps(drafts: Iterable[Draft]) -> Iterator[Claim]:
    advice = "an app has one owner; rename the consumer"
    for draft in drafts:
        name = draft.name.text
        for topic in _distinct(each.topic for each in draft.subscriptions if each.dedicated):
            app = names.app_name(name, topic.text)
            yield Claim(app, f"the app of the dedicated topic `{topic.text}` of `{name}`", topic, advice)


def _distinct(topics: Iterable[Said | None]) -> Iterable[Said]:
    """Each topic once; that it stands there twice is another finding."""
    return {topic.text: topic for topic in topics if topic}.values()


def _topics(drafts: Iterable[Draft]) -> Iterator[Claim]:
    for draft in drafts:
        for said, role in ((draft.retry_topic, "retry-topic"), (draft.dlq_topic, "dlq-topic")):
            if said:
                advice = f"write one of its own, such as `{_suggested(draft, said)}`"
                yield Claim(said.text, f"the {role} of consumer `{draft.name.text}`", said, advice)


def _source_topics(drafts: Iterable[Draft], catalog: Catalog) -> dict[str, str]:
    subscribed = [subscription.topic for draft in drafts for subscription in draft.subscriptions if subscription.topic]
    return {
        **{said.text: f"a source topic of consumer `{said.consumer}` ({said.where})" for said in subscribed},
        **{event.topic: f"the source topic of {event.name}" for event in catalog.events},
    }


def _as_kafka_tells(topic: str) -> str:
    """Kafka refuses a topic whose name differs from another's only in these two: its metrics could not part them."""
    return topic.replace(".", "_")
