"""An object store for tests: moto's server, a process of its own that keeps objects in memory.

``with ObjectStore(tmp_path) as store:`` starts one on a free port, with an empty bucket.  A ``Detour`` stands between
it and its clients and changes what they say to each other.
"""

import http.client
import io
import json
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from botocore.session import Session

#: Not us-east-1, where S3 refuses to be told the region of a new bucket.
REGION = "eu-west-1"
KEY_ID, SECRET = "waybill-test", "not-a-real-secret"


class ObjectStore:
    """``settings`` is the mapping ``lake.s3`` of waybill.yaml, ``root`` a ``lake.root`` in the bucket.

    ``stop`` loses every object, and ``start`` begins with an empty bucket again, at the same ``endpoint``.
    """

    def __init__(self, folder: Path) -> None:
        self.bucket = f"bucket-{uuid.uuid4().hex[:8]}"
        self._port = free_port()
        self._log = folder / "object-store.log"
        secret = folder / "object-store.secret"
        secret.write_text(SECRET)
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self.settings = {
            "endpoint-url": self.endpoint,
            "region": REGION,
            "access-key-id": KEY_ID,
            "secret-access-key": f"${{file:{secret}}}",
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def root(self) -> str:
        return f"s3://{self.bucket}/lake"

    def lake(self, **settings: Any) -> dict[str, Any]:
        """The mapping ``lake`` of waybill.yaml for a lake of its own in the bucket."""
        root = f"s3://{self.bucket}/lake-{uuid.uuid4().hex[:8]}"
        return {"root": root, "scratch": str(self._log.parent / "scratch"), "s3": self.settings, **settings}

    @property
    def yaml(self) -> str:
        """``settings`` as they may stand in a YAML file."""
        return json.dumps(self.settings)

    def client(self) -> Any:
        """botocore's, to look at the bucket past the code under test."""
        return Session().create_client(
            "s3",
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
        )

    def start(self) -> None:
        command = [sys.executable, __file__, str(self._port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(600):
            if self._answers():
                break
            assert self._process.poll() is None, self._log.read_text()
            threading.Event().wait(0.1)
        else:
            raise TimeoutError(f"moto's server does not answer, see {self._log}")
        self.client().create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": REGION})

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), 5).close()
        except OSError:
            return False
        return True


@dataclass
class Message:
    """A request, or an answer with a ``status``."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int = 0


Forward = Callable[[Message], Message]


def refusal(status: int, code: str) -> Message:
    """What S3 answers when it refuses."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no, thank you</Message></Error>"
    return Message("", "", {"Content-Type": "application/xml"}, body.encode(), status)


class Detour:
    """``tamper`` gets each request and what forwards it, and gives the answer; None cuts the connection."""

    def __init__(self, store: ObjectStore, tamper: Callable[[Message, Forward], Message | None]) -> None:
        port = int(store.endpoint.rpartition(":")[2])

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def parse_request(self) -> bool:
                understood = super().parse_request()
                if understood:
                    self._pass_on()
                return False  # so that the base class looks for no method of its own

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = tamper(Message(self.command, self.path, dict(self.headers), body), _forward(port))
                self.close_connection = True
                if answer is None:
                    return
                self.send_response_only(answer.status)
                for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    if name not in {"Connection", "Transfer-Encoding"}:
                        self.send_header(name, value)
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05])
        self.settings = store.settings | {"endpoint-url": f"http://127.0.0.1:{self._server.server_port}"}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _forward(port: int) -> Forward:
    def forward(request: Message) -> Message:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            headers = {name: value for name, value in request.headers.items() if name not in {"Expect", "Connection"}}
            connection.request(request.method, request.path, request.body, headers)
            answer = connection.getresponse()
            return Message(request.method, request.path, dict(answer.headers), answer.read(), answer.status)
        finally:
            connection.close()

    return forward


def _serve(port: int) -> None:
    """moto checks a condition and creates the object in two steps; here no other request comes between them."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    moto, changing = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one_change_at_a_time(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in {"GET", "HEAD"}:
            return moto(environ, start_response)
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        with changing:
            return list(moto(environ, start_response))

    run_simple("127.0.0.1", port, one_change_at_a_time, threaded=True)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
