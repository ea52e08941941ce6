"""Everything that is wrong with consumers' files is found: where, whose, what, and what to write instead."""

from pathlib import Path

import pytest
from built_catalog import ROOT, shop
from hypothesis import given
from hypothesis import strategies as st
from marked import document, places, where
from team_file import LINES, team_file

from connectors import schemas, yaml_source
from connectors.yaml_source import Finding
from pipelines import config, routing

LIMIT = 4 << 20

TABLE = Path(__file__).with_name("config_findings.txt").read_text().split("\n\n")[1:]
CASES = [block.strip().split("\n=> ") for block in TABLE]


def inspect(*marked: str) -> tuple[Finding, ...]:
    documents = [document(text, f"{index}.yaml") for index, text in enumerate(marked)]
    return config.inspect(documents, shop(), LIMIT)[1]


@pytest.mark.parametrize(("lines", "message"), CASES, ids=[lines.replace("▸", "") for lines, _ in CASES])
def test_each_mistake_is_a_finding_at_its_place_that_names_the_consumer(lines: str, message: str) -> None:
    marked = team_file(*lines.split("\n"))

    findings = config.inspect([document(marked)], shop(), LIMIT)[1]

    assert where(findings) == places(marked)
    assert [finding.message for finding in findings if not finding.message.startswith(f"consumer `x`: {message}")] == []


@pytest.mark.parametrize("key", LINES)
def test_a_missing_key_is_a_finding_at_the_consumers_name(key: str) -> None:
    [finding] = inspect(team_file(leave_out=key))

    assert finding.message.startswith(f"consumer `x`: `{key}` is missing; write `{key}: ")
    assert (finding.line, finding.column) == (2, 3)


@pytest.mark.parametrize("name", ["distribution", "breaker", "consumers", "topic"])
def test_a_consumer_named_like_a_key_is_checked_like_any_other(name: str) -> None:
    [missing, unknown] = inspect(team_file("bater: 1", name=name, leave_out="dlq-topic"))

    assert missing.message.startswith(f"consumer `{name}`: `dlq-topic` is missing;")
    assert unknown.message.startswith(f"consumer `{name}`: unknown key `bater`; ")


def test_every_mistake_of_a_file_is_found_at_once() -> None:
    marked = """\
consumers:
  ▸a:
    ▸dlq-topik: a_dlq
    grpc-server-hostname: ▸7
    grpc-server-port: ▸22:22
    retry-topic: ▸order_paid
    max-retry-attempts: ▸-1
    distribution:
      - topic: order_paid
        services: [▸OrderPlaced, ▸Nope]
        ▸services: []
  b:
    grpc-server-hostname: host
    grpc-server-port: 1
    retry-topic: b_retry
    dlq-topic: ▸b_retry
    distribution:
      - {topic: ▸nothing, services: [OrderPaid]}
▸other: 1
"""

    assert where(inspect(marked)) == places(marked)


@pytest.mark.parametrize("name", ["lake", "replay"])
def test_a_name_whose_group_is_waybills_own_is_refused(name: str) -> None:
    [finding] = inspect(team_file(name=name))

    assert f"consumer `{name}`: `waybill-{name}` is the " in finding.message
    assert (finding.line, finding.column) == (2, 3)


@pytest.mark.parametrize("name", ["1st", "größe", "a b", "-a", "a" * 101])
def test_a_name_that_no_app_can_have_is_refused(name: str) -> None:
    topics = ("retry-topic: own_retry", "dlq-topic: own_dlq")

    [finding] = inspect(team_file(*topics, name=f'"{name}"'))

    assert "a name is a letter, then up to 99 letters" in finding.message


X = team_file()
DEDICATED = "distribution: [{topic: order_paid, services: [OrderPaid], dedicated: true}]"
MARKED = "distribution: [{topic: ▸order_paid, services: [OrderPaid], dedicated: true}]"
OWN = ("retry-topic: own_retry", "dlq-topic: own_dlq")
NEW = "distribution: [{topic: order_new, services: [OrderPaid]}]"


