"""What /livez and /readyz answer."""

import json

import pytest

from connectors import health
from connectors.health import Report


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_parts", {})


def ask(path: str) -> tuple[str, dict]:
    told: list[str] = []
    answer = health.application(lambda _environ, _start: [b'"metrics"'])
    body = b"".join(answer({"PATH_INFO": path}, lambda status, _headers: told.append(status)))
    return (told or [""])[0], json.loads(body)


def test_a_process_none_of_whose_parts_has_begun_lives_and_is_not_ready() -> None:
    assert ask("/livez")[0] == "200 OK"
    assert ask("/readyz")[0] == "503 Service Unavailable"


@pytest.mark.parametrize(
    ("path", "reason", "status"),
    [
        ("/livez", {}, "200 OK"),
        ("/readyz", {}, "200 OK"),
        ("/livez", {"not_live": ("stuck",)}, "503 Service Unavailable"),
        ("/readyz", {"not_live": ("stuck",)}, "200 OK"),
        ("/livez", {"not_ready": ("no Kafka",)}, "200 OK"),
        ("/readyz", {"not_ready": ("no Kafka",)}, "503 Service Unavailable"),
    ],
)
def test_one_part_that_is_not_well_is_enough_and_says_why(path: str, reason: dict, status: str) -> None:
    health.register("a", lambda: Report(told={"held": ["t[0]"]}))
    health.register("b", lambda: Report(**reason))

    answered, body = ask(path)

    assert answered == status
    assert body["ok"] is (status == "200 OK")
    assert body["parts"]["a"] == {"reasons": [], "held": ["t[0]"]}
    assert body["parts"]["b"]["reasons"] == ([] if body["ok"] else list(*reason.values()))


def test_other_paths_are_answered_by_others() -> None:
    assert ask("/metrics") == ("", "metrics")
