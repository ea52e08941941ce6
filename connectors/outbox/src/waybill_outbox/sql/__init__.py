"""The outbox in SQL, one source for the Django migration and for everyone else."""

from importlib.resources import files


def ddl() -> str:
    """Table, checks, functions and publication: run once in the database of the data, by the owner of its tables."""
    return _read("0001_outbox_event.sql")


def connector_role() -> str:
    """The role that Debezium logs in as: replication and SELECT on the outbox, nothing else."""
    return _read("connector_role.sql")


def _read(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")
