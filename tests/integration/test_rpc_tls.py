"""Channels with and without TLS against real gRPC servers of every kind; who is not let in has no connection."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace

import grpc
import pytest
from certificates import Authority, Certificate

from connectors.problems import BadInput
from connectors.reply import Reach, Reply
from connectors.rpc import Channel
from connectors.tls import Tls
from pipelines.breaker import State
from pipelines.caller import Caller
from pipelines.format import Consumer
from pipelines.outcome import DELIVERED
from pipelines.routing import Endpoint

PATH = "/guarded.Service/Do"


@contextmanager
def server(credentials: grpc.ServerCredentials | None, port: int = 0) -> Iterator[int]:
    method = grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")
    handler = grpc.method_handlers_generic_handler("guarded.Service", {"Do": method})
    with ThreadPoolExecutor(2) as pool:
        running = grpc.server(pool, [handler], options=[("grpc.so_reuseport", 0)])
        address = f"127.0.0.1:{port}"
        bound = running.add_secure_port(address, credentials) if credentials else running.add_insecure_port(address)
        running.start()
        try:
            yield bound
        finally:
            running.stop(None).wait()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("certificates")
    authority, other = Authority(folder), Authority(folder, "other")
    return SimpleNamespace(
        authority=authority,
        other=other,
        host=authority.issue("host"),
        elsewhere=authority.issue("elsewhere", "DNS:elsewhere.example"),
        expired=authority.issue("expired", days=-1),
        client=authority.issue("client"),
        stranger=other.issue("stranger"),
    )


def guard(pki: SimpleNamespace, host: str = "host", *, mutual: bool = False) -> grpc.ServerCredentials:
    authority = pki.authority.certificate.read_bytes() if mutual else None
    return grpc.ssl_server_credentials([getattr(pki, host).pem], authority, mutual)


def tls(authority: Authority, client: Certificate | None = None) -> Tls:
    shown = {"certificate_file": client.certificate, "key_file": client.key} if client else {}
    return Tls(ca_file=authority.certificate, **shown)


def call(port: int, tls: Tls | None, name: str | None = None) -> Reply:
    async def run() -> Reply:
        channel = Channel("127.0.0.1", port, tls=tls, server_name=name)
        reply = await channel.call(PATH, b"", (), 5.0)
        assert await channel.ready(0.5) == (reply.status == "OK")
        await channel.close()
        return reply

    return asyncio.run(run())


def test_a_consumer_with_tls_and_one_that_wants_certificates_are_called(pki: SimpleNamespace) -> None:
    with server(guard(pki)) as port:
        assert call(port, tls(pki.authority)) == Reply("OK")
    with server(guard(pki, "elsewhere")) as port:
        assert call(port, tls(pki.authority), "elsewhere.example") == Reply("OK")
    with server(guard(pki, mutual=True)) as port:
        assert call(port, tls(pki.authority, pki.client)) == Reply("OK")


@pytest.mark.parametrize(
    ("host", "authority", "meaning"),
    [
        ("host", "other", "is of an authority that is not trusted (tls.ca-file)"),
        ("elsewhere", "authority", "is for another name (tls.server-name)"),
        ("expired", "authority", "has expired"),
    ],
)
def test_a_certificate_that_is_not_accepted_is_no_connection_and_the_reply_says_why(
    pki: SimpleNamespace, host: str, authority: str, meaning: str
) -> None:
    with server(guard(pki, host)) as port:
        reply = call(port, tls(getattr(pki, authority)))
    assert (reply.status, reply.reach) == ("UNAVAILABLE", Reach.UNSENT)
    assert reply.message.startswith(f"the consumer's certificate {meaning}: ")


@pytest.mark.parametrize(
    ("client", "meaning"),
    [(None, "does it want a certificate"), ("stranger", "does it accept our certificate")],
)
def test_a_consumer_that_does_not_accept_ours_is_no_connection_and_the_reply_says_what_to_look_at(
    pki: SimpleNamespace, client: str | None, meaning: str
) -> None:
    with server(guard(pki, mutual=True)) as port:
        reply = call(port, tls(pki.authority, getattr(pki, client) if client else None))
    assert (reply.status, reply.reach) == ("UNAVAILABLE", Reach.UNSENT)
    assert meaning in reply.message


def test_tls_on_one_side_only_is_no_connection_and_the_reply_says_so(pki: SimpleNamespace) -> None:
    with server(None) as port:
        wanted = call(port, tls(pki.authority))
    with server(guard(pki)) as port:
        missed = call(port, None)
    assert (wanted.reach, missed.reach) == (Reach.UNSENT, Reach.UNSENT)
    assert "the consumer does not speak TLS (tls)" in wanted.message
    assert "does it want TLS (tls)?" in missed.message


def test_certificates_renewed_on_disk_are_taken_up_while_the_consumer_refuses_and_no_attempt_is_spent(
    pki: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.caller.CONNECT_PATIENCE", 0.5)
    shown = Certificate(tmp_path / "client.pem", tmp_path / "client.key")

    def install(client: Certificate) -> None:
        shown.certificate.write_bytes(client.certificate.read_bytes())
        shown.key.write_bytes(client.key.read_bytes())

    install(pki.stranger)

    async def run(port: int) -> None:
        told = Consumer(
            name="guarded",
            grpc_server_hostname="127.0.0.1",
            grpc_server_port=port,
            retry_topic="retry",
            dlq_topic="dlq",
            breaker={"probe_interval": 0.1},
            tls={"ca_file": pki.authority.certificate, "certificate_file": shown.certificate, "key_file": shown.key},
            distribution=({"topic": "t", "services": ("s",)},),
        )
        caller = Caller(told, Random(1))
        endpoint = Endpoint(PATH.removeprefix("/"), PATH)
        waiting = [asyncio.create_task(caller.attempt(endpoint, str(event), b"", ())) for event in range(20)]
        done, _ = await asyncio.wait(waiting, timeout=1.0)
        assert not done
        assert caller._admission.breaker.state is not State.CLOSED
        install(pki.client)
        assert await asyncio.wait_for(asyncio.gather(*waiting), 10) == [DELIVERED] * 20
        await caller.close()

    with server(guard(pki, mutual=True)) as port:
        asyncio.run(run(port))


def test_files_that_cannot_be_used_are_named_with_what_is_wrong(pki: SimpleNamespace, tmp_path: Path) -> None:
    text, locked = tmp_path / "text", tmp_path / "locked.key"
    text.write_text("no certificate")
    locked.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    ca, good, other = pki.authority.certificate, pki.client, pki.stranger
    for files, message in (
        ({"ca_file": tmp_path / "absent"}, "`ca-file`: .*absent cannot be read: No such file"),
        ({"ca_file": text}, "`ca-file`: .*text holds no certificate in PEM form"),
        ({"certificate_file": good.certificate, "key_file": text}, "`key-file`: .*holds no private key in PEM form"),
        ({"certificate_file": good.certificate, "key_file": locked}, "`key-file`: .* has a passphrase"),
        ({"certificate_file": text, "key_file": good.key}, "`certificate-file`: .* holds no certificate in PEM form"),
        ({"certificate_file": good.certificate, "key_file": other.key}, "does not belong to the private key"),
    ):
        with pytest.raises(BadInput, match=message):
            Channel("host", 1, tls=Tls(**({"ca_file": ca} | files)))
