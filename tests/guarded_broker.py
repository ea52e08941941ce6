"""A Kafka broker of a test's own that lets in only who can show who they are."""

import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from certificates import Authority, Certificate

from connectors.local import jars, java, kafka, ports

USER, PASSWORD = "courier", "correct-horse-battery"
LISTENERS = ("scram", "mutual", "plain")
_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


@contextmanager
def guarded_broker(folder: Path, authority: Authority, host: Certificate) -> Iterator[SimpleNamespace]:
    """Addresses by listener: ``scram`` (SASL_SSL), ``mutual`` (SSL with certificates of clients), ``plain``
    (SASL_PLAINTEXT), and ``kafka``, open to all; and its ``pid``.  A user that a test adds may do nothing
    until it gets rights.
    """
    installed = jars.install(jars.read_lock(), jars.cache(), lambda _done, _total: None)
    taken: set[int] = set()
    for _ in range(len(LISTENERS) + 2):
        taken.add(ports.choose(taken))
    port, controller, *guarded = taken
    at = dict(zip(LISTENERS, guarded, strict=True))
    (folder / "logs").mkdir(parents=True)
    java.prepare(folder)
    settings = kafka.settings(folder / "kafka", port, controller) | _security(folder, authority, host)
    extra = ",".join(f"{name.upper()}://127.0.0.1:{at[name]}" for name in LISTENERS)
    settings["listeners"] += f",{extra}"
    settings["advertised.listeners"] += f",{extra}"
    settings["listener.security.protocol.map"] += ",SCRAM:SASL_SSL,MUTUAL:SSL,PLAIN:SASL_PLAINTEXT"
    path = folder / "kafka.properties"
    path.write_text(java.properties(settings))
    user = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
    tool = ("format", "--cluster-id", uuid.uuid4().hex[:22], "--config", str(path), "--add-scram", user)
    subprocess.run(
        java.command(folder, installed, 128, "kafka.tools.StorageTool", *tool), check=True, capture_output=True
    )
    part = kafka.part(folder, installed, kafka.Node(1, port, controller))
    with part.log.open("ab") as log:
        process = subprocess.Popen(part.argv, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 100
        while not part.ready():
            assert process.poll() is None, part.log.read_text()[-3000:]
            assert time.monotonic() < end, "the broker does not start"
            time.sleep(0.05)
        yield SimpleNamespace(
            pid=process.pid,
            kafka=kafka.address(port),
            connect="http://127.0.0.1:1",
            **{name: kafka.address(at[name]) for name in at},
        )
    finally:
        process.kill()
        process.wait()


def _security(folder: Path, authority: Authority, host: Certificate) -> dict[str, str]:
    store = folder / "broker.pem"
    store.write_bytes(b"".join(host.pem))
    return {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:ANONYMOUS;User:{USER};User:CN={USER}",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(store),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.certificate),
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.scram.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.scram.scram-sha-512.sasl.jaas.config": f"{_SCRAM} required;",
        "listener.name.plain.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.plain.plain.sasl.jaas.config": f'{_LOGIN} required user_{USER}="{PASSWORD}";',
    }
