import pytest

from connectors import kafka_connect
from connectors.kafka_connect import Rest, Status
from connectors.problems import Unreachable

TRACE = """org.apache.kafka.connect.errors.ConnectException: Tolerance exceeded in error handler
\tat org.apache.kafka.connect.runtime.Some.thing(Some.java:1)
Caused by: org.apache.kafka.connect.errors.DataException: something is off
\t... 8 more
Caused by: org.postgresql.util.PSQLException: FATAL: no such thing.
\t... 3 more
"""


def answer(connector="RUNNING", *tasks, trace=TRACE):
    return {
        "name": "c",
        "connector": {"state": connector},
        "tasks": [{"id": i, "state": state, "trace": trace} for i, state in enumerate(tasks)],
    }


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (answer("RUNNING", "RUNNING"), "RUNNING"),
        (answer("RUNNING"), "UNASSIGNED"),
        (answer("RUNNING", "UNASSIGNED"), "UNASSIGNED"),
        (answer("RUNNING", "RESTARTING"), "RESTARTING"),
        (answer("STOPPED"), "STOPPED"),
        (answer("PAUSED", "PAUSED"), "PAUSED"),
        (answer("PAUSED", "RUNNING"), "PAUSED"),
        (answer("UNASSIGNED", "RUNNING"), "UNASSIGNED"),
    ],
)
def test_a_connector_runs_only_if_it_and_its_task_do(said, state):
    assert kafka_connect.read_status(said) == Status("c", state)


def test_a_failed_task_fails_the_connector_and_says_its_innermost_cause():
    said = answer("RUNNING", "FAILED")
    assert kafka_connect.read_status(said) == Status("c", "FAILED", "PSQLException: FATAL: no such thing")


def test_a_failed_connector_says_its_cause():
    said = {"name": "c", "connector": {"state": "FAILED", "trace": "java.lang.Error: broken\n\tat x"}, "tasks": []}
    assert kafka_connect.read_status(said) == Status("c", "FAILED", "Error: broken")


def test_an_empty_trace_has_an_empty_cause():
    assert kafka_connect.root_cause("") == ""


def test_a_connect_that_is_not_there_is_unreachable_and_named():
    with pytest.raises(Unreachable, match=r"does not answer at http://127\.0\.0\.1:1"):
        kafka_connect.status(Rest("http://127.0.0.1:1"), "c")
