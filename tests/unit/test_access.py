"""How librdkafka is told of an Access; aiokafka gets the same, by Faust."""

import re

import pytest
from built_catalog import ROOT

from connectors.access import Access
from connectors.problems import BadInput
from connectors.tls import Tls


@pytest.mark.parametrize(
    ("access", "told"),
    [
        (Access("a:1,b:2"), {"security.protocol": "PLAINTEXT"}),
        (Access("a:1,b:2", Tls()), {"security.protocol": "SSL"}),
        (
            Access("a:1,b:2", None, "PLAIN", "me", "secret"),
            {
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": "PLAIN",
                "sasl.username": "me",
                "sasl.password": "secret",
            },
        ),
    ],
)
def test_librdkafka_is_told_what_is_there_and_no_more(access: Access, told: dict[str, str]) -> None:
    assert access.confluent() == {"bootstrap.servers": "a:1,b:2"} | told


def test_a_file_that_cannot_be_used_is_said_before_a_client_is_opened(tmp_path) -> None:
    with pytest.raises(BadInput, match=r"`ca-file`: .*absent cannot be read"):
        Access("a:1", Tls(ca_file=tmp_path / "absent")).confluent()


def test_nothing_opens_a_client_of_librdkafka_but_with_an_access() -> None:
    files = [file for folder in ("connectors", "pipelines", "lake") for file in (ROOT / folder).rglob("*.py")]
    openers = {
        str(file.relative_to(ROOT))
        for file in files
        if re.search(r'"bootstrap\.servers"|(AdminClient|Consumer|Producer)\(\{', file.read_text())
    }

    assert openers == {"connectors/access.py", "connectors/local/connect.py", "connectors/local/kafka.py"}
