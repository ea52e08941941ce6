"""Whether this process works: what /livez and /readyz answer, whoever asks."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Report:
    """One part of the process.  ``not_live``, ``not_ready``: reasons, none if all is well; ``told``: more to know."""

    not_live: tuple[str, ...] = ()
    not_ready: tuple[str, ...] = ()
    told: Mapping[str, Any] = field(default_factory=dict)


#: The parts by name, asked from any thread.
_parts: dict[str, Callable[[], Report]] = {}


def register(part: str, report: Callable[[], Report]) -> None:
    _parts[part] = report


def application(others: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """The WSGI application of both; ``others`` answers the rest."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path not in {"/livez", "/readyz"}:
            return others(environ, start_response)
        good, parts = _look(live=path == "/livez")
        start_response("200 OK" if good else "503 Service Unavailable", [("Content-Type", "application/json")])
        return [json.dumps({"ok": good, "parts": parts}).encode() + b"\n"]

    return answer


def _look(*, live: bool) -> tuple[bool, dict[str, Any]]:
    """A process none of whose parts has begun lives, but is not ready."""
    reports = {part: report() for part, report in list(_parts.items())}
    reasons = {part: report.not_live if live else report.not_ready for part, report in reports.items()}
    good = not any(reasons.values()) and (live or bool(reports))
    return good, {part: {"reasons": reasons[part], **report.told} for part, report in reports.items()}
