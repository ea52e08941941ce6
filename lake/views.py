"""``views.sql``: for DuckDB, a view of each topic of the lake.  Pure.

Paths are relative to the lake's root: they hold wherever the lake is moved or mounted.
"""

from collections.abc import Iterable

#: Its key in the lake.
FILE = "views.sql"

_HEAD = """\
-- Views of this lake for DuckDB.  In its folder:      duckdb -init views.sql
-- From anywhere else:  SET file_search_path = '<this folder>';  then  .read '<this folder>/views.sql'
-- Per topic: a view with every record, and one named <topic>_latest with every event once.
"""


def definitions(topics: Iterable[str]) -> str:
    """Columns of all schemas a topic ever had; those that a file lacks are null there."""
    known = sorted(set(topics))
    statements = [_every_record(topic) for topic in known]
    statements += [_every_event(topic) for topic in known if latest(topic) not in known]
    return _HEAD + "\n".join(statements)


def latest(topic: str) -> str:
    return f"{topic}_latest"


def _every_record(topic: str) -> str:
    return f"""\
CREATE OR REPLACE VIEW "{topic}" AS
    SELECT * FROM read_parquet('hot/{topic}/*/*.parquet', union_by_name = true);
"""  # noqa: S608 - Kafka's topic names hold no quote


def _every_event(topic: str) -> str:
    """An outbox row that Debezium emits again is one event at two offsets."""
    return f"""\
CREATE OR REPLACE VIEW "{latest(topic)}" AS
    SELECT * FROM "{topic}"
    QUALIFY row_number() OVER (PARTITION BY _event_id ORDER BY _timestamp DESC, _partition DESC, _offset DESC) = 1;
"""  # noqa: S608 - see above