@pytest.mark.parametrize(
    ("first", "other", "message"),
    [
        (X, team_file(*OWN, name="▸x"), "is defined in 0.yaml:2 already; remove one, or give it another name"),
        (team_file(name="a-b"), team_file(*OWN, name="▸a_b"), "its app would be called like that of `a-b` (0.yaml:2)"),
        (X, team_file(name="▸x-retry"), "`waybill-x-retry` is the retry group of consumer `x` (0.yaml:2) already"),
        (team_file(name="x-retry"), team_file(name="▸x"), "`waybill-x-retry` is the group of consumer `x-retry`"),
        (X, team_file(name="▸x-order_paid"), "is the group of the topic `order_paid` of `x` when dedicated"),
        (team_file(name="x__order_paid"), team_file(MARKED), "`x__order_paid` is the app of consumer `x__order_paid`"),
        (X, team_file("dlq-topic: ▸x_dlq", name="y"), "`x_dlq` is the dlq-topic of consumer `x` (0.yaml:6) already"),
        (X, team_file("retry-topic: ▸x_dlq", name="y"), "`x_dlq` is the dlq-topic of consumer `x` (0.yaml:6) already"),
        (X, team_file("retry-topic: ▸x.dlq", name="y"), "`x.dlq` is, too close to `x_dlq`, the dlq-topic of"),
        (team_file(NEW), team_file("dlq-topic: ▸order_new", name="y"), "a source topic of consumer `x` (0.yaml:3)"),
    ],
)  # fmt: skip
def test_two_files_cannot_claim_the_same_name(first: str, other: str, message: str) -> None:
    findings = [finding for finding in inspect(first, other) if finding.file == "1.yaml"]

    assert where(findings) == places(other)
    assert message in findings[0].message


def test_the_example_of_the_format_has_only_unknown_names() -> None:
    marked = """\
consumers:
  service-a:
    grpc-server-hostname: service-a-hostname
    grpc-server-port: "12345"
    max-retry-attempts: 15
    batch-size: 10
    retry-topic: service_a_retry
    dlq-topic: service_a_dlq
    distribution:
      - topic: ▸event_y
        services: [▸EndpointA, ▸EndpointB]
        dedicated: true
"""

    findings = config.inspect([document(marked)], schemas.load(ROOT / "proto" / "descriptors.binpb"), LIMIT)[1]

    assert where(findings) == places(marked)


def test_the_repositorys_own_configuration_is_clean() -> None:
    assert config.findings([yaml_source.read(ROOT / "config" / "waybill.yaml")]) == ()


mistakes = [f"    {line}\n" for lines, _ in CASES for line in lines.replace("▸", "").split("\n")]
right = [line.format(name="x") for line in LINES.values()]
pieces = st.sampled_from([*mistakes, *right, "    - \n", "  y:\n"])


@given(st.lists(pieces, max_size=12).map("".join), st.sampled_from(["consumers:\n  x:\n", "consumers:\n", ""]))
def test_whatever_is_written_is_accepted_for_good_or_found_wrong(body: str, head: str) -> None:
    consumers, findings = config.inspect([document(head + body)], shop(), LIMIT)

    assert findings or routing.routes(consumers, shop())


@given(st.permutations(right), st.sets(st.sampled_from(["timeout: 1", "batch-size: 2", "owner: x", "tls: {}"])))
def test_the_order_of_keys_does_not_matter(required: list[str], optional: set[str]) -> None:
    text = "consumers:\n  x:\n" + "".join(required) + "".join(f"    {line}\n" for line in sorted(optional))

    [consumer], findings = config.inspect([document(text)], shop(), LIMIT)

    assert findings == ()
    assert consumer.retry_topic == "x_retry"


@given(st.text(max_size=60))
def test_any_text_is_read_without_a_crash(text: str) -> None:
    consumers, findings = config.inspect([document(text), document(f"consumers: {text}", "b.yaml")], shop(), LIMIT)

    assert findings or consumers
