"""A lake on S3 when things go wrong between it and the store."""

import io
import logging
import threading

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from object_store import KEY_ID, REGION, SECRET, Detour, ObjectStore, refusal
from test_lake_storage import opened

from connectors.problems import BadInput, Problem, Unreachable
from lake import storage
from lake.storage import s3 as s3_storage
from lake.storage.s3 import PART

LARGE = 3 * PART - 5


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    with ObjectStore(tmp_path_factory.mktemp("objects")) as running:
        yield running


@pytest.fixture
def store(objects):
    return opened(objects.lake())


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(s3_storage.S3Storage.__init__, "__defaults__", (None, 0.5))


@pytest.fixture
def through(objects):
    """Open a storage behind a detour."""
    detours = []

    def open_through(tamper, **settings):
        detours.append(Detour(objects, tamper))
        detours[-1].__enter__()
        return opened(objects.lake(s3=detours[-1].settings, **settings))

    yield open_through
    for detour in detours:
        detour.__exit__(None, None, None)


def large(folder, fill=b"x"):
    path = folder / f"large-{fill!r}"
    path.write_bytes(fill * LARGE)
    return path


def uploads(objects):
    return objects.client().list_multipart_uploads(Bucket=objects.bucket).get("Uploads", [])


def test_of_uploads_in_parts_to_one_name_exactly_one_wins_and_its_content_stays(objects, tmp_path):
    lake = objects.lake()
    wins, barrier = [], threading.Barrier(4)
    sources = {fill: large(tmp_path, fill) for fill in (b"a", b"b", b"c", b"d")}

    def race(fill):
        store = opened(lake)
        barrier.wait()
        wins.extend((i, fill) for i in range(2) if store.create(sources[fill], f"{i}"))

    threads = [threading.Thread(target=race, args=[fill]) for fill in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = opened(lake)
    assert sorted(i for i, _ in wins) == [0, 1]
    for i, fill in wins:
        assert storage.read_bytes(store, f"{i}") == sources[fill].read_bytes()
    assert uploads(objects) == []


@pytest.mark.usefixtures("impatient")
def test_an_upload_that_fails_leaves_no_object_and_no_half_one(objects, through, tmp_path):
    def failing(request, forward):
        return refusal(500, "InternalError") if "partNumber=3" in request.path else forward(request)

    store = through(failing)
    storage.probe(store)
    with pytest.raises(Unreachable, match=r"cannot write s3://.*/large.*InternalError"):
        store.create(large(tmp_path), "large")
    assert store.keys("") == [storage.objects.PROBE]
    assert uploads(objects) == []


def test_a_conflict_is_neither_won_nor_lost_and_tried_again(through):
    conflicts = []

    def conflicting(request, forward):
        if request.headers.get("If-None-Match") and len(conflicts) < 3:
            conflicts.append(request.path)
            return refusal(409, "ConditionalRequestConflict")
        return forward(request)

    store = through(conflicting)
    assert storage.create_bytes(store, "a", b"x")
    assert len(conflicts) == 3
    assert not storage.create_bytes(store, "a", b"y")
    assert storage.read_bytes(store, "a") == b"x"


@pytest.mark.parametrize("in_parts", [False, True])
def test_who_wins_and_does_not_hear_it_is_told_that_it_exists_and_finds_its_own_content(through, tmp_path, in_parts):
    lost = []

    def losing(request, forward):
        if lost and lost[0] in request.path:
            return refusal(404, "NoSuchUpload")
        answer = forward(request)
        if request.headers.get("If-None-Match") and "_lake" not in request.path and not lost:
            lost.append(request.path if in_parts else "nothing else")
            return None
        return answer

    store = through(losing)
    source = large(tmp_path) if in_parts else tmp_path / "small"
    source.touch()
    assert not store.create(source, "a")
    assert len(lost) == 1
    assert storage.read_bytes(store, "a") == source.read_bytes()


def test_a_store_without_the_condition_in_its_answer_is_understood(through):
    """Some name no `Condition` beside PreconditionFailed."""

    def terse(request, forward):
        answer = forward(request)
        return refusal(412, "PreconditionFailed") if answer.status == 412 else answer

    store = through(terse)
    assert storage.create_bytes(store, "a", b"x")
    assert not storage.create_bytes(store, "a", b"y")


def test_errors_that_pass_are_waited_out(through):
    answers = iter([refusal(503, "SlowDown"), refusal(500, "InternalError"), refusal(429, "TooManyRequests"), None])

    def moody(request, forward):
        try:
            return next(answers)
        except StopIteration:
            return forward(request)

    store = through(moody)
    assert storage.create_bytes(store, "a", b"x")
    assert store.keys("") == ["a"]


def test_a_body_that_breaks_off_is_asked_for_again(through):
    broken = []

    def breaking(request, forward):
        answer = forward(request)
        if request.method == "GET" and "/a" in request.path and not broken:
            broken.append(answer)
            answer.body = answer.body[:5]  # of the Content-Length that it announces
        return answer

    store = through(breaking)
    storage.create_bytes(store, "a", b"0123456789")
    assert storage.read_bytes(store, "a") == b"0123456789"
    assert broken


@pytest.mark.usefixtures("impatient")
def test_while_the_store_is_away_it_is_unreachable_and_when_it_is_back_all_goes_on(tmp_path):
    with ObjectStore(tmp_path) as objects:
        store = opened(objects.lake())
        storage.create_bytes(store, "a", b"x")
        file = store.open("a")
        storage.create_bytes(store, "b", bytes(1 << 20))
        begun = store.open("b")
        objects.stop()
        for use in (
            lambda: store.keys(""),
            lambda: store.open("a"),
            lambda: storage.create_bytes(store, "c", b""),
            lambda: storage.replace_bytes(store, "c", b""),
            lambda: store.delete("a"),
            lambda: begun.read(10),
            lambda: storage.probe(store),
        ):
            with pytest.raises(Unreachable, match=f"{objects.endpoint} does not answer as it should .*lake.s3 in the"):
                use()
        assert file.read() == b"x"  # came with the opening
        objects.start()
        assert storage.create_bytes(store, "c", b"x")
        assert store.keys("") == ["c"]


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (403, "AccessDenied", r"rights that docs/security\.md names"),
        (403, "SignatureDoesNotMatch", r"correct lake\.s3\.access-key-id"),
        (403, "RequestTimeTooSkewed", "set the clock"),
        (400, "AuthorizationHeaderMalformed", r"correct lake\.s3\.region"),
        (418, "Teapot", r"see lake\.root and lake\.s3"),
    ],
)
def test_what_waiting_cannot_mend_is_told_at_once_with_what_to_do(through, caplog, status, code, advice):
    asked = []

    def refusing(request, _forward):
        asked.append(request)
        return refusal(status, code)

    store = through(refusing)
    with caplog.at_level(logging.DEBUG), pytest.raises(BadInput, match=f"cannot list .*{code}.*{advice}") as caught:
        store.keys("")
    assert len(asked) <= 2  # botocore looks for the bucket's region
    assert SECRET not in str(caught.value) + caplog.text


