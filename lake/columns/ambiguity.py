"""What ptars 0.0.25 may read otherwise than protobuf, though both can read it.

Of a oneof it keeps each member that was sent, and of a map each entry, where protobuf keeps the last.  A message within
itself it does not look into, and keeps the last of its pieces, which protobuf puts together.
"""

from collections.abc import Iterator, Sequence
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.descriptor import Descriptor

from lake.columns import schema
from lake.columns.plain import messages


class Ambiguities:
    """Where payloads of a message may say what ptars reads otherwise than protobuf."""

    def __init__(self, message: Descriptor) -> None:
        inner = messages(message)
        #: protobuf puts a number that such an enum does not have aside, ptars takes it for the value.
        self.closed_enums = any(
            one.enum_type is not None and one.enum_type.is_closed for each in inner.values() for one in each.fields
        )
        #: ptars does not look into a message within itself.
        recursive = any(name in messages(one) for name, each in inner.items() for one in _parts(each).values())
        self.everywhere = self.closed_enums or recursive
        structs = [] if self.everywhere else list(_structs(message, ()))
        self._oneofs = [(path, [one.name for one in oneof.fields]) for path, each in structs for oneof in each.oneofs]
        self._maps = [(*path, one.name) for path, each in structs for one in each.fields if schema.map_entry(one)]

    def among(self, parsed: pa.RecordBatch) -> bool:
        """Whether there is such a value in what ptars has made."""
        root = parsed.to_struct_array()
        return any(_several(_elements(_at(root, path)), names) for path, names in self._oneofs) or any(
            _unsettled(_at(root, path)) for path in self._maps
        )


def _parts(message: Descriptor) -> dict[str, Descriptor]:
    """The fields that hold messages, and these: of a map its values."""
    found = {}
    for one in message.fields:
        entry = schema.map_entry(one)
        inner = entry.fields_by_number[2].message_type if entry else one.message_type
        if inner is not None:
            found[one.name] = inner
    return found


def _structs(message: Descriptor, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Descriptor]]:
    """Each message in a tree of them, with the names of the fields that lead to it."""
    yield path, message
    for name, inner in _parts(message).items():
        yield from _structs(inner, (*path, name))


def _at(array: pa.Array, path: Sequence[str]) -> pa.Array:
    for name in path:
        array = _elements(array).field(name)
    return array


def _elements(array: pa.Array) -> pa.Array:
    if pa.types.is_map(array.type):
        return array.items
    return array.values if pa.types.is_list(array.type) else array


def _several(structs: pa.StructArray, names: Sequence[str]) -> bool:
    """Whether one struct has values in two of its fields ``names``."""
    members = [structs.field(name) for name in names]
    used = [member.is_valid().cast(pa.int32()) for member in members if member.null_count < len(member)]
    return len(used) > 1 and pc.max(reduce(pc.add, used)).as_py() > 1


def _unsettled(maps: pa.MapArray) -> bool:
    """Whether an entry has no value, or two of one map have one key."""
    keys = maps.keys
    if maps.items.null_count or not len(keys):
        return bool(len(keys))
    numbers = keys.dictionary_encode()
    rows = pc.list_parent_indices(pa.ListArray.from_arrays(maps.offsets, keys)).cast(pa.int64())
    pairs = pc.add(pc.multiply(rows, len(numbers.dictionary)), numbers.indices.cast(pa.int64()))
    return len(pc.unique(pairs)) < len(pairs)
