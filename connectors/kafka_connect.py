"""Kafka Connect's REST interface: bring a connector to a configuration, and see how it is."""

import base64
import http.client
import json
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from connectors.problems import Problem, Refused, Unreachable

# A task says RUNNING a moment before it reports what it finds in the database.
_SETTLE_SECONDS = 2.0
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Rest:
    """Where Connect's interface is, whom to trust there, and what to log in with.  The password is not shown."""

    url: str
    context: ssl.SSLContext | None = None
    username: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class Status:
    """A connector as Connect sees it.

    `state` is RUNNING only if the connector and its task are; else FAILED, PAUSED, STOPPED, UNASSIGNED or MISSING.
    `cause` is the last error in one line, empty if there is none.  An exactly-once task that fails says RUNNING for up
    to 30 more seconds, while Connect closes its producer.
    """

    name: str
    state: str
    cause: str = ""


def status(connect: Rest, name: str) -> Status:
    """The state of a connector; Unreachable if Connect does not answer."""
    answer = _call(connect, "GET", f"/connectors/{name}/status")
    return Status(name, "MISSING") if answer is None else read_status(answer)


def read_status(answer: Mapping[str, Any]) -> Status:
    """A Status from what Connect's REST interface says."""
    parts = [answer["connector"], *answer["tasks"]]
    broken = next((part for part in parts if part["state"] == "FAILED"), None)
    if broken:
        return Status(answer["name"], "FAILED", root_cause(broken.get("trace", "")))
    states = [part["state"] for part in parts] + ([] if answer["tasks"] else ["UNASSIGNED"])
    return Status(answer["name"], next((state for state in states if state != "RUNNING"), "RUNNING"))


def root_cause(trace: str) -> str:
    """The line of a Java stack trace that says what went wrong: the innermost cause."""
    lines = trace.splitlines()
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    line = causes[-1] if causes else (lines or [""])[0]
    return re.sub(r"^(?:[a-z]\w*\.)+(?=[A-Z])", "", line.strip()).rstrip(".")


def apply(connect: Rest, name: str, config: Mapping[str, str], seconds: float = 60) -> Status:
    """Make the connector what `config` says and return its Status once it runs.

    A connector that runs with this very config is left alone.  Problem if it fails or does not run in time.
    """
    deadline = time.monotonic() + seconds
    before = _call(connect, "GET", f"/connectors/{name}/config")
    now = status(connect, name)
    if before == {**config, "name": name} and now.state == "RUNNING":
        return now
    _put(connect, f"/connectors/{name}/config", config, deadline)
    if before is not None:
        # Stopped for a moment, so that every state seen from here on is one of the new configuration.
        _put(connect, f"/connectors/{name}/stop", {}, deadline)
        _wait(connect, name, "STOPPED", deadline)
        _put(connect, f"/connectors/{name}/resume", {}, deadline)
    now = _wait(connect, name, "RUNNING", deadline)
    if now.state == "FAILED":
        raise Problem(f"The connector {name} failed: {now.cause}. Mend the cause, then apply it again.")
    return now


def _wait(connect: Rest, name: str, state: str, deadline: float) -> Status:
    """The Status once it settled on `state`, or on FAILED when waiting for RUNNING."""
    final = {state, "FAILED"} if state == "RUNNING" else {state}
    since: float | None = None
    while True:
        now, clock = status(connect, name), time.monotonic()
        since = None if now.state != "RUNNING" else since or clock
        if now.state in final and (since is None or clock - since >= _SETTLE_SECONDS):
            return now
        if clock > deadline:
            raise Problem(f"The connector {now.name} is {now.state}, not {state}; see the log of Kafka Connect.")
        time.sleep(_POLL_SECONDS)


def _put(connect: Rest, path: str, body: Mapping[str, str], deadline: float) -> None:
    """PUT, again and again while Connect's workers agree on who runs what (409: nothing comes back)."""
    while _call(connect, "PUT", path, body) is None:
        if time.monotonic() > deadline:
            raise Problem(f"Kafka Connect at {connect} is still rebalancing; see its log, then apply again.")
        time.sleep(_POLL_SECONDS)


def _call(connect: Rest, method: str, path: str, body: Mapping[str, str] | None = None) -> Any:
    """The answer's JSON; None if there is nothing by that path (404), or Connect cannot say now (409)."""
    request = urllib.request.Request(  # noqa: S310  # the URL comes from the configuration
        connect.url.rstrip("/") + path,
        method=method,
        data=None if body is None else json.dumps(dict(body)).encode(),
        headers={"Content-Type": "application/json"},
    )
    if connect.username:
        login = base64.b64encode(f"{connect.username}:{connect.password}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {login}")
    try:
        with urllib.request.urlopen(request, timeout=60, context=connect.context) as answer:  # noqa: S310
            return json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        with error:
            message = _message(error)
        if error.code in {404, 409}:
            return None
        if error.code in {401, 403}:
            raise Refused(
                f"Kafka Connect at {connect} does not let us in ({error}); see connect.login in the settings"
            ) from error
        raise Problem(f"Kafka Connect refused {method} {path}: {message}") from error
    except (OSError, ValueError) as error:
        if isinstance(cause := getattr(error, "reason", error), ssl.SSLError):
            raise Refused(f"Kafka Connect at {connect}: {cause}; see connect.tls in the settings") from error
        raise Unreachable(f"Kafka Connect does not answer at {connect}: {error}. Does it run?") from error
    except http.client.HTTPException as error:  # its text may hold whatever was sent
        raise Unreachable(f"The answer at {connect} is no whole HTTP: {error!r}. Is it Kafka Connect?") from error


def _message(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        text = str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text or str(error)
    invalid = re.search(r"error\(s\):\n(.*)\nYou can also find", text, re.DOTALL)
    return invalid[1] if invalid else text
