"""Changes of a message that keep its old bytes readable, over all who read the lake.

Each case is written by the real sink as the message was and then as it is, and compacted in two steps.  ``READERS`` are
the calls of docs/lake.md; those that need options fail without them, they leave nothing out in silence.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from aiokafka.structs import ConsumerRecord
from descriptors import compiled, pool_of
from effort import examples
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st
from written_lake import WrittenLake, columns

from connectors.problems import Problem
from connectors.schemas import EventType
from lake import layout
from lake.columns import schema
from lake.hot.chains import Chains
from lake.hot.fetches import Fetch
from lake.main import compact
from lake.reading import snapshot
from lake.reading.query import query
from lake.segments import Limits
from lake.storage.local import LocalStorage


@dataclass(frozen=True)
class Change:
    """Fields of a message before and after, an event of each, and what the columns then hold."""

    old: str
    new: str
    events: tuple[dict[str, Any], dict[str, Any]]
    columns: dict[str, list[Any]] = field(default_factory=dict)


INNER, INNER_NEW = "message Inner { int32 x = 1; } ", "message Inner { int32 x = 1; string y = 2; } "

CHANGES = {
    "a field is added": Change(
        "int32 a = 1;", "int32 a = 1; string b = 2;", ({"a": 1}, {"a": 2, "b": "x"}), {"a": [1, 2], "b": [None, "x"]}
    ),
    "a field is removed": Change(
        "int32 a = 1; string b = 2;", "int32 a = 1;", ({"a": 1, "b": "x"}, {"a": 2}), {"a": [1, 2], "b": ["x", None]}
    ),
    "a field is renamed": Change(
        "int32 a = 1;", "int32 b = 1;", ({"a": 1}, {"b": 2}), {"a": [1, None], "b": [None, 2]}
    ),
    "a field within a field is added": Change(
        INNER + "Inner i = 1;",
        INNER_NEW + "Inner i = 1;",
        ({"i": {"x": 1}}, {"i": {"x": 2, "y": "z"}}),
        {"i": [{"x": 1, "y": None}, {"x": 2, "y": "z"}]},
    ),
    "a field within a field is removed": Change(
        INNER_NEW + "Inner i = 1;",
        INNER + "Inner i = 1;",
        ({"i": {"x": 1, "y": "z"}}, {"i": {"x": 2}}),
        {"i": [{"x": 1, "y": "z"}, {"x": 2, "y": None}]},
    ),
    "a field within a list is added": Change(
        INNER + "repeated Inner i = 1;",
        INNER_NEW + "repeated Inner i = 1;",
        ({"i": [{"x": 1}]}, {"i": [{"x": 2, "y": "z"}]}),
        {"i": [[{"x": 1, "y": None}], [{"x": 2, "y": "z"}]]},
    ),
    "a field within a map is added": Change(
        INNER + "map<string, Inner> i = 1;",
        INNER_NEW + "map<string, Inner> i = 1;",
        ({"i": {"k": {"x": 1}}}, {"i": {"k": {"x": 2, "y": "z"}}}),
        {"i": [{"k": {"x": 1, "y": None}}, {"k": {"x": 2, "y": "z"}}]},
    ),
    "a message without fields gets one": Change(
        "message Inner {} Inner i = 1; int32 a = 2;",
        INNER + "Inner i = 1; int32 a = 2;",
        ({"i": {}}, {"i": {"x": 2}}),
        {"i": [{"_present": True, "x": None}, {"_present": None, "x": 2}], "a": [0, 0]},
    ),
    "an absent message gets a message": Change(
        INNER + "Inner i = 1; int32 a = 2;",
        "message Deep { int32 d = 1; } message Inner { int32 x = 1; Deep deep = 2; } Inner i = 1; int32 a = 2;",
        ({"a": 1}, {"i": {"x": 2, "deep": {"d": 3}}}),
        {"i": [None, {"x": 2, "deep": {"d": 3}}], "a": [1, 0]},
    ),
    "a oneof gets another member": Change(
        "oneof o { int32 a = 1; }",
        "oneof o { int32 a = 1; string b = 2; }",
        ({"a": 1}, {"b": "x"}),
        {"a": [1, None], "b": [None, "x"]},
    ),
    "a field moves into a oneof": Change(
        "int32 a = 1;",
        "oneof o { int32 a = 1; string b = 2; }",
        ({"a": 1}, {"b": "x"}),
        {"a": [1, None], "b": [None, "x"]},
    ),
    "int32 becomes int64": Change("int32 a = 1;", "int64 a = 1;", ({"a": 1}, {"a": 2**40}), {"a": [1, 2**40]}),
    "uint32 becomes int64": Change("uint32 a = 1;", "int64 a = 1;", ({"a": 1}, {"a": -1}), {"a": [1, -1]}),
    "fixed32 becomes sfixed32": Change("fixed32 a = 1;", "sfixed32 a = 1;", ({"a": 1}, {"a": -1}), {"a": [1, -1]}),
    "a wrapper gets wider": Change(
        "google.protobuf.Int32Value a = 1;", "google.protobuf.Int64Value a = 1;", ({"a": 1}, {}), {"a": [1, None]}
    ),
    "an enum gets another value": Change(
        "enum E { E_NONE = 0; E_ONE = 1; } E e = 1;",
        "enum E { E_NONE = 0; E_ONE = 1; E_TWO = 2; } E e = 1;",
        ({"e": 1}, {"e": 2}),
        {"e": ["E_ONE", "E_TWO"]},
    ),
    "a field becomes optional": Change(
        "int32 a = 1; int32 b = 2;", "optional int32 a = 1; int32 b = 2;", ({}, {}), {"a": [0, None], "b": [0, 0]}
    ),
}

#: Readable for protobuf, or nearly; but a column has one type for ever.
REFUSED = {
    "a field becomes repeated": ("int32 a = 1;", "repeated int32 a = 1;"),
    "int64 becomes uint64": ("int64 a = 1;", "uint64 a = 1;"),
    "bool becomes int32": ("bool a = 1;", "int32 a = 1;"),
    "string becomes bytes": ("string a = 1;", "bytes a = 1;"),
    "an enum becomes int32": ("enum E { E_NONE = 0; } E a = 1;", "int32 a = 1;"),
    "a message becomes bytes": (INNER + "Inner a = 1;", "bytes a = 1;"),
    "a type changes within a list": (
        INNER + "repeated Inner a = 1;",
        "message Inner { string x = 1; } repeated Inner a = 1;",
    ),
}

HEAD = 'syntax = "proto3";\npackage evolution.v1;\nimport "google/protobuf/wrappers.proto";\n'


def topic_of(what: str) -> str:
    return what.replace(" ", "_")


def events(folder: Path, bodies: dict[str, str]) -> dict[str, EventType]:
    folder.mkdir()
    messages = "\n".join(f"message {topic_of(what)} {{ {body} }}" for what, body in bodies.items())
    (folder / "events.proto").write_text(HEAD + messages)
    pool = pool_of(compiled(folder))
    names = {what: f"evolution.v1.{topic_of(what)}" for what in bodies}
    return {what: EventType(topic_of(what), name, "", pool.FindMessageTypeByName(name)) for what, name in names.items()}


class Window:
    live = True


def archive(storage: LocalStorage, event: EventType, offset: int, told: dict[str, Any]) -> None:
    value = ParseDict(told, GetMessageClass(event.descriptor)()).SerializeToString()
    record = ConsumerRecord(event.topic, 0, offset, 86_400_000 * offset, 0, None, value, None, 0, 0, ())
    sink = Chains(storage, [event], Limits(1 << 30, 60.0, 1 << 30), lambda topics: dict.fromkeys(topics, "an-epoch"))
    sink.assign([(event.topic, 0)])
    sink.step([Fetch(Window(), event.topic, 0, [record], offset, offset + 1, 100)])
    sink.flush()
    sink.close()


def compacted(storage: LocalStorage) -> None:
    compact.run(storage, snapshot.chosen(storage, []), compact.Policy(1 << 27, 0.0, 86400.0), everything=True)


@pytest.fixture(scope="module")
def lakes(tmp_path_factory) -> dict[str, LocalStorage]:
    """One in which all is compacted, and one whose new events are not."""
    folder = tmp_path_factory.mktemp("evolution")
    old = events(folder / "old", {what: change.old for what, change in CHANGES.items()})
    new = events(folder / "new", {what: change.new for what, change in CHANGES.items()})
    found = {name: LocalStorage(folder / name) for name in ("compacted", "half")}
    for name, storage in found.items():
        layout.prepare(storage, old.values())
        for what, change in CHANGES.items():
            archive(storage, old[what], 0, change.events[0])
        compacted(storage)
        layout.prepare(storage, new.values())
        for what, change in CHANGES.items():
            archive(storage, new[what], 1, change.events[1])
        if name == "compacted":
            compacted(storage)
    return found


def of_views(storage: LocalStorage, topic: str) -> list[dict[str, Any]]:
    connection = duckdb.connect()
    connection.execute(f"SET VARIABLE lake = '{storage.root}/'")
    connection.execute((storage.root / "views.sql").read_text())
    return of_duckdb(connection.execute(f'FROM "{topic}"'))


def of_query(storage: LocalStorage, topic: str) -> list[dict[str, Any]]:
    found = query(storage, f'FROM "{topic}"')
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def of_duckdb(answer: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    names = [column[0] for column in answer.description or ()]
    return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def of_polars(frame: pl.LazyFrame) -> list[dict[str, Any]]:
    return frame.collect().to_dicts()


Read = Callable[[str], list[dict[str, Any]]]

#: What works with every change, by what docs/lake.md calls it.
READERS: dict[str, Read] = {
    "DuckDB": lambda folder: of_duckdb(
        duckdb.connect().execute(f"FROM read_parquet('{folder}/*/*.parquet', union_by_name = true)")
    ),
    "pandas": lambda folder: pd.read_parquet(folder).to_dict("records"),
    "Polars": lambda folder: of_polars(
        pl.scan_parquet(
            folder,
            missing_columns="insert",
            cast_options=pl.ScanCastOptions(missing_struct_fields="insert"),
        )
    ),
    "Polars with pyarrow": lambda folder: pl.read_parquet(folder, use_pyarrow=True).to_dicts(),
    "pyarrow, a table": lambda folder: pq.read_table(folder).to_pylist(maps_as_pydicts="strict"),
    "pyarrow, a dataset": lambda folder: ds.dataset(folder).to_table().to_pylist(maps_as_pydicts="strict"),
}

WITHOUT_OPTIONS: dict[str, Read] = {
    "DuckDB": lambda folder: of_duckdb(duckdb.connect().execute(f"FROM '{folder}/*/*.parquet'")),
    "Polars": lambda folder: of_polars(pl.scan_parquet(folder)),
}

#: A file lacks a column, or a field within one, that others have.
LACKING_COLUMNS = {
    "a field is added",
    "a field is removed",
    "a field is renamed",
    "a oneof gets another member",
    "a field moves into a oneof",
}
LACKING_FIELDS = {
    "a field within a field is added",
    "a field within a field is removed",
    "a field within a list is added",
    "a field within a map is added",
    "a message without fields gets one",
    "an absent message gets a message",
}
#: An error of DuckDB 2.0.1, which the lake's views do not meet.
FAILS_IN_DUCKDB = {"an absent message gets a message"}
FAILS_WITHOUT_OPTIONS = {"DuckDB": LACKING_COLUMNS | FAILS_IN_DUCKDB, "Polars": LACKING_COLUMNS | LACKING_FIELDS}

EACH_CHANGE = pytest.mark.parametrize("what", CHANGES)


def plain(value: Any) -> Any:
    """What all readers mean by it: maps are dicts, and nothing is null."""
    value = value.tolist() if hasattr(value, "tolist") else value
    match value:
        case float() if math.isnan(value):
            return None
        case dict():
            return {name: plain(inner) for name, inner in value.items()}
        case [{"key": _, "value": _}, *_]:
            return plain({one["key"]: one["value"] for one in value})
        case [(str(), _), *_]:
            return plain(dict(value))
        case list():
            return [plain(inner) for inner in value]
    return value


def seen(rows: list[dict[str, Any]], change: Change) -> dict[str, list[Any]]:
    rows = sorted(rows, key=lambda row: row["_offset"])
    return {name: [plain(row[name]) for row in rows] for name in change.columns}


@EACH_CHANGE
@pytest.mark.parametrize("lake", ["compacted", "half"])
@pytest.mark.parametrize("read", [of_query, of_views])
def test_the_lake_s_views_show_old_and_new_events_together(lakes, what, lake, read):
    assert seen(read(lakes[lake], topic_of(what)), CHANGES[what]) == CHANGES[what].columns


@EACH_CHANGE
@pytest.mark.parametrize("reader", READERS)
def test_each_reader_shows_old_and_new_events_together_by_the_call_that_the_docs_name(lakes, what, reader):
    folder = lakes["compacted"].uri(f"main/{topic_of(what)}")
    if reader == "DuckDB" and what in FAILS_IN_DUCKDB:
        with pytest.raises(duckdb.InternalException):
            READERS[reader](folder)
    else:
        assert seen(READERS[reader](folder), CHANGES[what]) == CHANGES[what].columns


@EACH_CHANGE
@pytest.mark.parametrize("reader", WITHOUT_OPTIONS)
def test_without_its_options_a_reader_fails_rather_than_leaves_out_a_column(lakes, what, reader):
    folder = lakes["compacted"].uri(f"main/{topic_of(what)}")
    try:
        rows = WITHOUT_OPTIONS[reader](folder)
    except (duckdb.Error, pl.exceptions.PolarsError) as error:
        hints = [
            word
            for word in ("union_by_name", "missing_columns", "data type mismatch", "flat vector")
            if word in str(error)
        ]
    else:
        hints = []
        assert seen(rows, CHANGES[what]) == CHANGES[what].columns
    assert bool(hints) == (what in FAILS_WITHOUT_OPTIONS[reader])


TYPES = st.recursive(
    st.sampled_from([pa.int64(), pa.string(), pa.timestamp("us", "UTC"), pa.decimal128(20, 0)]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda kinds: pa.struct(list(zip("abc", kinds, strict=False)))),
        inner.map(lambda kind: pa.list_(pa.field("element", kind))),
        inner.map(lambda kind: pa.map_(pa.string(), kind)),
    ),
    max_leaves=4,
)
SCALARS = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.string(): st.text(max_size=3),
    pa.timestamp("us", "UTC"): st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001
    pa.decimal128(20, 0): st.integers(0, 2**64 - 1).map(Decimal),
}


def grown(kind: pa.DataType, more: pa.DataType) -> pa.DataType:
    """``kind`` after each message in it has got a field."""
    if pa.types.is_struct(kind):
        return pa.struct([*(field.with_type(grown(field.type, more)) for field in kind), pa.field("z", more)])
    if pa.types.is_map(kind):
        return pa.map_(kind.key_type, grown(kind.item_type, more))
    if pa.types.is_list(kind):
        return pa.list_(pa.field("element", grown(kind.value_type, more)))
    return kind


def values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_struct(kind):
        found = st.fixed_dictionaries({field.name: values(field.type) for field in kind})
    elif pa.types.is_map(kind):
        found = st.dictionaries(st.text(max_size=2), values(kind.item_type), max_size=2)
    elif pa.types.is_list(kind):
        found = st.lists(values(kind.value_type), max_size=2)
    else:
        found = SCALARS[kind]
    return st.none() | found


def filled(value: Any, kind: pa.DataType) -> Any:
    """``value`` with null for what it lacks."""
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {field.name: filled(value.get(field.name), field.type) for field in kind}
    if pa.types.is_map(kind):
        return {key: filled(inner, kind.item_type) for key, inner in value.items()}
    if pa.types.is_list(kind):
        return [filled(inner, kind.value_type) for inner in value]
    return value


@settings(max_examples=examples(25))
@given(st.data())
def test_views_show_any_old_value_beside_any_new_one(data):
    old, more = data.draw(TYPES), data.draw(TYPES)
    new = grown(old, more)
    rows = {kind: data.draw(st.lists(values(kind), min_size=1, max_size=3)) for kind in (old, new)}
    with TemporaryDirectory() as folder:
        lake = WrittenLake(Path(folder), of=columns(a=old))
        for number, kind in enumerate((old, new)):
            lake.declare(columns(a=kind))
            lake.append(*({"a": value} for value in rows[kind]), of=columns(a=kind), partition=number)
        for _ in range(2):
            found = query(lake.storage, "SELECT a FROM parcel ORDER BY _partition, _offset").rows
            assert [value for (value,) in found] == [filled(value, new) for kind in (old, new) for value in rows[kind]]
            lake.compact()


def test_a_change_that_gives_a_column_another_type_is_refused_with_its_name(tmp_path):
    old = events(tmp_path / "old", {what: before for what, (before, _) in REFUSED.items()})
    new = events(tmp_path / "new", {what: after for what, (_, after) in REFUSED.items()})
    storage = LocalStorage(tmp_path / "lake")
    layout.prepare(storage, old.values())
    for what in REFUSED:
        with pytest.raises(Problem, match=rf"{topic_of(what)} has changed .* column a"):
            layout.declare(storage, topic_of(what), schema.segment_schema(new[what].descriptor))


def test_the_file_of_columns_makes_pyarrow_see_columns_that_the_first_rows_lack(lakes):
    folder = Path(lakes["compacted"].uri("main/a_field_is_added"))
    files = sorted(folder.glob("*/*.parquet"))
    assert "b" in ds.dataset(files).schema.names
    assert "b" not in ds.dataset(files[1:]).schema.names
