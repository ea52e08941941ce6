from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from descriptors import compiled, every_kind, pool_of

from lake import schema

EVERY_KIND = every_kind()
COLUMNS = schema.segment_schema(EVERY_KIND)
DOCUMENT = Path(__file__).parents[2] / "docs" / "lake-types.md"


FIELDS, OWN = DOCUMENT.read_text().split("## The lake's own columns")


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
    assert schema.event_schema(clash).names == ["_topic_3", "_RAW_7"]
    assert len(set(map(str.lower, schema.segment_schema(clash).names))) == len(schema.segment_schema(clash))


def message(folder, body):
    folder.mkdir()
    (folder / "event.proto").write_text(f'syntax = "proto3"; package evolving; {body}')
    return pool_of(compiled(folder)).FindMessageTypeByName("evolving.Event")


COMPATIBLE = {
    "a wider number": ("message Event { int32 a = 1; }", "message Event { int64 a = 1; }"),
    "a new field": ("message Event { string a = 1; }", "message Event { string a = 1; string b = 2; }"),
    "a field gone": ("message Event { string a = 1; string b = 2; }", "message Event { string a = 1; }"),
    "an enum value more": (
        "enum E { E_A = 0; } message Event { E a = 1; }",
        "enum E { E_A = 0; E_B = 1; } message Event { E a = 1; }",
    ),
    "a first field in an empty message": (
        "message Done {} message Event { Done a = 1; }",
        "message Done { string why = 1; } message Event { Done a = 1; }",
    ),
    "presence": ("message Event { int32 a = 1; }", "message Event { optional int32 a = 1; }"),
    "a field of a repeated message": (
        "message I { int32 n = 1; } message Event { repeated I a = 1; map<string, I> m = 2; }",
        "message I { int64 n = 1; string s = 2; } message Event { repeated I a = 1; map<string, I> m = 2; }",
    ),
}


@pytest.mark.parametrize("change", COMPATIBLE)
def test_a_compatible_change_of_a_message_reads_back_over_old_and_new_files(tmp_path, change):
    for name, body in zip(("old", "new"), COMPATIBLE[change], strict=True):
        columns = schema.event_schema(message(tmp_path / name, body))
        pq.write_table(pa.Table.from_pylist([{}], columns), tmp_path / f"{name}.parquet")
    for files in (["old", "new"], ["new", "old"]):
        paths = [str(tmp_path / f"{name}.parquet") for name in files]
        assert len(duckdb.read_parquet(paths, union_by_name=True).fetchall()) == 2


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
