"""A message's descriptor as ptars 0.0.25 can take it.

ptars cannot parse files of an edition, and of other differences between those and the two syntaxes before it sees only
which fields have presence: in proto2 all, in proto3 those that say so.  It refuses strings that are not UTF-8, whatever
the file says of them.  It has ways of its own with the well-known types, of which it puts pieces not together, and with
``google.type.Date``, whose dates without a day it gives as 1970: here they have names that it does not know.
"""

import re
from collections import Counter
from collections.abc import Sequence

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FeatureSet, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from connectors.problems import BadInput
from lake.columns import schema

_KNOWN = re.compile(r"^(\.?)google\.(protobuf|type)(?![^.])")

#: ptars has a table of as many entries as the highest number of a message's field, 16 bytes each.
_HIGHEST_NUMBER = 1_000_000


def plain(message: Descriptor) -> Descriptor:
    """``message`` in a pool of its own.  Raises BadInput where ptars would not read it right."""
    if reason := _unreadable(message):
        raise BadInput(f"the lake cannot decode {message.full_name}: {reason}")
    pool = DescriptorPool()
    for file in _files(message.file):
        try:
            pool.Add(_plain_file(file))
        except TypeError as error:
            raise BadInput(f"the lake cannot decode {message.full_name}: {file.name}: {error}") from error
    return pool.FindMessageTypeByName(_renamed(message.full_name))


def _plain_file(file: FileDescriptor) -> FileDescriptorProto:
    """A copy of ``file`` with what ptars minds of it."""
    copy = FileDescriptorProto()
    file.CopyToProto(copy)
    unchecked = copy.syntax in {"", "proto2"} or copy.options.features.utf8_validation == FeatureSet.NONE
    if copy.syntax == "editions":
        implicit = any(map(_has_implicit, file.message_types_by_name.values()))
        copy.syntax = "proto3" if implicit else "proto2"
        copy.ClearField("edition")
    copy.package = _renamed(copy.package)
    for name in ("options", "service", "extension"):
        copy.ClearField(name)
    for top in copy.message_type:
        _make_plain(top, file.message_types_by_name[top.name], copy.syntax, unchecked)
    for enum in copy.enum_type:
        _clear_features(enum)
    return copy


def _has_implicit(message: Descriptor) -> bool:
    """Whether a field of ``message``, or of one declared in it, has a default where others have presence."""
    if any(not one.has_presence and not one.is_repeated for one in message.fields):
        return not message.GetOptions().map_entry
    return any(map(_has_implicit, message.nested_types))


def _make_plain(copy: DescriptorProto, message: Descriptor, syntax: str, unchecked: bool) -> None:
    is_entry = copy.options.map_entry
    for name in ("options", "extension", "extension_range"):
        copy.ClearField(name)
    if is_entry:
        copy.options.map_entry = True
    for one in copy.field:
        if one.type_name:
            one.type_name = _renamed(one.type_name)
        may_be_no_text = unchecked or one.options.features.utf8_validation == FeatureSet.NONE
        if one.type == one.TYPE_STRING and may_be_no_text and not is_entry:
            one.type = one.TYPE_BYTES
        alone = one.type != one.TYPE_MESSAGE and not one.HasField("oneof_index") and not is_entry
        if syntax == "proto3" and alone and message.fields_by_name[one.name].has_presence:
            one.oneof_index = len(copy.oneof_decl)  # a oneof of its own is presence
            copy.oneof_decl.add(name=f"_{one.name}")
        one.ClearField("default_value")
        one.ClearField("options")
    for oneof in copy.oneof_decl:
        oneof.ClearField("options")
    for nested in copy.nested_type:
        _make_plain(nested, message.nested_types_by_name[nested.name], syntax, unchecked)
    for enum in copy.enum_type:
        _clear_features(enum)


def _clear_features(enum: EnumDescriptorProto) -> None:
    enum.options.ClearField("features")
    for value in enum.value:
        value.ClearField("options")


def _renamed(name: str) -> str:
    return _KNOWN.sub(r"\1google.plain.\2", name)


def _unreadable(message: Descriptor) -> str | None:
    """What ptars cannot parse at all, or parses to nothing without a word; and what has no columns to itself."""
    if name := _twice(schema.segment_schema(message).names):
        return f"it would have two columns named {name}; rename a field"
    for inner in messages(message).values():
        if name := _twice([one.name for one in inner.fields]):
            return f"{inner.full_name} has two fields named {name} if one takes A for a; rename one"
        for one in inner.fields:
            if one.type == FieldDescriptor.TYPE_GROUP:
                return f"{one.full_name} is a group; make it an ordinary message field"
            if one.number > _HIGHEST_NUMBER:
                return f"the number of {one.full_name} is above {_HIGHEST_NUMBER}; give it a lower one"
    return None


def _twice(names: Sequence[str]) -> str | None:
    """A name that is there twice, in whatever case: tables know none."""
    found = Counter(map(str.lower, names)).most_common(1)
    return found[0][0] if found and found[0][1] > 1 else None


def messages(message: Descriptor) -> dict[str, Descriptor]:
    """``message`` and all that it holds, by full name."""
    found: dict[str, Descriptor] = {}

    def visit(one: Descriptor) -> None:
        if one.full_name not in found:
            found[one.full_name] = one
            for inner in one.fields:
                if inner.message_type is not None:
                    visit(inner.message_type)

    visit(message)
    return found


def _files(file: FileDescriptor) -> list[FileDescriptor]:
    """``file`` and all it depends on, dependencies first."""
    found: dict[str, FileDescriptor] = {}

    def visit(one: FileDescriptor) -> None:
        for dependency in one.dependencies:
            if dependency.name not in found:
                visit(dependency)
        found[one.name] = one

    visit(file)
    return list(found.values())
