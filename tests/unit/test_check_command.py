"""`waybill check` and `waybill routes`: what they print and how they end."""

import json
from pathlib import Path

import pytest
from built_catalog import SHOP, descriptor_set
from team_file import team_file

from pipelines import cli

MAIN = """\
kafka: {bootstrap-servers: local}
descriptors: descriptors.binpb
consumers: [teams/*.yaml]
lake: {root: lake}
"""
DEDICATED = "distribution: [{topic: order_paid, services: [OrderPaid], dedicated: true}]"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a right configuration in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAYBILL_CONFIG", "waybill.yaml")
    descriptor_set(tmp_path, SHOP)
    (tmp_path / "teams").mkdir()
    (tmp_path / "waybill.yaml").write_text(MAIN)
    (tmp_path / "teams" / "x.yaml").write_text(team_file())
    return tmp_path


@pytest.fixture
def waybill(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command in the folder; its exit code, what it printed and what it said."""

    assert folder.is_dir()

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["waybill", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def test_a_clean_configuration_ends_with_0(waybill) -> None:
    assert waybill("check") == (0, "", "no findings\n")


def test_findings_of_all_files_are_printed_and_end_with_1(folder: Path, waybill) -> None:
    (folder / "waybill.yaml").write_text(MAIN + "extra: 1\n")
    (folder / "teams" / "y.yaml").write_text(team_file("dlq-topic: x_dlq", name="y"))
    (folder / "teams" / "z.yaml").write_text("[/")

    code, printed, said = waybill("check")

    assert code == 1
    assert [line.split(": ")[0] for line in printed.splitlines()] == [
        "teams/y.yaml:3:16",
        "teams/z.yaml:1:3",
        "waybill.yaml:5:1",
    ]
    assert said == "3 findings\n"


def test_a_consumers_file_alone_is_checked_against_the_catalog(folder: Path, waybill) -> None:
    (folder / "new.yaml").write_text(team_file("distribution: [{topic: order_payd, services: [OrderPaid]}]"))

    code, printed, said = waybill("check", "new.yaml")

    assert (code, said) == (1, "1 finding\n")
    assert printed.startswith("new.yaml:3:28: consumer `x`: no event type has the topic `order_payd`; did you mean")


def test_a_consumers_file_beside_the_main_one_is_checked_with_the_others(folder: Path, waybill) -> None:
    (folder / "new.yaml").write_text(team_file("dlq-topic: x_dlq", name="y"))

    code, printed, _ = waybill("check", "waybill.yaml", "new.yaml", "teams/x.yaml")

    assert (code, printed.count("\n")) == (1, 1)
    assert "`x_dlq` is the dlq-topic of consumer `x` (teams/x.yaml:6) already" in printed


def test_findings_are_printed_as_json(folder: Path, waybill) -> None:
    (folder / "new.yaml").write_text("consumer: {}\n")

    code, printed, _ = waybill("check", "new.yaml", "--json")

    assert code == 1
    assert json.loads(printed) == [
        {"file": "new.yaml", "line": 1, "column": 1, "message": message}
        for message in (
            "`consumers` is missing; write `consumers: {service-a: ...}`",
            "unknown key `consumer`; did you mean `consumers`?",
        )
    ]


@pytest.mark.parametrize("missing", ["waybill.yaml", "teams/x.yaml", "descriptors.binpb"])
def test_what_cannot_be_read_ends_with_2(folder: Path, waybill, missing: str) -> None:
    (folder / missing).unlink()
    if missing.startswith("teams"):
        (folder / missing).symlink_to("nowhere")

    code, printed, said = waybill("check")

    assert (code, printed) == (2, "")
    assert f"{missing}: No such file" in said


def test_the_schema_is_printed(waybill) -> None:
    code, printed, _ = waybill("check", "--schema")

    assert code == 0
    assert "consumers" in json.loads(printed)["properties"]


def test_routes_say_who_gets_what(waybill) -> None:
    code, printed, said = waybill("routes")

    assert code == 0
    expected = ["order_paid", "shop.v1.OrderPaidEvent", "x", "shop.v1.Events/OrderPaid", "host:1", "waybill-x"]
    assert printed.split() == expected
    assert said == "nobody receives order_placed\n"


def test_routes_say_which_topic_has_a_group_of_its_own(folder: Path, waybill) -> None:
    (folder / "teams" / "x.yaml").write_text(team_file(DEDICATED))

    assert [route["group"] for route in json.loads(waybill("routes", "--json")[1])] == ["waybill-x-order_paid"]


def test_routes_of_one_topic_can_be_had_as_json(waybill) -> None:
    assert json.loads(waybill("routes", "order_placed", "--json")[1]) == []
    assert json.loads(waybill("routes", "order_paid", "--json")[1])[0]["endpoint"] == "shop.v1.Events/OrderPaid"


def test_an_unknown_topic_is_answered_with_a_near_one(waybill) -> None:
    code, printed, said = waybill("routes", "order_payd")

    assert (code, printed) == (2, "")
    assert "did you mean `order_paid`" in said


def test_a_wrong_configuration_is_told_in_full_and_ends_with_2(folder: Path, waybill) -> None:
    (folder / "teams" / "x.yaml").write_text(team_file("owner: '[/red]'", "timout: 1", "batch-size: 0"))

    code, printed, said = waybill("routes")

    assert (code, printed) == (2, "")
    assert "teams/x.yaml:4:5: " in said
    assert "teams/x.yaml:5:17: " in said


@pytest.fixture
def deployed(folder: Path) -> str:
    """A copy of the configuration as it is now."""
    copy = folder / "deployed"
    copy.mkdir()
    for name in ("waybill.yaml", "descriptors.binpb"):
        (copy / name).write_bytes((folder / name).read_bytes())
    (copy / "teams").mkdir()
    (copy / "teams" / "x.yaml").write_text(team_file())
    return "deployed/waybill.yaml"


def test_an_unchanged_configuration_has_nothing_against_the_deployed_one(waybill, deployed: str) -> None:
    assert waybill("check", "--against", deployed) == (0, "", "no findings\n")


def test_a_change_that_loses_nothing_is_a_note(folder: Path, waybill, deployed: str) -> None:
    (folder / "teams" / "x.yaml").write_text(team_file(DEDICATED))

    code, printed, said = waybill("check", "--against", deployed)

    assert (code, printed) == (0, "")
    assert "note: consumer `x`: order_paid changes its group by `dedicated`: " in said


def test_a_change_that_loses_events_is_a_finding_where_it_is_written(folder: Path, waybill, deployed: str) -> None:
    (folder / "teams" / "x.yaml").write_text(team_file("retry-topic: new_retry"))

    code, printed, said = waybill("check", "--against", deployed)

    assert code == 1
    assert printed == (
        "teams/x.yaml:2:3: consumer `x`: `retry-topic` was x_retry: what waits there would not be retried; "
        "run `waybill consumer retire x` first, by the deployed configuration\n"
    )
    assert "whether x was retired is not known: " in said, "no Kafka answers here"


def test_a_deployed_configuration_that_cannot_be_read_ends_with_2(waybill) -> None:
    code, printed, said = waybill("check", "--against", "nowhere.yaml")

    assert (code, printed) == (2, "")
    assert "cannot read nowhere.yaml" in said


def test_secrets_and_certificates_this_machine_lacks_are_findings_unless_the_workers_run_elsewhere(
    folder: Path, waybill
) -> None:
    sasl = "sasl: {username: u, password: '${env:NO_SUCH}'}"
    (folder / "waybill.yaml").write_text(MAIN.replace("local}", f"local, {sasl}}}"))
    (folder / "teams" / "x.yaml").write_text(team_file("tls: {ca-file: absent.pem}"))

    code, printed, _ = waybill("check")

    assert code == 1
    assert [line.partition(":")[0] for line in printed.splitlines()] == ["teams/x.yaml", "waybill.yaml"]
    assert "consumer `x`: `ca-file`: teams/absent.pem cannot be read: No such file or directory" in printed
    assert "`password`: the environment variable NO_SUCH, which holds a secret, is not set or empty" in printed
    assert waybill("check", "--elsewhere") == (0, "", "no findings\n")
