import itertools
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import payloads
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from descriptors import compiled, every_kind, pool_of
from effort import fuzz
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from lake.columns import schema
from lake.columns.decode import Decoder
from lake.reading import views

EVERY_KIND = every_kind()
COLUMNS = schema.segment_schema(EVERY_KIND)
DOCUMENT = Path(__file__).parents[2] / "docs" / "lake-types.md"


FIELDS, CHANGES, OWN = re.split("^## .*$", DOCUMENT.read_text(), flags=re.MULTILINE)


def table_of(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


def documented():
    """Rows of the mapping table that name a field of EveryKind: that, its Arrow type, its DuckDB type."""
    return [(field, arrow, sql) for _, arrow, sql, field in table_of(FIELDS) if field]


def duckdb_types(folder, *fields):
    pq.write_table(pa.schema(fields).empty_table(), folder / "one.parquet")
    return [row[:2] for row in duckdb.sql(f"DESCRIBE SELECT * FROM '{folder}/one.parquet'").fetchall()]


@pytest.mark.parametrize(("field", "arrow", "sql"), documented())
def test_the_documented_mapping_is_the_mapping(tmp_path, field, arrow, sql):
    assert str(COLUMNS.field(field).type) == arrow
    assert duckdb_types(tmp_path, COLUMNS.field(field)) == [(field, sql)]


def test_the_documented_columns_of_the_lake_are_its_columns(tmp_path):
    assert duckdb_types(tmp_path, *schema.METADATA) == [(name, sql) for name, sql, _ in table_of(OWN)]


def test_every_kind_of_column_that_a_message_can_have_is_documented():
    assert {field for field, *_ in documented()} >= {
        field.name
        for field in EVERY_KIND.fields
        if field.number < 30 and field.message_type is None and field.name != "alias"
    }


def test_everything_may_be_null():
    def all_nullable(field):
        inner = [field.type.field(i) for i in range(field.type.num_fields)]
        if pa.types.is_map(field.type):  # a map's entries and their keys are never null
            inner = [field.type.item_field]
        return field.nullable and all(map(all_nullable, inner))

    assert all(all_nullable(field) for field in COLUMNS)


def test_columns_carry_their_field_numbers_into_the_file(tmp_path):
    pq.write_table(COLUMNS.empty_table(), tmp_path / "one.parquet")
    read = pq.read_schema(tmp_path / "one.parquet")
    assert read.field("last").metadata[schema.FIELD_ID] == b"200"
    assert read.field("message").type.field("colors").metadata[schema.FIELD_ID] == b"6"


def test_a_file_has_exactly_the_columns_of_the_schema(tmp_path):
    pq.write_table(COLUMNS.empty_table(), tmp_path / "one.parquet")
    assert pq.read_schema(tmp_path / "one.parquet").equals(COLUMNS)


def test_enums_and_repeating_metadata_get_dictionaries_and_nothing_else_does(tmp_path):
    rows = [dict.fromkeys(COLUMNS.names)] * 2
    pq.write_table(
        pa.Table.from_pylist(rows, COLUMNS),
        tmp_path / "one.parquet",
        use_dictionary=schema.repeating_columns(EVERY_KIND),
    )
    group = pq.read_metadata(tmp_path / "one.parquet").row_group(0)
    chunks = [group.column(i) for i in range(group.num_columns)]
    assert {chunk.path_in_schema for chunk in chunks if chunk.has_dictionary_page} == set(
        schema.repeating_columns(EVERY_KIND)
    )
    assert {"enum", "enums.list.element", "string_to_enum.key_value.value", "message.color", "_topic"} <= set(
        schema.repeating_columns(EVERY_KIND)
    )


def test_a_field_named_like_a_metadata_column_gets_its_number_appended():
    clash = EVERY_KIND.file.message_types_by_name["Clash"]
    assert schema.event_schema(clash).names == ["_topic_3", "_RAW_7", "dt_9"]
    assert len(set(map(str.lower, schema.segment_schema(clash).names))) == len(schema.segment_schema(clash))


def message(folder, body):
    folder.mkdir()
    (folder / "event.proto").write_text(f'syntax = "proto3"; package evolving; {body}')
    return pool_of(compiled(folder)).FindMessageTypeByName("evolving.Event")


BESIDE = """
enum Size { SIZE_ZERO = 0; SIZE_ONE = 1; }
enum MoreSizes { option allow_alias = true; MORE_ZERO = 0; MORE_ONE = 1; MORE_ALSO_ONE = 1; MORE_TWO = 2; }
message Nothing {}
message Part { int32 n = 1; }
message Bigger { int64 n = 1; repeated Part more = 2; }
message Other { string n = 1; }
message Pair { string key = 1; int32 value = 2; }
"""


@pytest.mark.parametrize(("before", "after", "what"), table_of(CHANGES))
def test_what_is_documented_of_a_change_is_what_becomes_of_it(tmp_path, before, after, what):
    old, new = (
        schema.event_schema(message(tmp_path / name, f"{BESIDE} message Event {{ {body} }}"))
        for name, body in (("old", before), ("new", after))
    )
    if what.startswith("refuses"):
        assert schema.conflicts(old, new) == [what.removeprefix("refuses: `").rstrip("`")]
        assert schema.conflicts(new, old)
    else:
        assert schema.conflicts(old, new) == schema.conflicts(new, old) == []
        assert len(read_together(tmp_path, old, new).columns) == len({*old.names, *new.names})
        assert (what == "has a new column") == (old.names != new.names and len(old) == len(new))


def read_together(folder, *schemas):
    """A relation over a file of each schema, in both orders."""
    for i, columns in enumerate(schemas):
        pq.write_table(pa.Table.from_pylist([{}], columns), folder / f"{i}.parquet")
    files = [str(folder / f"{i}.parquet") for i in range(len(schemas))]
    for order in (files, files[::-1]):
        found = duckdb.read_parquet(order, union_by_name=True)
        assert len(found.fetchall()) == len(files)
    return found


def test_a_conflict_is_found_wherever_it_lies():
    old = pa.schema(
        [
            ("a", pa.struct([("b", pa.list_(pa.struct([("c", pa.int64()), ("d", pa.bool_())])))])),
            ("m", pa.map_(pa.string(), pa.struct([("x", pa.binary())]))),
            ("k", pa.map_(pa.int64(), pa.int64())),
            ("same", pa.int64()),
        ]
    )
    new = pa.schema(
        [
            ("A", pa.struct([("b", pa.list_(pa.struct([("C", pa.string()), ("d", pa.bool_())])))])),
            ("m", pa.map_(pa.string(), pa.struct([("x", pa.string())]))),
            ("k", pa.map_(pa.string(), pa.int64())),
            ("same", pa.int64()),
        ]
    )
    assert schema.conflicts(old, new) == [
        "column A.b.element.C was int64 and now is string",
        "column m.value.x was binary and now is string",
        "column k.key was int64 and now is string",
    ]


@fuzz(20)
def test_compatible_changes_of_any_message_leave_one_table(random):
    old, new = (pool.FindMessageTypeByName("any.M0") for pool in compatible(random))
    assert schema.conflicts(schema.segment_schema(old), schema.segment_schema(new)) == []
    sent = [payloads.message(random, old).SerializeToString() for _ in range(3)]
    with TemporaryDirectory() as folder:
        for name, kind in (("old", old), ("new", new)):  # protobuf and the lake read old bytes after the change, too
            decoded = Decoder(kind).decode(sent)
            assert not decoded.bad
            pq.write_table(pa.Table.from_batches(decoded.batches), f"{folder}/{name}.parquet")
        # As views do: with union_by_name, DuckDB 2.0.1 fails at a null struct that has got a struct.
        columns = views._columns_map(pa.unify_schemas([schema.event_schema(old), schema.event_schema(new)]))
        for names in (["old", "new"], ["new", "old"]):
            paths = [f"{folder}/{name}.parquet" for name in names]
            found = duckdb.sql(f"FROM read_parquet({paths}, schema = {columns})")
            assert len(found.fetchall()) == 2 * len(sent)


#: Kinds that protobuf reads from each other's bytes and that are one kind of column.
ALIKE = [["int32", "int64", "uint32"], ["sint32", "sint64"], ["fixed32", "sfixed32"]]
ALONE = ["double", "float", "uint64", "fixed64", "sfixed64", "bool", "string", "bytes"]


def compatible(random):
    """Pools of a file with messages of any fields, and of one after changes that protobuf's readers do not notice."""
    fields = {}
    for number in range(4):
        for place in range(1, random.randint(2, 5)):
            fields[number, place] = _kind(random, number)
    changed = {}
    for at, (kind, label) in fields.items():
        alike = next((group for group in ALIKE if kind in group), [kind])
        if random.random() < 0.8:
            changed[at] = random.choice(alike), label
    for number in range(4):
        changed[number, 9] = _kind(random, number)
    return _pool(fields), _pool(changed)


def _kind(random, number):
    """Of a field of message ``number``: a type (a message only of a higher number, for an end), and a label."""
    kinds = [*itertools.chain(*ALIKE), *ALONE, *(f".any.M{i}" for i in range(number + 1, 4))]
    return random.choice(kinds), random.choice([1, 3])


def _pool(fields):
    file = FileDescriptorProto(name="any.proto", package="any", syntax="proto3")
    every = [file.message_type.add(name=f"M{i}") for i in range(4)]
    for (number, place), (kind, label) in fields.items():
        field = every[number].field.add(name=f"f{place}", number=place, label=label)
        if kind.startswith("."):
            field.type, field.type_name = field.TYPE_MESSAGE, kind
        else:
            field.type = field.Type.Value(f"TYPE_{kind.upper()}")
    pool = DescriptorPool()
    pool.Add(file)
    return pool


def test_the_fingerprint_changes_with_the_columns_alone(tmp_path):
    one, same, wider, other = (
        schema.fingerprint(schema.segment_schema(message(tmp_path / name, f"message Event {{ {body} }}")))
        for name, body in {
            "1": "int32 a = 1;",
            "2": "// x\nint32 a = 1;",
            "3": "int64 a = 1;",
            "4": "string a = 1;",
        }.items()
    )
    assert one == same == wider != other
