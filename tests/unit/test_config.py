"""Consumers' files become consumers."""

import json
from pathlib import Path

import pytest
from built_catalog import ROOT, shop
from marked import document
from team_file import team_file

from connectors import settings
from connectors.problems import BadInput
from connectors.yaml_source import ConfigError
from pipelines import config

LIMIT = 4 << 20
DEDICATED = "distribution: [{topic: order_paid, services: [OrderPaid], dedicated: true}]"

BILLING = """\
consumers:
  billing:
    grpc-server-hostname: billing-host
    grpc-server-port: "12345"
    retry-topic: billing_retry
    dlq-topic: billing_dlq
    distribution:
      - topic: order_paid
        services: [OrderPaid]
"""


def consumer(*lines: str) -> config.Consumer:
    [read], findings = config.inspect([document(team_file(*lines))], shop(), LIMIT)
    assert findings == ()
    return read


def test_a_consumer_is_read_with_its_defaults() -> None:
    [billing], findings = config.inspect([document(BILLING)], shop(), LIMIT)

    assert findings == ()
    assert billing == config.Consumer(
        name="billing",
        grpc_server_hostname="billing-host",
        grpc_server_port=12345,
        retry_topic="billing_retry",
        dlq_topic="billing_dlq",
        distribution=(config.Subscription(topic="order_paid", services=("OrderPaid",)),),
    )
    assert (billing.timeout, billing.max_retry_attempts, billing.max_message_bytes) == (5, 15, 4 << 20)
    assert (billing.retry_backoff.initial, billing.retry_backoff.max) == (1, 300)
    assert billing.address == "billing-host:12345"
    assert hash(billing)


def test_every_key_of_the_format_is_accepted() -> None:
    read = consumer(
        "grpc-service: shop.v1.Events",
        "timeout: 0.5",
        "max-retry-attempts: 3",
        "batch-size: 10",
        "max-in-flight: 20",
        "max-message-bytes: 1 MiB",
        "in-memory-retry: {attempts: 0, initial: 0.2, max: 2}",
        "retry-backoff: {initial: 2, max: 60}",
        "breaker: {transport-failures: 3, window: 10, distinct-events: 2, probe-interval: 1}",
        "tls: {ca-file: ca.pem, certificate-file: c.pem, key-file: k.pem, server-name: billing}",
        "delivery: batch",
        "start-from: 2026-01-31T08:00:00Z",
        "owner: team-x",
        DEDICATED,
    )

    assert read.model_fields_set == set(config.Consumer.model_fields)
    assert (read.max_in_flight, read.max_message_bytes, read.breaker.window) == (20, 1 << 20, 10)
    assert config.unbuilt(read) == ("`delivery: batch`",)


def test_what_is_built_needs_no_refusal() -> None:
    assert config.unbuilt(consumer("start-from: latest", "delivery: unary", "tls: {}", DEDICATED)) == ()


def test_max_in_flight_is_batch_size_unless_it_is_written() -> None:
    assert consumer("batch-size: 10").max_in_flight == 10
    assert consumer("batch-size: 10", "max-in-flight: 5").max_in_flight == 5


def test_a_small_window_needs_no_more_events_than_it_has() -> None:
    assert consumer("breaker: {window: 3}").breaker.distinct_events == 3


def test_a_consumer_takes_no_larger_events_than_topics_do() -> None:
    [billing], _ = config.inspect([document(BILLING)], shop(), 1000)

    assert billing.max_message_bytes == 1000


def test_an_ipv6_address_is_bracketed() -> None:
    assert consumer("grpc-server-hostname: '::1'", "grpc-server-port: 5").address == "[::1]:5"


def written(folder: Path, **teams: str) -> settings.Settings:
    (folder / "teams").mkdir()
    for name, text in teams.items():
        (folder / "teams" / f"{name}.yaml").write_text(text)
    main = "kafka: {bootstrap-servers: k}\ndescriptors: d\nconsumers: [teams/*.yaml]\nlake: {root: l}\n"
    (folder / "waybill.yaml").write_text(main)
    return settings.load(folder / "waybill.yaml")


