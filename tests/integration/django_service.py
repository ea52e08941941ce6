"""A Django service in a process of its own: python django_service.py URL_WITHOUT_OUTBOX URL_WITH_OUTBOX."""

import sys
import unittest
from pathlib import Path
from urllib.parse import urlsplit

import django
import pytest
from django.conf import settings


def postgres(url):
    parts = urlsplit(url)
    place = {"NAME": parts.path[1:], "USER": parts.username, "HOST": parts.hostname, "PORT": parts.port}
    return {"ENGINE": "django.db.backends.postgresql", **place}


settings.configure(
    INSTALLED_APPS=["waybill_outbox.django"],
    DATABASES={
        "default": postgres(sys.argv[1]),
        "other": postgres(sys.argv[2]),
        "lite": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
    },
    USE_TZ=True,
    TIME_ZONE="Asia/Tokyo",
)
django.setup()
sys.path.insert(0, str(Path(__file__).parents[1]))

from django.core.management import call_command  # noqa: E402
from django.db import connection, connections, transaction  # noqa: E402
from django.test import TestCase, TransactionTestCase, override_settings  # noqa: E402
from example_stubs import events_pb2  # noqa: E402
from waybill_outbox import NotInTransaction, OutboxError, build_event, save_many  # noqa: E402
from waybill_outbox.django.models import OutboxEvent  # noqa: E402


def event():
    return build_event(events_pb2.RouteAssignedEvent(route_id=7))


class InATransaction(TransactionTestCase):
    databases = ("default", "other")

    def test_an_event_is_saved_with_the_data_and_rolled_back_with_it(self):
        saved = event()
        with transaction.atomic():
            saved.save()
        with transaction.atomic():
            event().save()
            transaction.set_rollback(True)
        row = OutboxEvent.objects.get()
        assert (row.id, row.key, row.topic, bytes(row.payload)) == (saved.id, "7", "route_assigned", saved.payload)
        assert (row.created_at, row.specversion, row.traceparent) == (saved.created_at, "1.0", None)
        assert row.source == connection.settings_dict["NAME"]

    def test_an_event_outside_a_transaction_is_refused_for_each_alias(self):
        with pytest.raises(NotInTransaction, match=r"no transaction.atomic\(using='default'\)"):
            event().save()
        with transaction.atomic(), pytest.raises(NotInTransaction, match="using='other'"):
            event().save(using="other")
        with transaction.atomic(using="other"):
            save_many([event(), event()], using="other")
        assert OutboxEvent.objects.using("other").count() == 2
        assert OutboxEvent.objects.count() == 0

    def test_an_event_saved_on_commit_is_refused_as_its_data_is_committed_already(self):
        with pytest.raises(NotInTransaction), transaction.atomic():
            transaction.on_commit(lambda: event().save())

    def test_a_transaction_begun_by_hand_is_one(self):
        connection.set_autocommit(False)
        try:
            event().save()
            connection.rollback()
        finally:
            connection.set_autocommit(True)
        assert OutboxEvent.objects.count() == 0

    def test_the_source_is_a_setting(self):
        with override_settings(WAYBILL_SOURCE="warehouse"), transaction.atomic():
            event().save()
        assert OutboxEvent.objects.get().source == "warehouse"


class InATestCase(TestCase):
    def test_the_transaction_of_the_test_does_not_hide_a_missing_one(self):
        with pytest.raises(NotInTransaction):
            event().save()
        with transaction.atomic():
            event().save()
        assert OutboxEvent.objects.count() == 1


class Migrations(unittest.TestCase):
    def test_the_model_is_what_the_migration_makes(self):
        call_command("makemigrations", check=True, dry_run=True, verbosity=0)

    def test_another_kind_of_database_is_passed_over_and_has_no_outbox(self):
        call_command("migrate", database="lite", verbosity=0)
        with (
            transaction.atomic(using="lite"),
            pytest.raises(OutboxError, match="needs PostgreSQL; 'lite' is SQLite"),
        ):
            event().save(using="lite")


if __name__ == "__main__":
    migrate = {"database": "default", "verbosity": 0}
    call_command("migrate", **migrate)
    call_command("migrate", "waybill_outbox", "zero", **migrate)
    call_command("migrate", **migrate)
    try:
        unittest.main(argv=sys.argv[:1])
    finally:
        connections.close_all()
