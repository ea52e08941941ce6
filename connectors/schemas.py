"""The catalog: which event types and gRPC methods the shared protobuf repository holds.

Read from a descriptor set (``buf build``, ``protoc --include_imports``), never from stubs: a new event type needs no
new Waybill.  The descriptors live in a pool of their own, so nothing a process imports can clash with them.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from connectors.problems import BadInput

_OPTION = "waybill.v1.event"
_OWN_PACKAGE, _OWN_TOPICS = "waybill.", "waybill_"
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# Lower snake case: Kafka's and Connect's own topics are named otherwise, and none differs only in `.` and `_`.
_TOPIC = re.compile(r"[a-z][a-z0-9_]{0,199}")
_KEY_TYPES = {
    FieldDescriptor.CPPTYPE_STRING,
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}


@dataclass(frozen=True, slots=True)
class EventType:
    """A message that travels: its topic, full name, and the path of the field that is the record's key ("" = none)."""

    topic: str
    name: str
    key: str
    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class Method:
    """A unary RPC.  ``path`` is what a call names: ``/pkg.Service/Name``; ``input`` is the full name of its request."""

    path: str
    service: str
    name: str
    input: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """Event types by topic, methods by path."""

    events: tuple[EventType, ...]
    methods: tuple[Method, ...]

    def event(self, topic: str) -> EventType | None:
        return next((event for event in self.events if event.topic == topic), None)

    def named(self, endpoint: str, service: str | None = None) -> tuple[Method, ...]:
        """The methods an endpoint's name can mean: ``Name`` (of ``service``, or of any) or ``pkg.Service/Name``."""
        within, _, name = endpoint.removeprefix("/").rpartition("/")
        within = within or service or ""
        return tuple(method for method in self.methods if method.name == name and within in {"", method.service})

    def receiving(self, event: EventType, endpoint: str, service: str | None = None) -> tuple[Method, ...]:
        """Those of them that take the event; one, where the name is right."""
        return tuple(method for method in self.named(endpoint, service) if method.input == event.name)


def load(path: Path) -> Catalog:
    """Read a descriptor set; BadInput says everything that is wrong with it."""
    try:
        files = FileDescriptorSet.FromString(path.read_bytes())
        pool = DescriptorPool()
        for file in files.file:
            pool.Add(file)
    except OSError as error:
        raise BadInput(f"cannot read the descriptors {path}: {error.strerror or error}; run `make proto`") from error
    except (DecodeError, TypeError) as error:
        raise BadInput(f"{path} is no complete descriptor set: {error}; build it by `make proto`") from error
    return _catalog(files, pool, path)


def _catalog(files: FileDescriptorSet, pool: DescriptorPool, path: Path) -> Catalog:
    described = [pool.FindFileByName(file.name) for file in files.file]
    events = sorted(_events(described, pool), key=lambda event: (event.topic, event.name))
    if problems := [*_topic_problems(events), *_key_problems(events)]:
        raise BadInput(f"{path} cannot be used:\n" + "\n".join(problems))
    return Catalog(tuple(events), tuple(sorted(_methods(described), key=lambda method: method.path)))


def _events(files: Iterable[Any], pool: DescriptorPool) -> Iterator[EventType]:
    try:
        extension: Any = pool.FindExtensionByName(_OPTION)
    except KeyError:  # no message of this set can carry the option
        return
    options = GetMessageClass(pool.FindMessageTypeByName("google.protobuf.MessageOptions"))
    for message in _messages(top for file in files for top in file.message_types_by_name.values()):
        carried: Any = options.FromString(message.GetOptions().SerializeToString())
        if carried.HasExtension(extension):
            event = carried.Extensions[extension]
            yield EventType(event.topic or default_topic(message.name), message.full_name, event.key, message)


def default_topic(message_name: str) -> str:
    """``PackageDeliveredEvent`` -> ``package_delivered``; the producers' SDK follows the same rule."""
    return _WORD_START.sub("_", message_name.removesuffix("Event") or message_name).lower()


def _messages(messages: Iterable[Any]) -> Iterator[Any]:
    for message in messages:
        yield message
        yield from _messages(message.nested_types)


def _methods(files: Iterable[Any]) -> Iterator[Method]:
    for file in files:
        for service in file.services_by_name.values():
            for method in service.methods:
                if not (method.client_streaming or method.server_streaming):
                    path = f"/{service.full_name}/{method.name}"
                    yield Method(path, service.full_name, method.name, method.input_type.full_name)


def _topic_problems(events: Iterable[EventType]) -> Iterator[str]:
    held = defaultdict(list)
    for event in events:
        held[event.topic].append(event.name)
        if not _TOPIC.fullmatch(event.topic):
            yield f"{event.name}: {event.topic!r} cannot be its topic; write lower snake case, at most 200 characters"
        if event.topic.startswith(_OWN_TOPICS) and not event.name.startswith(_OWN_PACKAGE):
            yield f"{event.name}: topics that start with `{_OWN_TOPICS}` are Waybill's own; write another"
    for topic, names in held.items():
        if len(names) > 1:
            yield f"{' and '.join(names)} have the same topic `{topic}`; one topic carries one message type"


def _key_problems(events: Iterable[EventType]) -> Iterator[str]:
    for event in events:
        if event.key and (problem := _key_problem(event.descriptor, event.key.split("."))):
            yield f"{event.name}: the key `{event.key}` {problem}"


def _key_problem(message: Descriptor, path: list[str]) -> str | None:
    field = message.fields_by_name.get(path[0])
    if field is None:
        return f"does not exist: {message.full_name} has no field `{path[0]}`"
    if field.is_repeated:
        return f"is not one value: `{path[0]}` is repeated"
    if len(path) == 1:
        usable = field.cpp_type in _KEY_TYPES and field.type != FieldDescriptor.TYPE_BYTES
        return None if usable else f"must be text or a whole number, which `{path[0]}` is not"
    if field.message_type is None:
        return f"does not exist: `{path[0]}` has no fields"
    return _key_problem(field.message_type, path[1:])
