"""What the option (waybill.v1.event) of a message says: the topic of its events, and the key of each."""

import functools
import re
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from waybill.v1 import options_pb2

from waybill_outbox.errors import InvalidEvent

# The table's CHECKs repeat these (sql/0001_outbox_event.sql).  Lower snake case keeps events out of the topics of Kafka
# and Connect themselves, and keeps a "." from colliding with a "_", for which Kafka refuses to create a topic.
TOPIC = re.compile(r"(?!waybill_)[a-z][a-z0-9_]{0,199}")
MAX_KEY_BYTES = 1024

# Generated stubs call every extension a FieldDescriptor, which types-protobuf does not index with.
_EVENT: Any = options_pb2.event

_KEY_TYPES = {
    FieldDescriptor.CPPTYPE_STRING,
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}


@dataclass(frozen=True)
class EventType:
    """A message type with the option: `key` is the path to the key's field, empty if there is none."""

    name: str
    topic: str
    key: tuple[str, ...]


def default_topic(message_name: str) -> str:
    """PackageDeliveredEvent -> package_delivered; HTTPCallEvent -> http_call."""
    stem = message_name.removesuffix("Event") or message_name
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", stem).lower()


@functools.cache
def event_type(descriptor: Descriptor) -> EventType:
    """The event type of a message; InvalidEvent if it has no option, or one that cannot be used."""
    name = descriptor.full_name
    options = descriptor.GetOptions()
    if not options.HasExtension(_EVENT):
        raise InvalidEvent(f"{name} is no event type: add `option (waybill.v1.event) = {{}};` to the message")
    option = options.Extensions[_EVENT]
    topic = option.topic or default_topic(descriptor.name)
    if not TOPIC.fullmatch(topic):
        raise InvalidEvent(
            f"{name}: {topic!r} cannot be its topic: write lower snake case, at most 200 characters, not waybill_..."
        )
    return EventType(name, topic, _key_path(descriptor, option.key))


def _key_path(descriptor: Descriptor, path: str) -> tuple[str, ...]:
    if not path:
        return ()
    parts = tuple(path.split("."))
    scope: Descriptor | None = descriptor
    field: FieldDescriptor | None = None
    for part in parts:
        field = scope.fields_by_name.get(part) if scope else None
        if field is None:
            raise InvalidEvent(f"{descriptor.full_name}: its key is {path!r}, but there is no field {part!r}")
        scope = field.message_type
    if field is None or field.cpp_type not in _KEY_TYPES or field.type == FieldDescriptor.TYPE_BYTES:
        raise InvalidEvent(f"{descriptor.full_name}: its key {path!r} must be a string or an integer")
    return parts


def key_of(message: Message, kind: EventType) -> str | None:
    """The key of an event; None if its type has none.  InvalidEvent if it is empty, or lies in a list or map."""
    if not kind.key:
        return None
    value: object = message
    for part in kind.key:
        if not isinstance(value, Message):
            break
        value = getattr(value, part)
    if not isinstance(value, str | int):
        raise InvalidEvent(f"{kind.name}: its key {'.'.join(kind.key)!r} lies in a list or map")
    if value == "":
        raise InvalidEvent(f"{kind.name}: {'.'.join(kind.key)} is empty, and it is the key: set it, or pass key=...")
    return str(value)
