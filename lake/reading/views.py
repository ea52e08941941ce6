"""What DuckDB sees of a lake: per topic a view of every record, and one of every event.  Pure.

A view is given its columns, not asked to find them: so it opens only the files that a query needs, and old and new
files read together whatever has been added to a message.
"""

from collections.abc import Callable, Collection, Iterable, Sequence

import pyarrow as pa

from lake.columns import schema
from lake.main import compaction
from lake.main.compaction import Commit
from lake.reading.snapshot import Head, Snapshot

#: Its key in the lake.
FILE = "views.sql"

_HEAD = """\
-- Views of this lake for DuckDB 1.2 or newer.  In its folder:  duckdb -init views.sql
-- From anywhere else:  SET VARIABLE lake = '<folder or s3:// address of the lake>/';  then read this file.
-- Per topic: a view with every record, and one named <topic>_latest with every event once.
-- Records newer than this file are seen.  Read it again at least once a day, and after a message has got a new field.
"""

#: Of a file a row comes from; no field of a message can be called so.
_PATH = '"file name"'

_TYPES = {
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    schema.UNSIGNED_64: "DECIMAL(20,0)",
}

_MAIN_DATE = rf"CAST(regexp_extract({_PATH}, 'dt=(\d{{4}}-\d\d-\d\d)[\\/][^\\/]+$', 1) AS DATE)"
_HOT_DATE = "CAST(coalesce(_time, _timestamp, TIMESTAMPTZ '1970-01-01 00:00:00+00') AT TIME ZONE 'UTC' AS DATE)"


def definitions(heads: Sequence[Head], requarantined: Collection[str]) -> str:
    """``views.sql``: with patterns for the files.  ``requarantined`` names the topics that have such files."""
    known = {head.topic for head in heads}
    views = (_views(head.topic, known, _with_patterns(head, head.topic in requarantined)) for head in heads)
    return "\n".join([_HEAD, *(view for pair in views for view in pair)])


def selected(snapshot: Snapshot, known: Collection[str], uri: Callable[[str], str]) -> str:
    """The views of one of the ``known`` topics over exactly the files of ``snapshot``."""
    return "\n".join(_views(snapshot.head.topic, known, _with_files(snapshot, uri)))


def latest(topic: str) -> str:
    return f"{topic}_latest"


def _views(topic: str, known: Collection[str], select: str) -> list[str]:
    """An outbox row that Debezium emits again is one event at two offsets."""
    every_record = f'CREATE OR REPLACE VIEW "{topic}" AS\n{select};\n'
    if latest(topic) in known:
        return [every_record]
    every_event = f"""\
CREATE OR REPLACE VIEW "{latest(topic)}" AS
SELECT * FROM "{topic}"
QUALIFY row_number() OVER (PARTITION BY _event_id ORDER BY _timestamp DESC, _epoch, _partition DESC, _offset DESC) = 1;
"""  # noqa: S608 - Kafka's topic names hold no quote
    return [every_record, every_event]


def _with_patterns(head: Head, requarantined: bool) -> str:
    """DuckDB fails at a pattern that nothing matches."""
    topic, columns = head.topic, _columns_map(head.columns)
    main = [f"{compaction.main_folder(topic)}/*/*.parquet"]
    hot = [f"hot/{topic}/*/*.parquet"] + [f"requarantined/{topic}/*.parquet"] * requarantined
    below = f"parse_filename({_PATH}) < '{head.commit.seq + 1:012d}'"
    return _union(
        _select(map(_anywhere, main), columns, _MAIN_DATE, below),
        _select(map(_anywhere, hot), columns, _HOT_DATE, _not_moved(head.commit)),
    )


def _with_files(snapshot: Snapshot, uri: Callable[[str], str]) -> str:
    columns = _columns_map(snapshot.head.columns)
    main, hot = snapshot.main, (*snapshot.hot, *snapshot.requarantined)
    parts = [(main, _MAIN_DATE)] * bool(main) + [(hot, _HOT_DATE)] * bool(hot)
    parts = parts or [((snapshot.head.without_rows,), _HOT_DATE)]
    return _union(*(_select((_text(uri(key)) for key in keys), columns, date) for keys, date in parts))


def _union(*selects: str) -> str:
    return "UNION ALL\n".join(selects)


def _select(files: Iterable[str], columns: str, date: str, condition: str = "true") -> str:
    return f"""\
SELECT * EXCLUDE ({_PATH}), {date} AS dt
FROM read_parquet([{", ".join(files)}],
    filename = '{_PATH[1:-1]}', hive_partitioning = false, schema = {columns})
WHERE {condition}
"""  # noqa: S608 - Kafka's topic names hold no quote


def _not_moved(commit: Commit) -> str:
    """Of what has been moved to ``main/``, the segments stay for a day.  In words that let DuckDB leave them unopened:
    that takes a condition on the path alone, and a map, which it looks up faster than CASE by orders of magnitude.
    """
    if not commit.watermarks:
        return "true"
    marks = ", ".join(
        f"'{epoch}/{partition:05d}': '{offset:020d}'"
        for (epoch, partition), offset in sorted(commit.watermarks.items())
    )
    chain = rf"regexp_replace({_PATH}, '^.*?([^\\/]+)[\\/](\d{{5}})-\d{{20}}\.parquet$', '\1/\2')"
    start = rf"regexp_extract({_PATH}, '-(\d{{20}})\.parquet$', 1)"
    return f"{start} >= coalesce(MAP {{{marks}}}[{chain}], '')"


def _columns_map(columns: pa.Schema) -> str:
    """The parameter ``schema`` of ``read_parquet``.  Columns are matched by name; what a file lacks is null."""
    entries = (
        f"{_text(field.name)}: {{name: {_text(field.name)}, type: {_text(duckdb_type(field.type))}, "
        "default_value: NULL}"
        for field in columns
    )
    return "MAP {" + ",\n    ".join(entries) + "}"


def duckdb_type(kind: pa.DataType) -> str:
    """What DuckDB calls a type of the lake.  Not asked of DuckDB: a sink writes views, and has no 40 MB for it."""
    if pa.types.is_struct(kind):
        return "STRUCT(" + ", ".join(f'"{inner.name}" {duckdb_type(inner.type)}' for inner in kind) + ")"
    if pa.types.is_map(kind):
        return f"MAP({duckdb_type(kind.key_type)}, {duckdb_type(kind.item_type)})"
    if pa.types.is_list(kind):
        return f"{duckdb_type(kind.value_type)}[]"
    return "TIMESTAMP WITH TIME ZONE" if pa.types.is_timestamp(kind) else _TYPES[kind]


def _anywhere(pattern: str) -> str:
    return f"coalesce(getvariable('lake'), '') || {_text(pattern)}"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
