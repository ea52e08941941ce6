"""Kafka Connect behind TLS and a password."""

import base64
import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Authority

from connectors import kafka_connect
from connectors.kafka_connect import Rest, Status
from connectors.problems import Refused, Unreachable
from connectors.tls import Tls

LOGIN = base64.b64encode(b"me:right").decode()


class Guarded(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        let_in = self.headers["Authorization"] == f"Basic {LOGIN}"
        self.send_response(404 if let_in else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def url(authority: Authority) -> Iterator[str]:
    host = authority.issue("connect")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Guarded)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(host.certificate, host.key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_connect_is_called_with_the_authority_and_the_login_of_the_settings(url: str, authority: Authority) -> None:
    context = Tls(ca_file=authority.certificate).context()

    assert kafka_connect.status(Rest(url, context, "me", "right"), "c") == Status("c", "MISSING")
    with pytest.raises(Refused, match=r"does not let us in .*401.* see connect\.login") as raised:
        kafka_connect.status(Rest(url, context, "me", "a-wrong-one"), "c")
    assert "a-wrong-one" not in f"{raised.value!r}{raised.value.__cause__!r}"


def test_a_connect_whose_certificate_is_not_trusted_is_told_nothing(url: str, tmp_path: Path) -> None:
    context = Tls(ca_file=Authority(tmp_path, "other").certificate).context()

    with pytest.raises(Refused, match=r"CERTIFICATE_VERIFY_FAILED.* see connect\.tls"):
        kafka_connect.status(Rest(url, context, "me", "right"), "c")


def test_what_does_not_speak_http_is_no_connect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            with server.accept()[0] as peer:
                peer.recv(65_536)
                peer.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        with pytest.raises(Unreachable, match=r"^The answer at .*SSH-2\.0.*\\r\\n.*Is it Kafka Connect\?$"):
            kafka_connect.status(Rest(f"http://127.0.0.1:{server.getsockname()[1]}"), "c")
        thread.join()
