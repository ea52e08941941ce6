"""A configuration refers to its secrets, and nothing that is said about it shows what people wrote in their place."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marked import document

from connectors import machine, settings
from connectors.access import Access
from connectors.kafka_connect import Rest
from connectors.problems import BadInput
from connectors.settings import Settings

SECRET = "Xq7-hunter"
LEAST = "descriptors: d\nconsumers: []\nlake: {root: lake}\n"
#: Where a secret belongs, and where people put one.
PLACES = (
    "kafka: {bootstrap-servers: k, sasl: {username: u, password: %s}}",
    "kafka: {bootstrap-servers: k, sasl: %s}",
    "kafka:\n  bootstrap-servers: k\n  sasl:\n    username: u\n    password: %s",
    "kafka: {bootstrap-servers: k, sasl: {username: u, password: {%s}}}",
    "connect: {url: %s}",
    "connect: {login: {username: u, password: %s}}",
    "connect: {login: %s}",
    "connect: %s",
    "outboxes: {shop: {database: %s}}",
    "outboxes: {shop: {password: %s}}",
    "outboxes:\n  shop: %s",
    "outboxes: %s",
    "lake: {root: l, s3: {access-key-id: i, secret-access-key: %s}}",
    "lake: {root: l, s3: {endpoint-url: %s}}",
    "lake:\n  root: l\n  s3:\n    access-key-id: %s",
    "lake: {root: l, s3: %s}",
)


def kept(folder: Path, written: str) -> Settings:
    text = f"kafka: {{bootstrap-servers: k, sasl: {{username: u, password: '{written}'}}}}\n{LEAST}"
    read, findings = settings.inspect(document(text, str(folder / "waybill.yaml")), {})
    assert findings == ()
    assert read
    return read


def test_a_secret_comes_from_the_environment_or_from_a_file_beside_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", SECRET)
    (tmp_path / "password").write_text(SECRET + "\n")

    for written in ("${env:KAFKA_PASSWORD}", "${file:password}", f"${{file:{tmp_path}/password}}"):
        assert kept(tmp_path, written).kafka.access == Access("k", None, "SCRAM-SHA-512", "u", SECRET)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("${env:NO_SUCH}", "the environment variable NO_SUCH, which holds a secret, is not set or empty"),
        ("${file:absent}", "cannot read the secret in .*absent: No such file"),
        ("${file:empty}", "the file .*empty, which holds a secret, is not set or empty"),
        ("${file:binary}", "cannot read the secret in .*binary: it is not UTF-8 text"),
    ],
)
def test_a_secret_that_is_not_there_is_said_when_it_is_needed_and_found_by_a_check(
    tmp_path: Path, written: str, message: str
) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "binary").write_bytes(b"\xff" + SECRET.encode())
    read = kept(tmp_path, written)

    with pytest.raises(BadInput, match=message) as raised:
        _ = read.kafka.access
    text = f"kafka:\n  bootstrap-servers: k\n  sasl: {{username: u, password: '{written}'}}\n{LEAST}"
    (finding,) = machine.missing(read, document(text, "waybill.yaml"))

    assert (finding.line, finding.message) == (3, f"`password`: {raised.value}")
    assert SECRET not in f"{finding}{raised.value!r}{raised.value.__cause__!r}"


def test_what_holds_a_secret_does_not_show_it() -> None:
    for shown in (Access("k", None, "PLAIN", "u", SECRET), Rest("http://c", None, "u", SECRET)):
        assert SECRET not in f"{shown} {shown!r}"


def test_a_password_in_the_file_or_in_a_url_is_refused() -> None:
    texts = {
        PLACES[0] % "open": "`password` is a secret, which the file must not hold: write ${env:NAME} or ${file:PATH}",
        PLACES[4] % "https://u:open@c": "`url` holds a password, which the file must not: write it beside the URL",
        PLACES[8] % "postgresql://u:open@h/d": "`database` holds a password, which the file must not: write it beside",
        PLACES[12] % "open": "`secret-access-key` is a secret, which the file must not hold: write ${env:NAME} or",
        PLACES[13] % "https://u:open@s3": "`endpoint-url` holds a password, which the file must not: write it beside",
    }
    for text, message in texts.items():
        _, findings = settings.inspect(document(f"{text}\n{LEAST}"), {})
        assert [f for f in findings if f.message.startswith(message)]


#: What YAML reads as more than text; but for braces and commas, which make keys, and keys are shown.
ODD = st.text("!&*%@`'\"[]|>#:-? x0~=\\", max_size=4)


@given(st.sampled_from(PLACES), ODD, ODD)
def test_no_finding_shows_what_stands_where_a_secret_belongs(place: str, before: str, after: str) -> None:
    _, findings = settings.inspect(document(f"{place % (before + SECRET + after)}\n{LEAST}", "waybill.yaml"), {})

    assert SECRET not in "".join(map(str, findings))
