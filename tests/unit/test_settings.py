"""waybill.yaml becomes settings, or findings."""

from pathlib import Path

import pytest
from built_catalog import ROOT
from marked import document, places, where

from connectors import settings, yaml_source
from connectors.problems import BadInput, Unreachable
from connectors.settings import BucketFolder, ConfigError

LEAST = """
kafka: {bootstrap-servers: "kafka:9092"}
descriptors: ../d.binpb
consumers: [teams/*.yaml, teams/b.yaml, other.yaml]
lake: {root: lake}
"""


def written(folder: Path, text: str = LEAST) -> Path:
    path = folder / "config" / "waybill.yaml"
    (folder / "config" / "teams").mkdir(parents=True)
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    read = settings.load(written(tmp_path))

    assert read.descriptors == tmp_path / "d.binpb"
    assert read.lake.root == tmp_path / "config" / "lake"
    assert read.path == tmp_path / "config" / "waybill.yaml"


def test_patterns_find_each_file_once_and_a_plain_path_stands_for_itself(tmp_path: Path) -> None:
    path = written(tmp_path)
    for name in ("b", "a"):
        (path.parent / "teams" / f"{name}.yaml").touch()

    names = [file.relative_to(path.parent) for file in settings.load(path).consumers]

    assert names == [Path("teams/a.yaml"), Path("teams/b.yaml"), Path("other.yaml")]


def test_what_is_not_written_has_its_default(tmp_path: Path) -> None:
    read = settings.load(written(tmp_path))

    assert (read.max_message_bytes, read.metrics.port, read.lake.segment_bytes) == (4 << 20, 9464, 128 << 20)


def test_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAYBILL_CONFIG", str(written(tmp_path)))
    monkeypatch.setenv("WAYBILL_BOOTSTRAP_SERVERS", "other:9092")
    monkeypatch.setenv("WAYBILL_CONNECT_URL", "http://connect:8083")
    monkeypatch.setenv("WAYBILL_LAKE_ROOT", "lake")
    monkeypatch.setenv("WAYBILL_METRICS_PORT", "9999")

    read = settings.load()

    assert (read.kafka.access.servers, read.connect.rest.url) == ("other:9092", "http://connect:8083")
    assert (read.lake.root, read.metrics.port) == (tmp_path / "lake", 9999)


@pytest.mark.parametrize(
    ("root", "bucket", "folder"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("s3://my.bucket-1/lake/v_2.0/", "my.bucket-1", "lake/v_2.0"),
    ],
)
def test_a_lake_may_be_in_a_bucket_whoever_says_so(tmp_path: Path, root: str, bucket: str, folder: str) -> None:
    of_file = settings.load(path := written(tmp_path, LEAST.replace("root: lake", f"root: {root}")))
    of_environment, _ = settings.inspect(document(LEAST, str(path)), {"WAYBILL_LAKE_ROOT": root})

    assert of_environment
    for read in (of_file, of_environment):
        assert read.lake.root == BucketFolder(bucket, folder)
        assert str(read.lake.root) == root.rstrip("/")


def test_a_wrong_override_is_a_finding_that_names_the_variable() -> None:
    _, findings = settings.inspect(document(LEAST, "waybill.yaml"), {"WAYBILL_METRICS_PORT": "http"})

    assert [str(finding) for finding in findings] == [
        "$WAYBILL_METRICS_PORT:1:1: `port` must be a whole number, not http"
    ]


