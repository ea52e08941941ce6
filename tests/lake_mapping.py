"""The mapping of docs/lake-types.md written a second time, one value at a time: what a row of the lake must say."""

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from google.protobuf.descriptor import FieldDescriptor as Field

from lake.columns import schema

WRAPPERS = {
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int32", "Int64", "UInt32", "UInt64", "Bool", "String", "Bytes")
}
YEARS_1_TO_9999 = range(-62_135_596_800 * 10**6, 253_402_300_800 * 10**6)
DURATIONS = range(-315_576_000_001 * 10**6 + 1, 315_576_000_001 * 10**6)


def row(message, above=()):
    """``message`` as a dictionary; of a map, pairs."""
    above = (*above, message.DESCRIPTOR.full_name)
    if len(above) == 1 and not message.DESCRIPTOR.fields:
        return {"_present": True}
    fields = sorted(message.DESCRIPTOR.fields, key=lambda field: field.number)
    return {field.name: _field(message, field, above) for field in fields}


def _field(message, field, above):
    if field.has_presence and not message.HasField(field.name):
        return None
    sent = getattr(message, field.name)
    if entry := schema.map_entry(field):
        key, value = entry.fields_by_number[1], entry.fields_by_number[2]
        return [(_one(each, key, above), _one(sent[each], value, above)) for each in sent]
    return [_one(each, field, above) for each in sent] if field.is_repeated else _one(sent, field, above)


def _one(sent, field, above):
    if field.enum_type is not None:
        return next((value.name for value in field.enum_type.values if value.number == sent), str(sent))
    if field.message_type is not None:
        return _message(sent, field.message_type.full_name, above)
    if field.type == Field.TYPE_STRING and isinstance(sent, bytes):  # how protobuf gives text that is no UTF-8
        return sent.decode(errors="backslashreplace")
    return sent


def _message(sent, name, above):
    if name == "google.protobuf.Timestamp":
        since_1970 = _micros(sent, YEARS_1_TO_9999)
        return None if since_1970 is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=since_1970)
    if name == "google.protobuf.Duration":
        return _micros(sent, DURATIONS)
    if name in WRAPPERS:
        return sent.value
    if name in above:
        return sent.SerializePartialToString(deterministic=True)
    return row(sent, above) if sent.DESCRIPTOR.fields else {"_present": True}


def _micros(sent, allowed):
    found = sent.seconds * 10**6 + int(Decimal(sent.nanos) / 1000)
    return found if found in allowed else None


def difference(found, expected):
    """Where a row is not what it must be; None if nowhere."""
    return _difference(found, expected, "")


def _difference(found, expected, path):
    if isinstance(expected, dict):
        if not isinstance(found, dict) or list(found) != list(expected):
            return path or "its columns"
        parts = [(found[name], expected[name], f"{path}.{name}") for name in expected]
    elif isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            return path
        if expected and isinstance(expected[0], tuple):  # maps have no order
            found, expected = sorted(found, key=_key), sorted(expected, key=_key)
        parts = [(*both, f"{path}[{i}]") for i, both in enumerate(zip(found, expected, strict=True))]
    elif isinstance(expected, tuple):
        parts = [(*both, path) for both in zip(found, expected, strict=True)]
    elif isinstance(expected, float):
        return None if isinstance(found, float) and _bits(found) == _bits(expected) else path
    else:
        return None if found == expected and (found is None) == (expected is None) else path
    return next((one for one in (_difference(*part) for part in parts) if one is not None), None)


def _key(pair):
    return pair[0]


def _bits(number):
    return ("nan",) if math.isnan(number) else (number, math.copysign(1, number))
