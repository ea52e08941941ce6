from typing import Any, ClassVar

from django.db import migrations, models

from waybill_outbox.ids import uuid7
from waybill_outbox.sql import ddl

_REVERSE = """
DROP PUBLICATION outbox_pub;
DROP FUNCTION outbox_save;
DROP TABLE outbox_event;
DROP FUNCTION outbox_event_refuse_update, outbox_source, outbox_uuid7;
"""


class PostgresSQL(migrations.RunSQL):
    """Does nothing elsewhere: `migrate` visits a project's other databases too."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor == "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor == "postgresql":
            super().database_backwards(app_label, schema_editor, from_state, to_state)


class Migration(migrations.Migration):
    initial = True
    dependencies: ClassVar[list[tuple[str, str]]] = []
    operations: ClassVar[list[Any]] = [
        PostgresSQL(
            ddl(),
            _REVERSE,
            state_operations=[
                migrations.CreateModel(
                    name="OutboxEvent",
                    fields=[
                        ("id", models.UUIDField(primary_key=True, default=uuid7, editable=False, serialize=False)),
                        ("topic", models.TextField()),
                        ("key", models.TextField()),
                        ("type", models.TextField()),
                        ("payload", models.BinaryField()),
                        ("source", models.TextField()),
                        ("created_at", models.DateTimeField()),
                        ("traceparent", models.TextField(null=True)),
                        ("tracestate", models.TextField(null=True)),
                        ("specversion", models.TextField(default="1.0")),
                    ],
                    options={"db_table": "outbox_event"},
                )
            ],
        )
    ]
