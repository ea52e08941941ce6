"""The reference pages against the code: every key, header, status, command and metric, and nothing else."""

import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any, get_args, get_origin

import pytest
import typer
from pages import ROOT, Table, name, names, tables
from prometheus_client import Counter, Gauge, Histogram
from pydantic.fields import FieldInfo

from connectors import debezium, rpc, settings
from connectors.kafka import holds
from connectors.problems import BadInput, Problem, Unreachable
from connectors.shapes import Shape
from lake import metrics as lake_metrics
from pipelines import cli, config, events, handover, metrics, outcome
from pipelines.format import Consumer, ConsumerFormat
from pipelines.outcome import Against, Delivered, Rejected, Retryable

CONFIG = tables("reference/config.md")
SETTINGS, CONSUMER, ENVIRONMENT = CONFIG
STATUSES, TRAILER, WITHOUT_STATUS = tables("reference/outcomes.md")
OF_EVENT, OF_HAND_OVER = tables("reference/headers.md")
EXIT_CODES, COMMANDS, TARGETS = tables("reference/cli.md")


def keys(shape: type[Shape], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key of a shape with those of the shapes within it, as the reference writes them."""
    for field_name, field in shape.model_fields.items():
        key, kind = prefix + (field.alias or field_name), field.annotation
        inner = [part for part in (kind, *get_args(kind)) if isinstance(part, type) and issubclass(part, Shape)]
        step = {dict: ".NAME.", tuple: "[]."}.get(get_origin(kind), ".")
        if inner:
            yield from keys(inner[0], key + step)
        else:
            yield key, field


def default(field: FieldInfo) -> str | None:
    """As the reference writes it; None where prose says what it follows from."""
    value = field.default
    match value:
        case _ if field.is_required():
            return "required"
        case _ if "Default:" in (field.description or ""):
            return None
        case int() if value and value % (1 << 20) == 0:
            value = f"{value >> 20}MiB"
        case bool():
            value = str(value).lower()
        case float():
            value = f"{value:g}"
    return "none" if value is None else f"`{value}`"


@pytest.mark.parametrize(("shape", "table"), [(settings.Settings, SETTINGS), (ConsumerFormat, CONSUMER)])
def test_every_key_is_documented_with_its_default(shape: type[Shape], table: Table) -> None:
    wanted = {key: default(field) for key, field in keys(shape)}
    documented = {name(key): told for key, told, _ in table.rows}

    assert set(documented) == set(wanted)
    assert {key: told for key, told in documented.items() if wanted[key]} == {k: v for k, v in wanted.items() if v}


def test_what_a_worker_refuses_is_marked_as_not_built_yet() -> None:
    everything: dict[str, Any] = {"delivery": "batch", "start_from": "latest"}
    consumer = Consumer(
        name="x",
        grpc_server_hostname="h",
        grpc_server_port=1,
        retry_topic="r",
        dlq_topic="d",
        distribution=({"topic": "t", "services": ("s",), "dedicated": True},),
        **everything,
    )
    refused = {re.match(r"`([\w-]+)", text)[1] for text in config.unbuilt(consumer)}
    marked = {name(key) for key, _, meaning in CONSUMER.rows if "*not built yet*" in meaning}

    assert {re.sub(r"\..*|.*\]\.", "", key) for key in marked} == refused


def test_every_variable_of_the_environment_is_documented() -> None:
    folders = ("connectors", "pipelines", "lake")
    sources = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    used = {word for file in sources for word in re.findall(r"\bWAYBILL_[A-Z_]+\b", file.read_text())}
    documented = {name(variable): name(what) for variable, what in ENVIRONMENT.rows if names(what)}

    assert {name(variable) for variable, _ in ENVIRONMENT.rows} == used
    assert {word: ".".join(key) for word, key in settings.ENVIRONMENT.items()}.items() <= documented.items()


@pytest.mark.parametrize("row", STATUSES.rows, ids=lambda row: row[0][:30])
def test_each_status_has_the_documented_outcome(row: list[str]) -> None:
    statuses, told, follows = row
    for status in names(statuses):
        match outcome.classify(status):
            case Delivered():
                assert told == "delivered"
            case Rejected():
                assert told == "rejected"
            case Retryable(against=against, in_memory=in_memory):
                assert told == "retryable"
                hint = {Against.CONSUMER: "consumer's", Against.ENDPOINT: "endpoint's", Against.LIMIT: "halves"}[
                    against
                ]
                assert (hint if in_memory else "at once from the retry topic") in follows


def test_every_status_of_grpc_is_documented() -> None:
    import grpc

    assert sorted(s for row in STATUSES.rows for s in names(row[0])) == sorted(code.name for code in grpc.StatusCode)


def test_the_trailer_is_documented() -> None:
    outcomes = {name(value): told for value, told in TRAILER.rows}

    assert set(outcomes) == outcome.ACTIONS
    assert {a: type(outcome.classify("UNKNOWN", a)).__name__.lower() for a in outcomes} == outcomes


def test_every_status_of_waybills_own_is_documented() -> None:
    own = {"MALFORMED", "REFUSED", "GONE"}
    sources = "".join((ROOT / "pipelines" / f"{file}.py").read_text() for file in ("events", "retry", "dlq"))

    assert {name(row[0]) for row in WITHOUT_STATUS.rows} == own
    assert all(f'"{status}"' in sources for status in own)


def test_every_header_is_documented() -> None:
    of_event = {name(header): names(sent)[0] if names(sent) else None for header, sent, _ in OF_EVENT.rows}

    assert set(of_event) == {*debezium._HEADERS.values(), "content-type"}
    assert {header: sent for header, sent in of_event.items() if sent} == events.METADATA
    ours = [handover.FORMAT_HEADER, *(handover.PREFIX + field for field in handover.FIELDS)]
    assert [name(row[0]) for row in OF_HAND_OVER.rows] == ours


def commands(group: Any, words: tuple[str, ...] = ("waybill",)) -> Iterator[tuple[str, set[str]]]:
    """Each command with its options, by their long names."""
    for word, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*words, word))
        else:
            options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
            yield " ".join((*words, word)), {max(option.opts, key=len) for option in options} - {"--help"}


def test_every_command_is_documented_with_its_options() -> None:
    documented = {
        re.sub(r" [\[A-Z].*", "", name(command)): {word for word in names(what) if word.startswith("--")}
        for command, what in COMMANDS.rows
    }

    assert documented == dict(commands(typer.main.get_command(cli.app)))


def test_exit_codes_are_documented() -> None:
    codes = {int(code) for code, _ in EXIT_CODES.rows}

    assert codes >= {problem.exit_code for problem in (Problem, BadInput, Unreachable)}
    assert codes == {0, 1, 2, 3, 4}


def test_every_target_of_make_is_documented() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert sorted(name(target).removeprefix("make ") for target, _ in TARGETS.rows) == sorted(targets)


def exposed(module: ModuleType) -> dict[str, set[str]]:
    """Metrics of a module by the name a scrape shows, with their labels."""
    found = [value for value in vars(module).values() if isinstance(value, Counter | Gauge | Histogram)]
    return {
        metric._name + ("_total" if isinstance(metric, Counter) else ""): set(metric._labelnames) for metric in found
    }


def test_every_metric_is_documented_with_its_labels() -> None:
    table = next(table for table in tables("operations.md") if table.header[0] == "metric")
    documented = {name(metric): set(names(labels)) for metric, labels, _ in table.rows}

    assert documented == exposed(metrics) | exposed(lake_metrics) | exposed(holds)


def test_what_failed_connections_say_is_documented() -> None:
    texts = {meaning for _, meaning in rpc._MEANINGS} | {"the consumer ends connections at once"}
    begins = {begin for row in tables("security.md")[-1].rows for begin in names(row[0])}

    assert all(any(text.startswith(begin) for begin in begins) for text in texts)
    assert all(any(text.startswith(begin) for text in texts) for begin in begins)
