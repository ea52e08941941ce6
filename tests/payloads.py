"""Messages with anything in them, from their descriptors, and payloads with something wrong in them."""

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message_factory import GetMessageClass

from lake.columns import schema

NUMBERS = {
    Field.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    Field.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    Field.CPPTYPE_UINT32: (0, 2**32 - 1),
    Field.CPPTYPE_UINT64: (0, 2**64 - 1),
}
FLOATS = [0.0, -0.0, 1.5, -(2.0**-149), 2.0**100, float("inf"), float("-inf"), float("nan")]
CHOICES = {
    Field.TYPE_DOUBLE: FLOATS,
    Field.TYPE_FLOAT: FLOATS,
    Field.TYPE_BOOL: [False, True],
    Field.TYPE_STRING: ["", "a", "é\0", "\U0001f4e6" * 3, "x" * 200],
    Field.TYPE_BYTES: [b"", b"\0", b"\xff\xfe", b"\x0a\x01a", b"x" * 200],
}


def message(random, descriptor, depth=3, most=6):
    """Up to ``most`` fields of a message set, and so on down to ``depth`` messages in each other."""
    found = GetMessageClass(descriptor)()
    fields = [field for field in descriptor.fields if depth or field.message_type is None]
    for field in random.sample(fields, random.randint(0, min(most, len(fields)))):
        _put(random, found, field, depth)
    return found


def _put(random, into, field, depth):
    if entry := schema.map_entry(field):
        key, value = entry.fields_by_number[1], entry.fields_by_number[2]
        for _ in range(random.randrange(4)):
            at, sent = _value(random, key, depth), _value(random, value, depth)
            if value.message_type is None:
                getattr(into, field.name)[at] = sent
            else:
                getattr(into, field.name)[at].CopyFrom(sent)
    elif field.is_repeated:
        getattr(into, field.name).extend(_value(random, field, depth) for _ in range(random.randrange(4)))
    elif field.message_type is not None:
        getattr(into, field.name).CopyFrom(_value(random, field, depth))
        getattr(into, field.name).SetInParent()
    else:
        setattr(into, field.name, _value(random, field, depth))


def _value(random, field, depth):
    if field.enum_type is not None:
        unknown = [] if field.enum_type.is_closed else [7, -(2**31), 2**31 - 1]
        return random.choice([*field.enum_type.values_by_number, *unknown])
    if field.message_type is not None:
        return message(random, field.message_type, depth - 1)
    if chosen := CHOICES.get(field.type):
        return random.choice(chosen)
    least, most = NUMBERS[field.cpp_type]
    return random.choice([least, most, max(least, -1), 0, 1, random.randint(least, most)])


def mutated(random, payload, other):
    """``payload`` after one to three accidents; ``other`` is one of the same type."""
    found = bytearray(payload)
    for _ in range(random.randint(1, 3)):
        at = random.randint(0, len(found))
        match random.randrange(8):
            case 0:
                found[at : at + 1] = random.randbytes(1)
            case 1 if at < len(found):
                found[at] ^= 1 << random.randrange(8)
            case 2:
                found[at:at] = random.randbytes(random.randint(1, 3))
            case 3:
                del found[at : at + random.randint(1, 3)]
            case 4:
                found += other
            case 5:
                found[at:at] = other[: random.randint(0, len(other))]
            case 6:
                found[at:at] = bytes(random.randint(128, 255) for _ in range(random.randint(1, 10)))
            case 7:
                del found[at:]
    return bytes(found)