def test_a_bucket_that_does_not_exist_is_told(objects):
    store = opened(objects.lake(root="s3://no-such-bucket/lake"))
    for use in (lambda: store.keys("hot"), lambda: store.open("a"), lambda: storage.probe(store)):
        with pytest.raises(BadInput, match=r"NoSuchBucket.*make the bucket, or correct lake\.root"):
            use()


def test_without_keys_those_of_the_environment_are_taken(objects, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    lake = objects.lake(s3={"endpoint-url": objects.endpoint, "region": REGION})
    with pytest.raises(BadInput, match=r"Unable to locate credentials; correct .* the credentials of this machine"):
        opened(lake).keys("")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert opened(lake).keys("") == []


def test_a_list_of_many_pages_is_whole(through):
    def paging(request, forward):
        if "list-type=2" in request.path:
            request.path += "&max-keys=2"
        return forward(request)

    store = through(paging)
    keys = [f"a/{i}" for i in range(5)]
    for key in keys:
        storage.create_bytes(store, key, b"x")
    assert store.keys("a") == keys


def test_what_a_console_makes_for_a_folder_is_no_key(objects, store):
    storage.create_bytes(store, "hot/1", b"x")
    objects.client().put_object(Bucket=objects.bucket, Key=f"{store.root.folder}/hot/", Body=b"")
    assert store.keys("hot") == ["hot/1"]


def parquet(rows, row_group_size=None):
    out = io.BytesIO()
    numbers = list(range(rows))
    columns = {"number": numbers, "text": [f"{number:x}" * 20 for number in numbers]}
    pq.write_table(pa.table(columns, metadata={"waybill.next": "7"}), out, row_group_size=row_group_size)
    return out.getvalue()


@pytest.fixture
def counted(through):
    """A storage, and the bytes of each object's answers so far."""
    answered = []

    def counting(request, forward):
        answer = forward(request)
        if request.method == "GET" and "list-type" not in request.path:
            answered.append(len(answer.body))
        return answer

    return through(counting), answered


def test_a_footer_costs_one_request_and_few_bytes(counted):
    store, answered = counted
    content = parquet(200_000)
    assert len(content) > 2_000_000
    storage.create_bytes(store, "a.parquet", content)
    assert storage.footer(store, "a.parquet") == {"waybill.next": "7"}
    assert answered == [64 << 10]


def test_duckdb_fetches_the_columns_it_needs_once_and_loads_no_extension_for_it(counted):
    store, answered = counted
    content = parquet(400_000, row_group_size=40_000)
    storage.create_bytes(store, "t/dt=2026-01-01/a.parquet", content)
    with duckdb.connect() as connection:
        store.attach(connection)
        query = f"SELECT sum(number), sum(length(text)) FROM read_parquet('{store.uri('t/*/*.parquet')}')"
        found = connection.execute(query).fetchone()
        loaded = connection.execute("SELECT extension_name FROM duckdb_extensions() WHERE loaded").fetchall()
    assert found == (sum(range(400_000)), sum(len(f"{number:x}") * 20 for number in range(400_000)))
    assert sum(answered) < 3 * len(content)
    assert ("httpfs",) not in loaded


def test_duckdb_writes_nothing_into_the_lake_and_reads_no_other_bucket(store):
    storage.create_bytes(store, "a.parquet", parquet(1))
    with duckdb.connect() as connection:
        store.attach(connection)
        with pytest.raises(duckdb.Error, match="cannot be written: DuckDB reads a lake"):
            connection.execute(f"COPY (SELECT 1) TO '{store.uri('b.parquet')}'")
        with pytest.raises(duckdb.Error, match="is not in the lake's bucket"):
            connection.execute("FROM read_parquet('s3://another/a.parquet')")
    assert store.keys("") == ["a.parquet"]


def test_what_is_replaced_while_it_is_read_is_told_and_not_mixed(store):
    storage.replace_bytes(store, "a", b"x" * (1 << 20))
    with store.open("a") as file:
        storage.replace_bytes(store, "a", b"y" * (1 << 20))
        with pytest.raises(Problem, match="was replaced while it was read"):
            file.read()


def without_condition(request, forward):
    request.headers.pop("If-None-Match", None)
    return forward(request)


def test_a_store_that_ignores_the_condition_is_refused_by_the_probe(through):
    with pytest.raises(BadInput, match="cannot hold a lake: it let `_lake/probe` be created twice"):
        storage.probe(through(without_condition))


def test_a_store_that_ignores_the_condition_for_parts_is_refused_by_the_first_of_them(objects, through, tmp_path):
    def careless(request, forward):
        return without_condition(request, forward) if "uploadId" in request.path else forward(request)

    store = through(careless)
    storage.probe(store)
    with pytest.raises(BadInput, match="cannot hold a lake: an upload in parts replaced `_lake/probe`"):
        store.create(large(tmp_path), "large")
    assert store.keys("") == ["_lake/probe"]
    assert uploads(objects) == []
