import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waybill_outbox import MAX_MESSAGE_BYTES, ddl

from connectors import debezium
from connectors.kafka import topics
from connectors.problems import BadInput

URL = "postgresql://shop@db.example:6432/orders?sslmode=verify-full&sslrootcert=/ca.pem"


def test_a_database_url_becomes_the_connectors_options():
    config = debezium.render("shop", URL, "s@cret")
    assert {name: value for name, value in config.items() if name.startswith("database.")} == {
        "database.hostname": "db.example",
        "database.port": "6432",
        "database.user": "shop",
        "database.password": "s@cret",
        "database.dbname": "orders",
        "database.sslmode": "verify-full",
        "database.sslrootcert": "/ca.pem",
    }


def test_a_url_without_password_or_port_is_enough():
    config = debezium.render("shop", "postgres://shop@db/orders")
    assert config["database.port"] == "5432"
    assert "database.password" not in config


@pytest.mark.parametrize(
    "url",
    [
        "",
        "orders",
        "mysql://u@h/d",
        "postgresql://h/d",
        "postgresql://u@h",
        "postgresql://u@/d",
        "postgresql://u@h/",
        "postgresql://u@h:99999/d",
    ],
)
def test_what_is_no_postgres_url_is_refused_with_the_form_of_one(url):
    with pytest.raises(BadInput, match="outbox shop must be a URL: postgresql://USER@HOST:PORT/DATABASE"):
        debezium.render("shop", url)


def test_an_option_of_the_url_that_debezium_would_not_get_is_refused():
    with pytest.raises(BadInput, match="application_name cannot be passed on"):
        debezium.render("shop", "postgresql://u@h/d?application_name=x")


@pytest.mark.parametrize("name", ["", "Shop", "1shop", "a.b", "a b", "x" * 41])
def test_an_outbox_name_that_is_no_slot_name_is_refused(name):
    with pytest.raises(BadInput, match="lower case letters"):
        debezium.render(name, URL)


@given(st.from_regex(r"\A[a-z][a-z0-9_-]{0,39}\Z"))
def test_every_outbox_name_makes_a_slot_that_postgres_takes(name):
    slot = debezium.render(name, URL)["slot.name"]
    assert len(slot) <= 63
    assert set(slot) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")


def test_all_options_are_text_that_connect_takes_as_json():
    config = debezium.render("shop", URL)
    assert json.loads(json.dumps(config)) == config
    assert all(isinstance(value, str) for value in config.values())


def test_no_error_is_tolerated_and_every_event_is_carried_exactly_once():
    config = debezium.render("shop", URL)
    assert config["errors.tolerance"] == "none"
    assert config["exactly.once.support"] == "required"


def test_topics_that_a_row_makes_are_as_topics_apply_wants_them():
    config = debezium.render("shop", URL)
    prefix = "topic.creation.default."
    made = {name.removeprefix(prefix): value for name, value in config.items() if name.startswith(prefix)}
    existing = topics.Existing(int(made.pop("partitions")), 3, made | {"min.insync.replicas": "2"})
    wanted = topics.source("x", MAX_MESSAGE_BYTES)
    assert topics.plan([wanted], {"x": existing}) == (topics.Keep(wanted),)


def test_the_largest_event_of_sdk_and_table_fits_producer_and_topics():
    assert debezium.MAX_PAYLOAD_BYTES == MAX_MESSAGE_BYTES
    assert f"octet_length(payload) <= {MAX_MESSAGE_BYTES}" in ddl()
    config = debezium.render("shop", URL)
    assert int(config["producer.override.max.request.size"]) >= MAX_MESSAGE_BYTES + 4096
    assert config["topic.creation.default.max.message.bytes"] == config["producer.override.max.request.size"]


def test_the_connector_reads_what_the_sdk_makes():
    config = debezium.render("shop", URL)
    assert f"CREATE PUBLICATION {config['publication.name']} FOR TABLE outbox_event" in ddl()
    assert config["table.include.list"] == r".*\.outbox_event"
