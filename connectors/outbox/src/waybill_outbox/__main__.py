"""Print the outbox's SQL: python -m waybill_outbox ddl | psql ..."""

import argparse

from waybill_outbox.sql import connector_role, ddl

_PARTS = {"ddl": ddl, "role": connector_role}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m waybill_outbox", description="Print the outbox's SQL.")
    parser.add_argument("part", choices=_PARTS, help="ddl: table and publication; role: the role Debezium logs in as")
    print(_PARTS[parser.parse_args().part](), end="")  # noqa: T201  # the SQL is the output


if __name__ == "__main__":
    main()
