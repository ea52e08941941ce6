"""Payloads as people read them: JSON through the descriptor set, with fields marked ``debug_redact`` masked."""

from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

#: Stands where a value is masked.
MASK = "[redacted]"


class Undecodable(Exception):
    """The bytes are not a message of the type; the text says why."""


def to_json(descriptor: Descriptor, value: bytes) -> Any:
    """What JSON can hold of a message, by field names as in the .proto file.  Raises Undecodable."""
    try:
        message = GetMessageClass(descriptor).FromString(value)
        shown = json_format.MessageToDict(
            message, preserving_proto_field_name=True, descriptor_pool=descriptor.file.pool
        )
    except (DecodeError, UnicodeDecodeError, json_format.Error, TypeError) as error:
        raise Undecodable(f"not a {descriptor.full_name}: {error}") from error
    return _masked(descriptor, shown)


def _masked(descriptor: Descriptor, shown: Any) -> Any:
    if not isinstance(shown, dict) or descriptor.file.package == "google.protobuf":
        return shown  # well-known types have a JSON form of their own
    return {name: _masked_field(descriptor.fields_by_name.get(name), value) for name, value in shown.items()}


def _masked_field(field: FieldDescriptor | None, value: Any) -> Any:
    if field is None:  # an extension
        return value
    if field.GetOptions().debug_redact:
        return MASK
    if field.message_type is None:
        return value
    if field.message_type.GetOptions().map_entry:
        of_value = field.message_type.fields_by_name["value"]
        return {key: _masked_field(of_value, entry) for key, entry in value.items()}
    if field.is_repeated:
        return [_masked(field.message_type, entry) for entry in value]
    return _masked(field.message_type, value)
