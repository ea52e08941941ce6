"""What workers say of themselves, and what follows when they differ."""

from dataclasses import replace

from built_catalog import shop
from marked import document
from team_file import team_file

from pipelines import config, routing, worker_state
from pipelines.worker_state import FORGOTTEN, FRESH, Worker

ONE = Worker("x", None, "abc", "host", 1, "0.1", 100.0, 100.0)


def hash_of(*lines: str) -> str:
    consumers, findings = config.inspect([document(team_file(*lines))], shop(), 4 << 20)
    assert findings == ()
    return worker_state.config_hash(consumers[0], routing.routes(consumers, shop()))


def test_the_hash_tells_what_is_in_effect_and_not_how_it_is_written() -> None:
    assert hash_of() == hash_of("timeout: 5", 'grpc-server-port: "1"')
    assert hash_of() == hash_of("distribution: [{topic: order_paid, services: [OrderPaid]}]")
    other = hash_of("distribution: [{topic: order_placed, services: [shop.v1.Audit/OrderPlaced]}]")
    assert len({hash_of(), hash_of("timeout: 6"), other}) == 3


def test_only_rows_of_late_are_workers_that_live() -> None:
    other = replace(ONE, consumer="a", dedicated="t", pid=2)
    rows = {ONE.key: ONE.at(150), other.key: other.at(200), b"retirement/x": b"{}"}

    assert worker_state.alive(rows, 201) == (replace(other, seen_at=200), replace(ONE, seen_at=150))
    assert worker_state.alive(rows, 150 + FRESH) == (replace(other, seen_at=200),)


def test_what_a_crashed_worker_left_is_removed_a_day_later() -> None:
    rows = {ONE.key: ONE.at(150), b"retirement/x": b"{}", b"worker/z": b"{}"}

    assert worker_state.long_gone(rows, 150 + FORGOTTEN) == []
    assert worker_state.long_gone(rows, 151 + FORGOTTEN) == [ONE.key]


def test_rows_of_another_version_or_of_nobody_are_passed_over() -> None:
    rows = {
        b"worker/1": b"",
        b"worker/2": b"[]",
        b"worker/3": b'{"format": 99}',
        b"worker/4": b'{"format": 1, "pid": 3}',
    }

    assert worker_state.alive(rows, 0) == ()


def test_workers_differ_when_those_of_one_consumer_have_two_configurations() -> None:
    others = [replace(ONE, pid=2), replace(ONE, consumer="y", config="def")]

    assert worker_state.differing([ONE, *others], "x") == {}
    assert worker_state.differing([ONE, *others, replace(ONE, dedicated="t", config="def")], "x") == {
        "abc": 2,
        "def": 1,
    }