def test_local_means_the_running_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYBILL_HOME", str(tmp_path))
    read = settings.load(written(tmp_path, LEAST.replace('"kafka:9092"', "local") + "outboxes: {shop: {}}\n"))

    for address in (
        lambda: read.kafka.access,
        lambda: read.connect.rest,
        lambda: read.outboxes["shop"].database,
    ):
        with pytest.raises(Unreachable, match="waybill local up"):
            address()


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        ("kafka: {bootstrap-servers: ▸9092}", '`bootstrap-servers` must be text, not 9092; write it in quotes: "9092"'),
        ("kafka: {bootstrap-servers: ▸'a:1, b:2'}", "`bootstrap-servers` must be a host name or an address"),
        ("kafka: {bootstrap-servers: ▸'a:0'}", "`bootstrap-servers` must be host:port, or several with commas and no"),
        ("kafka: {bootstrap-servers: ▸'kafka://a:1'}", "`bootstrap-servers` must be host:port, or several"),
        ("kafka: {bootstrap-servers: ▸'[1::2::3]:1'}", "`bootstrap-servers` must be a host name or an address"),
        ("max-message-bytes: ▸2GiB", "`max-message-bytes` must be 1073741824 or less, not 2GiB"),
        ("▸kafka: {}", "`bootstrap-servers` is missing; write `bootstrap-servers: local`"),
        ("connect: {url:▸}", "`url` has no value; write one, or remove it"),
        ("kafka: {bootstrap-servers: k, sasl: {username: u, password: ▸0123}}", "YAML does not read this as text;"),
        ("kafka: ▸local", "`kafka` must be keys with values, not local"),
        ("▸lak: 1", "unknown key `lak`; did you mean `lake`?"),
        ("▸xyzzy: 1", "unknown key `xyzzy`; the keys here are `descriptors`, `consumers`, `max-message-bytes`"),
        ("▸path: x", "unknown key `path`"),
        ("▸patterns: [x]", "unknown key `patterns`"),
        ("metrics: {port: ▸0}", "`port` must be 1 or more, not 0"),
        ("metrics: {port: ▸65536}", "`port` must be 65535 or less, not 65536"),
        ("metrics: {host: ▸'http://x'}", "`host` must be a host name or an address, without scheme and port, not"),
        ("lake: {root: x, segment-bytes: ▸4 MB}", "`segment-bytes` must be a number of bytes, such as 4194304"),
        ("lake: {root: x, segment-age: ▸-1}", "`segment-age` must be more than 0, not -1"),
        ("lake: {root: ▸1}", "`root` must be a path, not 1"),
        ("lake: {root: ▸''}", '`root` must be a path, not ""'),
        ("lake: {root: ▸'s3://'}", "`root` must be a folder, or s3://bucket/folder with letters, digits, `-`, `_` and"),
        ("lake: {root: ▸'s3://Bucket'}", "`root` must be a folder, or s3://bucket/folder"),
        ("lake: {root: ▸'s3://bucket/../x'}", "`root` must be a folder, or s3://bucket/folder"),
        ("lake: {root: ▸'s3://bucket/a=b'}", "`root` must be a folder, or s3://bucket/folder"),
        ("lake: {root: ▸'gs://bucket'}", "`root` must be a folder, or s3://bucket/folder"),
        ("lake: {root: s3://bucket, s3: ▸{access-key-id: x}}", "`s3` has one of `access-key-id` and `secret"),
        ("lake: {root: s3://bucket, s3: {endpoint-url: ▸minio}}", "`endpoint-url` must be a URL such as https://objects."),
        ("lake: {root: s3://bucket, s3: {▸key: x}}", "unknown key `key`; the keys here are `endpoint-url`, `region`"),
        ("lake: {root: s3://bucket, scratch: ▸1}", "`scratch` must be a path, not 1"),
        ("consumers: ▸teams/*.yaml", "`consumers` must be a list, not teams/*.yaml"),
        ("consumers: [▸{}]", "`consumers` must be text, not keys with values"),
        ("max-message-bytes: ▸1MiB", "`max-message-bytes` must be 4194304 or more, not 1MiB"),
        ("max-message-bytes: ▸1.5", "`max-message-bytes` must be a whole number, not 1.5"),
        ("outboxes: {shop: {▸url: x}}", "unknown key `url`; the keys here are `database`, `password`"),
        ("kafka: {bootstrap-servers: k, tls: ▸{key-file: k}}", "`tls` has one of `certificate-file` and `key-file`;"),
        ("kafka: {bootstrap-servers: k, tls: {ca-file: ▸''}}", '`ca-file` must be a path, not ""'),
        ("kafka: {bootstrap-servers: k, ▸sasl: {username: u}}", "`password` is missing; write `password: ${env:"),
        ("connect: {url: ▸'connect:8083'}", "`url` must be `local`, or a URL such as http://connect:8083, not what is"),
        ("connect: {▸login: {username: u}}", "`password` is missing; write `password: ${env:NAME}`"),
    ],
)  # fmt: skip
def test_each_mistake_is_a_finding_at_its_place(marked: str, message: str) -> None:
    key = marked.split(":", maxsplit=1)[0].strip("▸")
    others = "".join(line + "\n" for line in LEAST.split("\n")[1:] if not line.startswith(f"{key}:"))

    _, findings = settings.inspect(document(f"{marked}\n{others}", "waybill.yaml"), {})

    assert [finding.message for finding in findings if not finding.message.startswith(message)] == []
    assert where(findings) == places(marked)


def test_all_mistakes_are_found_at_once() -> None:
    marked = "▸kafka: {▸▸bootstrap: x}\ndescriptors: d\nconsumers: []\nlake: {root: ▸no}\nmetrics: {port: ▸-1}"

    _, findings = settings.inspect(document(marked), {})

    assert where(findings) == sorted({*places(marked)})


@pytest.mark.parametrize("text", ["", "- a", "text", "]", "kafka: 1"])
def test_a_file_that_is_no_settings_at_all_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"waybill\.yaml:1:1: "):
        settings.load(written(tmp_path, text))


def test_without_a_file_one_is_told_how_to_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYBILL_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BadInput, match=r"cannot read config/waybill\.yaml: No such file or directory"):
        settings.load()


def test_the_reference_has_every_key() -> None:
    reference = yaml_source.read(ROOT / "config" / "waybill.yaml")

    assert set(reference.value) == settings.KEYS
    for key, shape in {"lake": settings.Lake, "metrics": settings.Metrics, "kafka": settings.Kafka}.items():
        optional = [field for field in shape.model_fields.values() if field.default is None]
        assert len(reference.value[key]) == len(shape.model_fields) - len(optional)
    assert settings.inspect(reference, {})[1] == ()
