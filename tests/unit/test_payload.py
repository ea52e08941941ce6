from typing import Any

import pytest
from google.protobuf import descriptor_pb2, timestamp_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from pipelines import payload

Field = descriptor_pb2.FieldDescriptorProto


@pytest.fixture(scope="module")
def delivered() -> Descriptor:
    """A message with a secret at every level: of its own, in a message, in a list, in a map."""
    file = descriptor_pb2.FileDescriptorProto(
        name="t.proto", package="t", syntax="proto3", dependency=["google/protobuf/timestamp.proto"]
    )
    person = file.message_type.add(name="Person")
    person.field.add(name="name", number=1, type=Field.TYPE_STRING, label=1)
    secret = person.field.add(name="phone", number=2, type=Field.TYPE_STRING, label=1)
    secret.options.debug_redact = True
    event = file.message_type.add(name="Delivered")
    event.field.add(name="to", number=1, type=Field.TYPE_MESSAGE, type_name=".t.Person", label=1)
    event.field.add(name="seen_by", number=2, type=Field.TYPE_MESSAGE, type_name=".t.Person", label=3)
    entry = event.nested_type.add(name="ByRoleEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=Field.TYPE_STRING, label=1)
    entry.field.add(name="value", number=2, type=Field.TYPE_MESSAGE, type_name=".t.Person", label=1)
    event.field.add(name="by_role", number=3, type=Field.TYPE_MESSAGE, type_name=".t.Delivered.ByRoleEntry", label=3)
    event.field.add(name="at", number=4, type=Field.TYPE_MESSAGE, type_name=".google.protobuf.Timestamp", label=1)
    code = event.field.add(name="code", number=5, type=Field.TYPE_INT32, label=1)
    code.options.debug_redact = True
    pool = DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return pool.FindMessageTypeByName("t.Delivered")


def test_a_payload_is_shown_with_its_secrets_masked_at_every_level(delivered: Descriptor) -> None:
    message: Any = GetMessageClass(delivered)()
    for person in (message.to, message.seen_by.add(), message.by_role["driver"]):
        person.name, person.phone = "Ada", "555"
    message.at.seconds = 0
    message.code = 42
    ada = {"name": "Ada", "phone": "[redacted]"}
    assert payload.to_json(delivered, message.SerializeToString()) == {
        "to": ada,
        "seen_by": [ada],
        "by_role": {"driver": ada},
        "at": "1970-01-01T00:00:00Z",
        "code": "[redacted]",
    }


@pytest.mark.parametrize("value", [b"\xff\xff", b"\x0a\x05abc", b"\x0a\x03\x0a\x01\xff"])
def test_bytes_of_something_else_are_called_undecodable(delivered: Descriptor, value: bytes) -> None:
    with pytest.raises(payload.Undecodable, match=r"not a t\.Delivered"):
        payload.to_json(delivered, value)


def test_a_time_that_json_cannot_hold_is_called_undecodable(delivered: Descriptor) -> None:
    message: Any = GetMessageClass(delivered)()
    message.at.seconds = 10**15
    with pytest.raises(payload.Undecodable):
        payload.to_json(delivered, message.SerializeToString())
