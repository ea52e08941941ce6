"""The W3C trace context of the active OpenTelemetry span, if the service uses OpenTelemetry."""

import re
from collections.abc import Callable

_inject: Callable[[dict[str, str]], None] | None
try:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    _inject = None
else:
    _inject = TraceContextTextMapPropagator().inject

# W3C asks for room for 512 characters; the table holds no more.
_TRACESTATE = re.compile(r"[ -~]{1,512}")


def current() -> tuple[str | None, str | None]:
    """What to save as traceparent and tracestate of an event; None is absent.

    A tracestate that the table would refuse is left out: tracing never fails a business transaction.
    """
    if _inject is None:
        return None, None
    carrier: dict[str, str] = {}
    _inject(carrier)
    tracestate = carrier.get("tracestate", "")
    return carrier.get("traceparent"), tracestate if _TRACESTATE.fullmatch(tracestate) else None