def test_another_teams_broken_file_does_not_stop_a_consumer(tmp_path: Path) -> None:
    broken = team_file(leave_out="dlq-topic")
    read = written(tmp_path, a="consumers: {a: [", b="consumers: 7", c=broken, z=BILLING)
    (tmp_path / "teams" / "binary.yaml").write_bytes(b"\xff")
    (tmp_path / "teams" / "gone.yaml").symlink_to(tmp_path / "nowhere")

    assert config.load_consumer("billing", read, shop()).name == "billing"
    with pytest.raises(BadInput, match=r"cannot read .*binary\.yaml"):
        config.load(read.consumers, shop(), read)


def test_a_finding_in_the_consumers_own_file_stops_it(tmp_path: Path) -> None:
    read = written(tmp_path, a=BILLING.replace("OrderPaid", "OrderPlaced"), b="]")

    with pytest.raises(ConfigError) as refused:
        config.load_consumer("billing", read, shop())

    assert [Path(finding.file).name for finding in refused.value.findings] == ["a.yaml"]


def test_a_consumer_that_two_files_hold_is_refused(tmp_path: Path) -> None:
    read = written(tmp_path, a=BILLING, b=BILLING)

    with pytest.raises(ConfigError, match=r"b\.yaml:2:3: consumer `billing`: is defined in .*a\.yaml:2 already"):
        config.load_consumer("billing", read, shop())


def test_a_consumer_is_found_by_the_name_of_its_app(tmp_path: Path) -> None:
    read = written(tmp_path, a=team_file(name="service-a"))

    assert config.load_consumer("service_a", read, shop()).name == "service-a"


def test_an_app_of_a_dedicated_topic_leads_to_its_consumer_and_topic(tmp_path: Path) -> None:
    read = written(tmp_path, a=team_file(DEDICATED, name="service-a"), b=BILLING)

    found, topic = config.load_app("service_a__order_paid", read, shop())

    assert (found.name, topic) == ("service-a", "order_paid")
    assert config.load_app("service_a", read, shop()) == (found, None)
    with pytest.raises(BadInput, match=r"did you mean `service_a__order_paid`\?"):
        config.load_app("service_a__order_pai", read, shop())
    with pytest.raises(BadInput, match="no consumer is called `billing__order_paid`"):
        config.load_app("billing__order_paid", read, shop())


def test_an_app_that_a_consumer_and_a_dedicated_topic_claim_is_refused(tmp_path: Path) -> None:
    read = written(tmp_path, a=team_file(DEDICATED), b=team_file(name="x__order_paid"))

    with pytest.raises(ConfigError, match="`x__order_paid` is the app of consumer `x__order_paid`"):
        config.load_app("x__order_paid", read, shop())


def test_two_consumers_with_the_same_app_are_refused(tmp_path: Path) -> None:
    read = written(tmp_path, a=team_file(name="service-a"), b=team_file(name="service_a"))

    with pytest.raises(ConfigError, match="its app would be called like that of `service-a`"):
        config.load_consumer("service-a", read, shop())


def test_an_unknown_consumer_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    read = written(tmp_path, a=BILLING, b=team_file(name="tracking", leave_out="dlq-topic"))

    with pytest.raises(BadInput, match=r"no consumer is called `biling` .*; did you mean `billing`\?"):
        config.load_consumer("biling", read, shop())
    with pytest.raises(BadInput, match="there are billing, tracking"):
        config.load_consumer("zzz", read, shop())


def test_all_findings_of_all_files_are_in_the_error(tmp_path: Path) -> None:
    read = written(tmp_path, a="consumers: 7", b="]")

    with pytest.raises(ConfigError) as refused:
        config.load(read.consumers, shop(), read)

    assert [Path(finding.file).name for finding in refused.value.findings] == ["a.yaml", "b.yaml"]
    assert str(refused.value).count("\n") == 1


def test_the_schema_for_editors_is_current() -> None:
    current = (ROOT / "config" / "consumers.schema.json").read_text()

    assert json.loads(current) == config.schema(), "run: waybill check --schema > config/consumers.schema.json"
