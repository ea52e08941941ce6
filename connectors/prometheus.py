"""Metrics of a process over HTTP."""

from prometheus_client import start_http_server

from connectors.problems import BadInput


def serve(host: str, port: int) -> None:
    """Serve all metrics until the process ends.  Raises BadInput if the port cannot be had."""
    try:
        start_http_server(port, host)
    except OSError as error:
        raise BadInput(
            f"cannot serve metrics on {host}:{port}: {error.strerror}; "
            "processes that share a machine need a port each, set WAYBILL_METRICS_PORT"
        ) from error
