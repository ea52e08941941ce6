"""Metrics and health of a process over HTTP, from a thread: they answer whatever the process waits for."""

import threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from connectors import health
from connectors.problems import BadInput


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Who asks is not worth a line."""


def serve(host: str, port: int) -> None:
    """Serve /metrics, /livez and /readyz until the process ends.  Raises BadInput if the port cannot be had."""
    try:
        server = make_server(host, port, health.application(make_wsgi_app()), _Server, _Quiet)
    except OSError as error:
        raise BadInput(
            f"cannot serve metrics on {host}:{port}: {error.strerror}; "
            "processes that share a machine need a port each, set WAYBILL_METRICS_PORT"
        ) from error
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
